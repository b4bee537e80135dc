import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../actors/protocol/errors.ts';
import { FAULTS } from './faults/all.ts';
import { type Outcome, runChaos } from './harness.ts';
import { type ChaosOptions, HELP, readOptions } from './options.ts';
import { markdownOf, tableOf } from './record.ts';

/** `npm run chaos`. */
const PAGE = fileURLToPath(new URL('../../docs/RELIABILITY.md', import.meta.url));
/** What only the fence keeps from happening; a mesh without it may fail to come to rest for other reasons. */
const UNFENCED = new Set(['stale commits', 'counted twice', 'order violations']);
const BETWEEN = /(<!-- faults: written by test\/chaos\/run.ts -->\n)[\s\S]*?(<!-- end -->)/;

async function main(): Promise<number> {
  let options: ChaosOptions;
  try {
    const read = readOptions(process.argv.slice(2));
    if (read === 'help') return said(HELP);
    if (read === 'list') return said(FAULTS.map(({ target, name }) => `${target.padEnd(10)} ${name}\n`).join(''));
    options = read;
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    return 2;
  }
  const startedAt = performance.now();
  const print = (line: string): void => {
    process.stdout.write(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(5)} s  ${line}\n`);
  };
  // The first interrupt ends in order: nothing of the run is left on the machine.
  process.once('SIGINT', () => process.exit(130));
  const outcome = await runChaos(options, print);
  const report = reportOf(options, outcome);
  process.stdout.write(`\n${report}`);
  if (options.record) record(report);
  const broken = outcome.verdicts.filter((verdict) => verdict.violations > 0);
  for (const { name, violations, examples } of broken) {
    process.stdout.write(`\n${violations} ${name}:\n${examples.map((example) => `  ${example}\n`).join('')}`);
  }
  const failed = outcome.injected.filter((one) => one.failed !== null);
  const violations = broken.reduce((sum, verdict) => sum + verdict.violations, 0);
  const { undrawn, goalReached, ledger } = outcome;
  if (undrawn.length > 0) process.stdout.write(`\nNot drawn in this time: ${undrawn.join(', ')}\n`);
  if (failed.length > 0) process.stdout.write(`\n${failed.length} faults could not be done: ${failed[0].failed}\n`);
  if (!goalReached) process.stdout.write('\nThe time was over before the goal.\n');
  process.stdout.write(
    `\n${ledger.acknowledged} acknowledged, ${outcome.injected.length - failed.length} faults, ${violations} violations\n`,
  );
  if (options.withoutFence) {
    const found = broken.filter(({ name }) => UNFENCED.has(name));
    const text = found.map(({ name, violations: count }) => `${count} ${name}`).join(', ');
    process.stdout.write(`\nWithout the fence ${found.length > 0 ? `were found: ${text}` : 'nothing was found'}.\n`);
    return found.length > 0 ? 0 : 1;
  }
  return broken.length > 0 || failed.length > 0 || !goalReached ? 1 : 0;
}

function reportOf(options: ChaosOptions, outcome: Outcome): string {
  const { injected, verdicts, counters, ledger } = outcome;
  const ways = [...ledger.byWay].map(([way, count]) => `${count.toLocaleString('en')} over ${way}`).join(', ');
  const done = injected.filter((one) => one.failed === null).length;
  const lines = [
    `\`npm run chaos -- ${options.line}\`, seed ${options.seed}: ${outcome.minutes.toFixed(1)} minutes, ${done} faults, ${ledger.acknowledged.toLocaleString('en')} readings acknowledged (${ways}).`,
    '',
    `Beside the faults: ${ledger.sentTwice.toLocaleString('en')} readings were sent twice, ${ledger.outOfOrder.toLocaleString('en')} out of order, ${ledger.poisonSent} were poison, ` +
      `${ledger.takenBack.toLocaleString('en')} acknowledgements were taken back with what had been lost by design. ` +
      `${outcome.stored.toLocaleString('en')} readings are stored; ${outcome.events.toLocaleString('en')} events.`,
    '',
    `| checked | violations |\n| --- | ---: |\n${verdicts.map(({ name, violations }) => `| ${name} | ${violations} |\n`).join('')}`,
    `Refused by the fence: ${counters.twinmesh_commits_fenced_total} commits of a shard; outcome unknown: ${counters.twinmesh_commits_unknown_total}; ` +
      `recognised as duplicates: ${counters.twinmesh_readings_duplicate_total}. Counters of processes that were killed are as last seen.`,
    '',
    markdownOf(tableOf(injected)),
  ];
  return lines.join('\n');
}

function record(report: string): void {
  const page = readFileSync(PAGE, 'utf8');
  if (!BETWEEN.test(page)) throw new Error(`${PAGE} has no place for the table.`);
  writeFileSync(
    PAGE,
    page.replace(BETWEEN, (_, begin, end) => `${begin}\n${report}\n${end}`),
  );
}

function said(text: string): number {
  process.stdout.write(text);
  return 0;
}

process.exitCode = await main().catch((error) => {
  process.stderr.write(`${messageOf(error)}\n`);
  return 1;
});
process.exit();
