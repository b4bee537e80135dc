import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { COMPILED } from '../e2e/node-process.ts';
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
    const options = { maxBuffer: 1024 ** 3, env: { ...process.env, NODE_COMPILE_CACHE: COMPILED } };
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

  it('hold or break alike whenever a seed is run', { timeout: 180_000 }, async () => {
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

/** `name → [first seed of the 500 that finds it, checker]`, as docs/SIMULATION.md lists them. */
const LISTED = new Map(
  [
    ...readFileSync(new URL('../../docs/SIMULATION.md', import.meta.url), 'utf8').matchAll(
      /^\| `([\w-]+)` \|.*\| (\d+) \| ([\w-]+) \|$/gm,
    ),
  ].map(([, name, seed, checker]) => [name, { seed: Number(seed), checker }] as const),
);

describe('a planted bug', () => {
  it.each(PLANTS)(
    'is found by the seed that docs/SIMULATION.md lists: $name',
    { timeout: 180_000 },
    async ({ name }) => {
      const listed = LISTED.get(name);
      expect(listed, `${name} is not listed`).toBeDefined();
      expect(listed!.seed).toBeLessThanOrEqual(SEEDS);
      const { first, checker, told } = await simulate('--from', `${listed!.seed}`, '--seeds', '1', '--plant', name);
      expect({ seed: first, checker }, told).toEqual(listed);
      expect(told).toContain(`npm run simulate -- --from ${first} --seeds 1 --plant ${name}`);
    },
  );

  it('is listed once, and nothing else is', () => {
    expect([...LISTED.keys()]).toEqual(PLANTS.map(({ name }) => name));
  });
});
