import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { PLANTS, type Plant } from './plants.ts';

/** Writes the table of planted bugs into docs/SIMULATION.md: which seed finds each first, and who says so. */
const SEEDS = 500;
const PAGE = fileURLToPath(new URL('../../docs/SIMULATION.md', import.meta.url));
const SIMULATE = fileURLToPath(new URL('./simulate.ts', import.meta.url));
const BETWEEN = /(<!-- planted bugs: written by test\/simulation\/table.ts -->\n)[\s\S]*?(<!-- end -->)/;

interface Found {
  first: number | null;
  checker: string;
}

function find({ name }: Plant): Promise<Found> {
  const args = [SIMULATE, '--quiet', '--json', '--seeds', `${SEEDS}`, '--plant', name];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { maxBuffer: 1024 ** 3 }, (error, stdout) => {
      const line = stdout.trim().split('\n').at(-1);
      if (line) resolve(JSON.parse(line));
      else reject(error);
    });
  });
}

const found = new Map<Plant, Found>();
const waiting = [...PLANTS];
await Promise.all(
  Array.from({ length: availableParallelism() }, async () => {
    for (let plant = waiting.shift(); plant !== undefined; plant = waiting.shift()) found.set(plant, await find(plant));
  }),
);
const rows = PLANTS.map((plant) => {
  const { first, checker } = found.get(plant)!;
  if (first === null) throw new Error(`${plant.name} was not found in ${SEEDS} seeds.`);
  return `| \`${plant.name}\` | ${plant.bug} | ${first} | ${checker} |\n`;
});
const page = await readFile(PAGE, 'utf8');
if (!BETWEEN.test(page)) throw new Error(`${PAGE} has no place for the table.`);
const table = `\n| bug | what is wrong then | first seed | found by |\n| --- | --- | --- | --- |\n${rows.join('')}\n`;
await writeFile(
  PAGE,
  page.replace(BETWEEN, (_, begin, end) => `${begin}${table}${end}`),
);
process.stdout.write(table);
