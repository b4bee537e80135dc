import { appendFileSync, readdirSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Figure, Scenario } from './scenario.ts';

/** `npm run bench -- [scenario …] [--record]`: runs scenarios one after the other and prints a table. */
const HELP = `npm run bench -- [scenario …] [--record]

Runs the scenarios of bench/scenarios (all without a name) and prints each figure beside the ceiling that was measured in the
same run. --record appends the table to bench/RESULTS.md. --list names the scenarios.`;

const folder = fileURLToPath(new URL('./scenarios/', import.meta.url));
const known = readdirSync(folder)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -3))
  .sort();
const args = process.argv.slice(2);
const names = args.filter((arg) => !arg.startsWith('--'));
const unknown = names.filter((name) => !known.includes(name));

if (args.includes('--help')) console.log(HELP);
else if (args.includes('--list')) console.log(known.join('\n'));
else if (unknown.length > 0) {
  console.error(`No scenario ${unknown.join(', ')}. There are: ${known.join(', ')}.`);
  process.exitCode = 2;
} else await main(names.length > 0 ? names : known, args.includes('--record'));

async function main(chosen: readonly string[], record: boolean): Promise<void> {
  const lines = [
    '| scenario | figure | value | asked for | ceiling in the same run | ratio |',
    '| --- | --- | --- | --- | --- | --- |',
  ];
  for (const name of chosen) {
    const scenario = ((await import(new URL(`./scenarios/${name}.ts`, import.meta.url).href)) as { default: Scenario })
      .default;
    console.log(`\n${name}: ${scenario.title}`);
    const figures = await scenario
      .run((line) => console.log(`  ${line}`))
      .catch((error: Error) => {
        // the others are measured all the same
        console.error(`  failed: ${error.stack}`);
        lines.push(`| ${name} | failed: ${error.message} | | | | |`);
        process.exitCode = 1;
        return [];
      });
    for (const figure of figures) {
      lines.push(row(name, figure));
      console.log(`  ${figure.what}: ${amount(figure.value)} ${figure.unit}${verdict(figure)}`);
    }
  }
  const day = new Date().toISOString().slice(0, 10);
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}`;
  const table = `\n### ${day} · \`npm run bench -- ${chosen.join(' ')}\`\n\n${machine}\n\n${lines.join('\n')}\n`;
  console.log(table);
  if (record) appendFileSync(fileURLToPath(new URL('./RESULTS.md', import.meta.url)), table);
  process.exit(process.exitCode ?? 0);
}

function row(name: string, f: Figure): string {
  const asked =
    f.atLeast !== undefined ? `≥ ${amount(f.atLeast)}` : f.atMost !== undefined ? `≤ ${amount(f.atMost)}` : '';
  const ceiling = f.ceiling ? `${amount(f.ceiling.value)} (${f.ceiling.what})` : '';
  const ratio = f.ceiling ? (f.value / f.ceiling.value).toFixed(2) : '';
  return `| ${name} | ${f.what} | ${amount(f.value)} ${f.unit}${verdict(f)}${f.note ? ` — ${f.note}` : ''} | ${asked} | ${ceiling} | ${ratio} |`;
}

function verdict(f: Figure): string {
  if (f.atLeast !== undefined && f.value < f.atLeast) return ' (missed)';
  if (f.atMost !== undefined && f.value > f.atMost) return ' (missed)';
  return '';
}

function amount(x: number): string {
  if (Math.abs(x) >= 1000) return Math.round(x).toLocaleString('en-US');
  return String(Number(x.toPrecision(3)));
}
