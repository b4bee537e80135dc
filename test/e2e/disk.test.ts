import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ERRORS } from '../../actors/protocol/errors.ts';
import { emptyDatabase } from '../servers/embedded.ts';
import { ask, dataOf, itemsOf, untilReady } from './api.ts';
import { eventually, NodeProcess, type Whereabouts, whereabouts } from './node-process.ts';

/**
 * A data folder that cannot be written, and a disk that is full: a clear error with code and remedy, nothing
 * acknowledged that is not stored, and no harm done: with room again it starts and goes on.
 */
const MOUNTED_MB = 320;

let folder = '';
let nodes: NodeProcess[] = [];
let mounted: string[] = [];

/** Whether a small file system of its own can be had here; only root may mount, and not in every container. */
function mountReason(): string | null {
  const probe = mkdtempSync(join(tmpdir(), 'twinmesh-mount-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', probe], { stdio: 'pipe' });
    execFileSync('umount', [probe]);
    return null;
  } catch (error) {
    return String((error as { stderr?: Buffer }).stderr ?? error).trim();
  } finally {
    rmSync(probe, { recursive: true, force: true });
  }
}

const noMount = mountReason();
const skips = noMount !== null && process.env.REQUIRE_SERVERS !== '1';
if (skips) console.log(`skipped: no file system can be mounted here (${noMount})`);

function mount(name: string, options: string): string {
  const dir = join(folder, name);
  mkdirSync(dir);
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir]);
  mounted.push(dir);
  return dir;
}

function start(dataDir: string): NodeProcess {
  const node = NodeProcess.start(folder, {
    DATA_DIR: dataDir,
    DEMO: 'off',
    SHARDS: '8',
    RATE_LIMIT_PER_MINUTE: '1000000',
  });
  nodes.push(node);
  return node;
}

const freeBytes = (dir: string) => {
  const { bavail, bsize } = statfsSync(dir);
  return bavail * bsize;
};

/** Takes all the room there is, but for `leave` bytes. */
function fill(dir: string, leave: number): string {
  const ballast = join(dir, 'ballast');
  execFileSync('fallocate', ['-l', String(freeBytes(dir) - leave), ballast]);
  return ballast;
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-disk-'));
  nodes = [];
  mounted = [];
});

afterEach(async () => {
  for (const node of nodes) {
    node.signal('SIGKILL');
    await node.ended();
  }
  for (const dir of mounted) execFileSync('umount', ['-l', dir]);
  rmSync(folder, { recursive: true, force: true });
});

/** Ends with exit code 2, the code, the folder and the remedy, and no stack. */
async function refusesToStart(dataDir: string, why: string): Promise<void> {
  const node = start(dataDir);
  expect(await node.ended(), node.output).toBe(2);
  expect(node.output).toContain('data_dir');
  expect(node.output).toContain(dataDir);
  expect(node.output).toContain(why);
  expect(node.output).toContain(ERRORS.data_dir.remedy);
  expect(node.output).not.toMatch(/\n\s+at /);
}

const readings = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({
    twinId: `machine:D${(from + i) % 5}`,
    at: new Date(Date.UTC(2026, 0, 1) + (from + i) * 1000).toISOString(),
    values: { temperature: 50 + ((from + i) % 20) / 2 },
    attributes: { note: 'x'.repeat(200) },
  }));

async function timesOf(at: Whereabouts): Promise<Set<string>> {
  const found = new Set<string>();
  for (let i = 0; i < 5; i++) {
    const path = `/api/v1/twins/machine:D${i}`;
    if ((await ask(at.http, 'GET', path, { key: at.key })).status === 404) continue;
    for (const item of await itemsOf(at, `${path}/history`)) {
      expect(found.has(item.at)).toBe(false);
      found.add(item.at);
    }
  }
  return found;
}

describe('a data folder that cannot be used', () => {
  it('is refused where it is a file', async () => {
    writeFileSync(join(folder, 'data'), 'not a folder');
    await refusesToStart(join(folder, 'data'), 'is a file');
  });

  it.skipIf(skips)(
    'is refused where the file system is read-only, new and used, and is as before afterwards',
    async () => {
      const dir = mount('readonly', `size=${MOUNTED_MB}m`);
      await emptyDatabase(dir);
      const first = start(dir);
      const at = await whereabouts(first);
      await untilReady(at.http);
      expect((await dataOf(at, '/api/v1/telemetry', 'POST', readings(0, 50))).accepted).toBe(50);
      first.signal('SIGTERM');
      expect(await first.ended()).toBe(0);

      execFileSync('mount', ['-o', 'remount,ro', dir]);
      await refusesToStart(dir, 'the file system is read-only');
      await refusesToStart(join(dir, 'new'), 'the file system is read-only');

      execFileSync('mount', ['-o', 'remount,rw', dir]);
      const again = { ...(await whereabouts(start(dir))), key: at.key };
      await untilReady(again.http);
      expect((await timesOf(again)).size).toBe(50);
    },
  );

  it.skipIf(skips)('is refused where a new database does not fit', async () => {
    const dir = mount('small', 'size=40m');
    await refusesToStart(dir, 'there is no space left');
  });
});

describe('a disk that runs full', () => {
  let node: NodeProcess;
  let at: Whereabouts;
  let dir = '';
  let next = 0;
  let acknowledged = new Set<string>();

  /** Sends so many new readings; answers the status, or 0 where no answer came in time. */
  async function send(count: number): Promise<number> {
    const batch = readings(next, count);
    next += count;
    const signal = AbortSignal.timeout(5000);
    const answer = await ask(at.http, 'POST', '/api/v1/telemetry', { key: at.key, body: batch, signal }).catch(
      () => null,
    );
    if (answer?.status === 200) {
      expect(answer.json.data.rejected).toEqual([]);
      for (const reading of batch) acknowledged.add(reading.at);
    } else if (answer !== null) {
      expect(answer.status, answer.text).toBeGreaterThanOrEqual(503);
      expect(answer.json).toMatchObject({ status: 'error', retryable: true, remedy: expect.any(String) });
    }
    return answer?.status ?? 0;
  }

  /** Everything is sent again, and is there once; nothing has been put aside as if it were at fault. */
  async function isWhole(where: Whereabouts): Promise<void> {
    for (let from = 0; from < next; from += 500) {
      const { accepted, duplicates } = await dataOf(where, '/api/v1/telemetry', 'POST', readings(from, 500));
      expect(accepted + duplicates).toBe(500);
    }
    expect((await timesOf(where)).size).toBe(next);
    expect(await itemsOf(where, '/api/v1/dead-letters')).toEqual([]);
  }

  async function fillUp(): Promise<string> {
    next = 0;
    acknowledged = new Set();
    dir = mount('full', `size=${MOUNTED_MB}m`);
    await emptyDatabase(dir);
    node = start(dir);
    at = await whereabouts(node);
    await untilReady(at.http);
    expect(await send(500)).toBe(200);
    const ballast = fill(dir, 2_097_152);
    await eventually(
      () => send(500),
      (status) => status !== 200,
      0,
    );
    console.log(`full after ${acknowledged.size} acknowledged readings`);
    return ballast;
  }

  it.skipIf(skips)(
    'is told, and costs nothing: the same process goes on when there is room',
    { timeout: 180_000 },
    async () => {
      const ballast = await fillUp();
      const ready = await eventually(
        () => ask(at.http, 'GET', '/health/ready'),
        ({ status }) => status === 503,
      );
      expect(ready.json).toMatchObject({ ready: false, checks: { host: { ok: false, reason: 'store down' } } });
      const told = node.output.split('\n').filter((line) => line.includes('"level":"error"'));
      expect(told.length).toBeGreaterThan(0);
      expect(told.length).toBeLessThan(5);
      expect(JSON.parse(told[0])).toMatchObject({
        code: 'store_down',
        error: expect.stringContaining('The database has no space left'),
        remedy: expect.any(String),
      });
      // Long enough for it to try again and again.
      expect(await Promise.all([send(500), send(500), send(500)])).not.toContain(200);
      rmSync(ballast);
      await untilReady(at.http);
      expect(await send(500)).toBe(200);
      const stored = await timesOf(at);
      expect([...acknowledged].filter((time) => !stored.has(time))).toEqual([]);
      await isWhole(at);
    },
  );

  it.skipIf(skips)(
    'does no harm to what is stored when the process is killed in it',
    { timeout: 180_000 },
    async () => {
      const ballast = await fillUp();
      node.signal('SIGKILL');
      await node.ended();
      // On the full disk it may refuse to start, with the reason, or serve what it has.
      const cramped = start(dir);
      const outcome = await Promise.race([
        cramped.ended(),
        cramped.until(/npm run -s device/).then(
          () => 'up' as const,
          () => cramped.ended(),
        ),
      ]);
      console.log(`started on the full disk: ${outcome}`);
      if (outcome !== 'up') {
        expect(outcome, cramped.output).toBe(2);
        expect(cramped.output).toMatch(/no space left/i);
        expect(cramped.output).not.toMatch(/\n\s+at /);
      }
      cramped.signal('SIGKILL');
      await cramped.ended();

      rmSync(ballast);
      const again = { ...(await whereabouts(start(dir))), key: at.key };
      await untilReady(again.http);
      const stored = await timesOf(again);
      expect([...acknowledged].filter((time) => !stored.has(time))).toEqual([]);
      await isWhole(again);
    },
  );
});
