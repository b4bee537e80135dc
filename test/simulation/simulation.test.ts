import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { PLANTS } from './plants.ts';

/**
 * The promises, over 500 seeds and three rounds of faults each; and the bugs that have to be found in them. Each run is a
 * process of its own, as planted bugs change what is loaded; `npm run simulate` runs the same, and more of it.
 */
const SEEDS = 500;
const SIMULATE = fileURLToPath(new URL('./simulate.ts', import.meta.url));

interface Report {
  first: number | null;
  checker?: string;
  message?: string;
  hashes: string[];
  told: string;
}

function simulate(...args: string[]): Promise<Report> {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: 1024 ** 3 };
    execFile(process.execPath, [SIMULATE, '--quiet', '--json', ...args], options, (error, stdout, stderr) => {
      const line = stdout.trim().split('\n').at(-1);
      if (!line) reject(error ?? new Error(`nothing was reported: ${stderr}`));
      else resolve({ ...JSON.parse(line), told: stderr });
    });
  });
}

describe('the promises', () => {
  it(`hold over ${SEEDS} seeds`, { timeout: 300_000 }, async () => {
    const half = SEEDS / 2;
    const reports = await Promise.all([
      simulate('--seeds', `${half}`),
      simulate('--from', `${half + 1}`, '--seeds', `${half}`),
    ]);
    for (const { first, told } of reports) expect(first, told).toBeNull();
  });

  it('hold or break alike whenever a seed is run', { timeout: 60_000 }, async () => {
    const [once, again, alone] = await Promise.all([
      simulate('--seeds', '6'),
      simulate('--seeds', '6'),
      simulate('--from', '6', '--seeds', '1'),
    ]);
    expect(new Set(once.hashes).size).toBe(6);
    expect(again.hashes).toEqual(once.hashes);
    expect(alone.hashes).toEqual(once.hashes.slice(5));
  });
});

describe('a planted bug', () => {
  it.concurrent.each(PLANTS)('is found: $name', { timeout: 300_000 }, async ({ name }) => {
    const { first, checker, told } = await simulate('--seeds', `${SEEDS}`, '--plant', name);
    expect(first, `${name} was not found in ${SEEDS} seeds`).not.toBeNull();
    expect(['process', 'simulation'], told).not.toContain(checker);
    expect(told).toContain(`npm run simulate -- --from ${first} --seeds 1 --plant ${name}`);
  });

  it('is listed with the seed that finds it', () => {
    const page = readFileSync(new URL('../../docs/SIMULATION.md', import.meta.url), 'utf8');
    const listed = [...page.matchAll(/^\| `([\w-]+)` \|.*\| (\d+) \| ([\w-]+) \|$/gm)];
    expect(listed.map(([, name]) => name)).toEqual(PLANTS.map(({ name }) => name));
    for (const [, name, seed] of listed) expect(Number(seed), name).toBeLessThanOrEqual(SEEDS);
  });
});
