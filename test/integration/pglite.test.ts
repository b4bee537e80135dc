import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Pglite } from '../../actors/store/pglite.ts';
import { OutcomeUnknown } from '../../actors/store/port.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { SqlError } from '../../actors/store/sql.ts';
import { KINDS, key, SHARDS, snapshot, summary, Writer } from '../conformance/store-sample.ts';

/** The embedded database as a process of the system sees it: kills, locks, folders. */
const NODE = path.resolve('node_modules/.bin/node');
const WRITER = path.resolve('test/fixtures/pglite-writer.ts');

let dir: string;
const children: ChildProcessWithoutNullStreams[] = [];

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
  const child = spawn(node, [WRITER, dir], { stdio: 'pipe' });
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
    for (const commits of [3, 40, 15]) {
      const [commitNo, revision] = (await killAfter(startWriter(), commits)).split(' ').map(Number);
      const sql = await Pglite.open({ dataDir: dir });
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
    const sql = await Pglite.open({ dataDir: dir });
    await expect(Pglite.open({ dataDir: dir })).rejects.toMatchObject({ code: 'data_dir' });
    await sql.close();
    expect(fs.existsSync(path.join(dir, 'lock'))).toBe(false);
  });

  it('takes over a lock whose pid now belongs to another process', async () => {
    fs.writeFileSync(path.join(dir, 'lock'), `${process.ppid} 1@long-ago\n`);
    const sql = await Pglite.open({ dataDir: dir });
    expect(fs.readFileSync(path.join(dir, 'lock'), 'utf8')).toMatch(new RegExp(`^${process.pid} `));
    await sql.close();
  });

  it('makes a new database whole or not at all', async () => {
    // What a start that was killed half way leaves behind.
    fs.mkdirSync(path.join(dir, 'pg.new', 'base'), { recursive: true });
    fs.writeFileSync(path.join(dir, 'pg.new', 'PG_VERSION'), '18\n');
    const sql = await Pglite.open({ dataDir: dir });
    expect(await sql.query('select 1 as one')).toEqual([{ one: 1 }]);
    expect(fs.existsSync(path.join(dir, 'pg.new'))).toBe(false);
    await sql.close();
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

  it('really fsyncs: the settings that decide it are on', async () => {
    const sql = await Pglite.open({ dataDir: dir });
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

  it('comes back by itself after its server went down, and does not say what became of what was in flight', async () => {
    const sql = await Pglite.open({ dataDir: dir });
    const store = new PostgresStore(sql);
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    await writer.commit([0], { summaries: [summary(key(0), 1)] });
    // The write-ahead log cannot be written any more: PANIC.
    const wal = path.join(dir, 'pg', 'pg_wal');
    fs.renameSync(wal, `${wal}.away`);
    const large = Array.from({ length: 5000 }, (_, i) =>
      snapshot(key(0), i + 2, { twin: key(0, i + 2), state: new Uint8Array(8000).map(() => i) }),
    );
    const error = await writer.commit([0], { snapshots: large }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(OutcomeUnknown);
    await expect(store.ping()).rejects.toMatchObject({ code: 'store_down' });
    fs.rmSync(wal, { recursive: true, force: true });
    fs.renameSync(`${wal}.away`, wal);
    await store.ping();
    expect((await store.shards())[0].commitNo).toBe(1);
    await writer.claim(0);
    expect(await writer.commit([0])).toEqual(new Set([0]));
    await sql.close();
  });

  it('lets a checkpoint overtake what waits', async () => {
    const sql = await Pglite.open();
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

  it('keeps the write-ahead log and replaced snapshots from growing', async () => {
    const sql = await Pglite.open({ dataDir: dir, durable: false });
    const store = new PostgresStore(sql);
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    // Some 700 MB of write-ahead log.
    for (let round = 1; round <= 130; round++) {
      const snapshots = Array.from({ length: 500 }, (_, i) => {
        const state = new Uint8Array(8000);
        new Uint32Array(state.buffer).forEach((_, at, words) => {
          words[at] = Math.imul(round * 7919 + i, at + 1);
        });
        return snapshot(key(0, i + 1), round, { state });
      });
      await writer.commit([0], { snapshots });
    }
    const wal = fs.readdirSync(path.join(dir, 'pg', 'pg_wal')).filter((name) => /^[0-9A-F]{24}$/.test(name));
    expect(wal.length * 16).toBeLessThan(600);
    await sql.close();
  });

  it('answers what was asked before close, and refuses what comes after', async () => {
    const sql = await Pglite.open();
    const asked = sql.query('select 1 as one');
    const closing = sql.close();
    const late = sql.query('select 1').catch((e: unknown) => e);
    expect(await asked).toEqual([{ one: 1 }]);
    expect(await late).toBeInstanceOf(SqlError);
    await closing;
    await sql.close();
  });
});
