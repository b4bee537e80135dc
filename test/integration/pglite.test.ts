import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Pglite, type PgliteOptions } from '../../actors/store/pglite.ts';
import { Upkeep } from '../../actors/store/pglite-upkeep.ts';
import { OutcomeUnknown } from '../../actors/store/port.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { SqlError } from '../../actors/store/sql.ts';
import { KINDS, key, SHARDS, snapshot, summary, Writer } from '../conformance/store-sample.ts';
import { inherited } from '../servers/short-lived.ts';

/** The embedded database as a process of the system sees it: kills, locks, folders. */
const NODE = path.resolve('node_modules/.bin/node');
const MB = 1024 * 1024;
const WRITER = path.resolve('test/fixtures/pglite-writer.ts');

/** An empty database, made once: making one takes seconds, copying it does not. */
let template: string;
let dir: string;
const children: ChildProcessWithoutNullStreams[] = [];

beforeAll(async () => {
  template = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-pglite-'));
  // What a start that was killed half way leaves behind.
  fs.mkdirSync(path.join(template, 'pg.new', 'base'), { recursive: true });
  fs.writeFileSync(path.join(template, 'pg.new', 'PG_VERSION'), '18\n');
  const sql = await Pglite.open({ dataDir: template });
  await sql.close();
});

afterAll(() => {
  fs.rmSync(template, { recursive: true, force: true });
});

/** Opens a copy of the template in the folder of the test. */
async function open(options: PgliteOptions = {}): Promise<Pglite> {
  prepare();
  return await Pglite.open({ dataDir: dir, ...options });
}

function prepare(): void {
  if (!fs.existsSync(path.join(dir, 'pg'))) {
    fs.cpSync(path.join(template, 'pg'), path.join(dir, 'pg'), { recursive: true });
  }
}

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-pglite-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
  fs.rmSync(dir, { recursive: true, force: true });
});

function startWriter(): ChildProcessWithoutNullStreams {
  // execPath, where the tests run on the pinned Node already: a wrapper would survive the kill.
  const node = process.versions.node.startsWith('24.') ? process.execPath : NODE;
  prepare();
  const child = spawn(node, [...inherited(), WRITER, dir], { stdio: 'pipe' });
  children.push(child);
  return child;
}

async function kill(child: ChildProcessWithoutNullStreams): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

/** Reads lines until there are `count` of them, then kills; answers the last complete line. */
async function killAfter(child: ChildProcessWithoutNullStreams, count: number): Promise<string> {
  let errors = '';
  child.stderr.on('data', (data) => {
    errors += data;
  });
  let last = '';
  let seen = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    last = line;
    if (++seen === count) child.kill('SIGKILL');
  }
  // Its output ends before it does.
  await kill(child);
  if (seen < count) throw new Error(`The writer ended after ${seen} lines: ${errors}`);
  return last;
}

describe('PGlite on disk', () => {
  it('loses nothing that was answered before kill -9, several times in a row', async () => {
    for (const commits of [3, 40]) {
      const [commitNo, revision] = (await killAfter(startWriter(), commits)).split(' ').map(Number);
      const sql = await open();
      const store = new PostgresStore(sql);
      await store.open(KINDS, SHARDS);
      const [row] = await store.shards();
      expect(row.commitNo).toBeGreaterThanOrEqual(commitNo);
      const journal = await store.journal({ twin: key(0), twinId: 'meter:T-0-1' }, 0, 1_000_000);
      expect(journal.length).toBeGreaterThanOrEqual(revision);
      // Whole cuts of 50, without a hole, with their values.
      expect(journal.length).toBe(row.commitNo * 50);
      expect(
        journal.every(
          (of, i) => of.revision === i + 1 && of.type === 'reading' && of.reading.values.level === 1 / (i + 1),
        ),
      ).toBe(true);
      await sql.close();
    }
  });

  it('is closed to a second process, and open to the next after a kill', async () => {
    const child = startWriter();
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const error = await Pglite.open({ dataDir: dir }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'data_dir' });
    expect((error as Error).message).toContain(`process ${child.pid}`);
    expect((error as Error).message).toContain(dir);
    await kill(child);
    // Its lock is still there, and stale.
    expect(fs.existsSync(path.join(dir, 'lock'))).toBe(true);
    const sql = await open();
    await expect(Pglite.open({ dataDir: dir })).rejects.toMatchObject({ code: 'data_dir' });
    await sql.close();
    expect(fs.existsSync(path.join(dir, 'lock'))).toBe(false);
  });

  it('takes over a lock whose pid now belongs to another process, and fsyncs in earnest', async () => {
    fs.writeFileSync(path.join(dir, 'lock'), `${process.ppid} 1@long-ago\n`);
    const sql = await open();
    expect(fs.readFileSync(path.join(dir, 'lock'), 'utf8')).toMatch(new RegExp(`^${process.pid} `));
    const rows = await sql.query<{ name: string; setting: string }>(
      `select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'wal_sync_method', 'full_page_writes')`,
    );
    expect(Object.fromEntries(rows.map((row) => [row.name, row.setting]))).toEqual({
      fsync: 'on',
      synchronous_commit: 'on',
      wal_sync_method: 'fsync',
      full_page_writes: 'on',
    });
    await sql.close();
  });

  it('makes a new database whole or not at all', async () => {
    // Made from a folder with half a database in it, see above.
    expect(fs.existsSync(path.join(template, 'pg.new'))).toBe(false);
    expect(fs.existsSync(path.join(template, 'pg', 'PG_VERSION'))).toBe(true);
  });

  it('says clearly what is wrong with the folder', async () => {
    const file = path.join(dir, 'file');
    fs.writeFileSync(file, '');
    for (const bad of [file, path.join(file, 'below')]) {
      const error = await Pglite.open({ dataDir: bad }).catch((e: unknown) => e);
      expect(error).toMatchObject({ code: 'data_dir' });
      expect((error as Error).message).toContain(bad);
    }
    const broken = path.join(dir, 'broken');
    fs.mkdirSync(path.join(broken, 'pg'), { recursive: true });
    fs.writeFileSync(path.join(broken, 'pg', 'PG_VERSION'), '18\n');
    await expect(Pglite.open({ dataDir: broken })).rejects.toMatchObject({ code: 'data_dir' });
    // A failed start does not keep the folder locked.
    expect(fs.existsSync(path.join(broken, 'lock'))).toBe(false);
  });

  it('comes back by itself after its server went down, and does not say what became of what was in flight', async () => {
    const sql = await open();
    const store = new PostgresStore(sql);
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    await writer.commit([0], { summaries: [summary(key(0), 1)] });
    // The write-ahead log cannot be written any more: PANIC.
    const wal = path.join(dir, 'pg', 'pg_wal');
    fs.renameSync(wal, `${wal}.away`);
    const large = Array.from({ length: 3000 }, (_, i) =>
      snapshot(key(0, i + 2), 1, { state: new Uint8Array(8000).fill(i) }),
    );
    const error = await writer.commit([0], { snapshots: large }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(OutcomeUnknown);
    await expect(store.ping()).rejects.toMatchObject({ code: 'store_down' });
    fs.rmSync(wal, { recursive: true, force: true });
    fs.renameSync(`${wal}.away`, wal);
    // the thread that went down may still be ending: who asks again is served by the next one
    await vi.waitFor(() => store.ping(), { timeout: 20_000 });
    expect((await store.shards())[0].commitNo).toBe(1);
    await writer.claim(0);
    expect(await writer.commit([0])).toEqual(new Set([0]));
    await sql.close();
  });

  it('lets a checkpoint overtake what waits', async () => {
    const sql = await open();
    const order: string[] = [];
    const ordinary = [...Array(20).keys()].map((n) =>
      sql.query('select pg_sleep(0.01)').then(() => order.push(`ordinary ${n}`)),
    );
    const urgent = sql.query('select 1', [], { priority: true }).then(() => order.push('urgent'));
    await Promise.all([...ordinary, urgent]);
    // At most one statement was already running.
    expect(order.indexOf('urgent')).toBeLessThanOrEqual(1);
    await sql.close();
  });

  it('bounds what a start after a crash has to replay', async () => {
    const sql = await open({ durable: false, checkpointBytes: 16 * MB });
    const store = new PostgresStore(sql);
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    const state = new Uint8Array(8000).map((_, at) => (at * at) % 251);
    for (let round = 1; round <= 40; round++) {
      const snapshots = Array.from({ length: 250 }, (_, i) => snapshot(key(0, i + 1), round, { state }));
      await writer.commit([0], { snapshots });
    }
    const [{ written, replay }] = await sql.query<{ written: number; replay: number }>(
      `select (pg_current_wal_lsn() - '0/0')::float8 as written,
         (pg_current_wal_lsn() - redo_lsn)::float8 as replay from pg_control_checkpoint()`,
    );
    expect(written).toBeGreaterThan(80 * MB);
    expect(replay).toBeLessThan(48 * MB);
    await sql.close();
  });

  it('clears away what is dead', async () => {
    const sql = await open();
    await sql.exec(
      'create table t (n int primary key, v int); insert into t select n, 0 from generate_series(1, 5000) n;',
    );
    const dead = async () => {
      await sql.query('select pg_stat_force_next_flush()');
      const [row] = await sql.query<{ dead: number; analyzed: boolean }>(
        `select n_dead_tup as dead, last_analyze is not null as analyzed from pg_stat_user_tables where relname = 't'`,
      );
      return row;
    };
    await sql.exec('select pg_stat_force_next_flush(); update t set v = 1;');
    expect(await dead()).toEqual({ dead: 5000, analyzed: false });
    const upkeep = new Upkeep({ query: (text) => sql.query(text), nowMs: () => 0 });
    expect(upkeep.pending).toBe(false);
    await upkeep.afterStatement(1);
    expect(upkeep.pending).toBe(true);
    await upkeep.whenIdle();
    expect(upkeep.pending).toBe(false);
    expect(await dead()).toEqual({ dead: 0, analyzed: true });
    await sql.close();
  });

  it('answers what was asked before close, and refuses what comes after', async () => {
    const sql = await open();
    const asked = sql.query('select 1 as one');
    const closing = sql.close();
    const late = sql.query('select 1').catch((e: unknown) => e);
    expect(await asked).toEqual([{ one: 1 }]);
    expect(await late).toBeInstanceOf(SqlError);
    await closing;
    await sql.close();
  });
});

/** A small file system of its own, which takes the right to mount. */
function mounted(sizeMb: number): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMb}m`, 'tmpfs', dir]).status === 0;
}

describe('PGlite on a file system that fails it', () => {
  afterEach(() => {
    spawnSync('umount', ['-l', dir]);
  });

  it('says that it is full, loses nothing, and goes on when there is space again', async ({ skip }) => {
    if (!mounted(200)) skip('mount is not permitted here');
    const sql = await open();
    const store = new PostgresStore(sql);
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    await writer.commit([0], { summaries: [summary(key(0), 1)] });
    const { bavail, bsize } = fs.statfsSync(dir);
    const ballast = path.join(dir, 'ballast');
    fs.writeFileSync(ballast, Buffer.alloc(bavail * bsize - 4 * MB));
    let failed: unknown;
    let committed = 1;
    for (let revision = 2; failed === undefined && revision < 60; revision++) {
      const large = Array.from({ length: 100 }, (_, i) =>
        snapshot(key(0, i + 1), revision, { state: new Uint8Array(8000).map((_, at) => at * i) }),
      );
      failed = await writer
        .commit([0], { snapshots: large })
        .then(() => {
          committed++;
        })
        .catch((error: unknown) => error);
    }
    expect((failed as Error).message).toMatch(/no space left/i);
    await Pglite.open({ dataDir: path.join(dir, 'second') }).catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'data_dir', message: expect.stringMatching(/no space left/) });
    });
    fs.rmSync(ballast);
    await store.ping();
    expect((await store.shards())[0].commitNo).toBe(committed);
    await writer.claim(0);
    expect(await writer.commit([0], { summaries: [summary(key(0), 99)] })).toEqual(new Set([0]));
    await sql.close();
  });

  it('says that it is read-only', async ({ skip }) => {
    if (!mounted(10)) skip('mount is not permitted here');
    spawnSync('mount', ['-o', 'remount,ro', dir]);
    await expect(Pglite.open({ dataDir: dir })).rejects.toMatchObject({
      code: 'data_dir',
      message: expect.stringContaining('read-only'),
    });
  });
});
