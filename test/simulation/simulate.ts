import { parseArgs } from 'node:util';
import type { Outcome } from './run.ts';

const HELP = `Runs the cluster in one process, against bad luck that a seed draws, and checks every promise.

  npm run simulate -- --seeds 50000            the night
  npm run simulate -- --from 4711 --seeds 1    one seed again, as it was
  npm run simulate -- --from 4711 --seeds 1 --verbose

  --seeds N      how many (default 500)        --from N      the first seed (default 1)
  --hosts N      hosts (drawn by the seed)     --faults A,B  only these faults, all in every round
  --plant NAME   plants a bug first (--plants lists them)
  --verbose      prints everything that happens
  --json         prints one line of JSON at the end: { first, checker, message, hashes }
  --quiet        no progress line
`;

/** Exit code 0: no promise was broken. 1: one was. 2: wrong arguments. */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '500' },
      from: { type: 'string', default: '1' },
      hosts: { type: 'string' },
      faults: { type: 'string' },
      plant: { type: 'string' },
      plants: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.plants) {
    const { PLANTS } = await import('./plants.ts');
    for (const { name, bug } of PLANTS) process.stdout.write(`${name.padEnd(32)} ${bug}\n`);
    return 0;
  }
  const hosts = values.hosts === undefined ? undefined : Number(values.hosts);
  const [seeds, from] = [values.seeds, values.from].map(Number);
  if (![seeds, from, hosts ?? 1].every((n) => Number.isInteger(n) && n > 0)) {
    process.stderr.write('--seeds, --from and --hosts are whole numbers above 0.\n');
    return 2;
  }
  if (values.plant) (await import('./plant.ts')).plant(values.plant);
  // only now: a planted bug changes what is imported
  const { run } = await import('./run.ts');
  const only = values.faults?.split(',').map((name) => name.trim());
  const print = values.verbose ? (line: string) => process.stdout.write(`${line}\n`) : undefined;
  const totals = { seeds: 0, steps: 0, readings: 0, simulatedMs: 0 };
  const hashes: string[] = [];
  const startedAt = performance.now();
  for (let seed = from; seed < from + seeds; seed++) {
    const outcome = await run(seed, { hosts, print, only });
    totals.seeds++;
    totals.steps += outcome.steps;
    totals.readings += outcome.readings;
    totals.simulatedMs += outcome.timeMs;
    hashes.push(outcome.hash);
    if (outcome.broken) {
      tell(outcome, values);
      if (values.json) process.stdout.write(`${JSON.stringify({ first: seed, ...outcome.broken, hashes })}\n`);
      return 1;
    }
    if (!values.quiet && totals.seeds % 50 === 0) progress(totals.seeds, seeds, startedAt);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  if (!values.quiet) {
    process.stderr.write(
      `\r${totals.seeds} seeds, ${totals.steps} steps, ${totals.readings} rows, ${Math.round(totals.simulatedMs / 60_000)} min of simulated time in ${seconds.toFixed(1)} s: no promise was broken\n`,
    );
  }
  if (values.json) process.stdout.write(`${JSON.stringify({ first: null, hashes })}\n`);
  return 0;
}

/** What broke, and the one command that shows it again. */
function tell(
  { seed, broken, faults, hash }: Outcome,
  values: { hosts?: string; faults?: string; plant?: string },
): void {
  const again = ['npm run simulate --', `--from ${seed} --seeds 1`];
  if (values.hosts) again.push(`--hosts ${values.hosts}`);
  if (values.faults) again.push(`--faults "${values.faults}"`);
  if (values.plant) again.push(`--plant ${values.plant}`);
  process.stderr.write(
    `\nseed ${seed} broke ${broken!.checker} at ${broken!.time.toFixed(1)} ms (trace ${hash}; faults: ${faults.join(', ')})\n` +
      `  ${broken!.message}\nreplay it: ${again.join(' ')} --verbose\n`,
  );
}

function progress(done: number, of: number, startedAt: number): void {
  const seconds = (performance.now() - startedAt) / 1000;
  process.stderr.write(`\r${done}/${of} seeds, ${(done / seconds).toFixed(1)} a second`);
}

process.exitCode = await main();
