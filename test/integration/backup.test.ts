import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type NatsConnection, StringCodec } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Pg } from '../../actors/store/pg.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { loadSettings, SettingsError } from '../../config/settings.ts';
import { backUp } from '../../services/backup/backup.ts';
import type { Manifest } from '../../services/backup/manifest.ts';
import { restore } from '../../services/backup/restoration.ts';
import { KINDS, key, reading, SHARDS, summary, T0, Writer } from '../conformance/store-sample.ts';
import { COMPILED, eventually, NodeProcess, ROOT } from '../e2e/node-process.ts';
import { emptyDatabase } from '../servers/embedded.ts';
import { findNats, type NatsServer } from '../servers/nats.ts';
import { findPostgres } from '../servers/postgres.ts';
import { inherited } from '../servers/short-lived.ts';

/** Backup and restore with real servers: what was acknowledged is there once, and twins are what they were. */
const PATIENCE_MS = 120_000;
// Recent, so that no device counts as silent; those that send all the time send more often.
const BASE = Date.now() - 60_000;
const stepMs = (id: string) => (id.startsWith('B') ? 20 : 1_000);
const QUIET = Array.from({ length: 12 }, (_, i) => `Q${i}`);
const BUSY = Array.from({ length: 4 }, (_, i) => `B${i}`);
const silent = () => undefined;
const text = StringCodec();

const postgres = await findPostgres();
const nats = postgres && (await findNats({ own: true }));
const folder = fs.mkdtempSync(join(tmpdir(), 'twinmesh-backup-'));

afterAll(async () => {
  await nats?.stop();
  await postgres?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(nats === null || postgres === null)('a backup of a mesh', () => {
  const nodes: NodeProcess[] = [];
  const sqls: Pg[] = [];
  const sent = new Map<string, number>();
  const to = join(folder, 'backup');
  let original: Cluster;
  let restored: Cluster;
  let host: NodeProcess;
  let manifest: Manifest;
  /** Readings of each busy twin that had been acknowledged when the backup began. */
  let before: Map<string, number>;
  let other: NatsServer | null = null;

  beforeAll(async () => {
    original = await cluster('original', (nats as NatsServer).url);
    const [node, gateway] = await Promise.all([
      start(original, 'a', 'host'),
      start(original, 'g', 'gateway,history,ingest'),
    ]);
    host = node;
    ({ http: original.http, key: original.key } = await where(gateway));
  }, PATIENCE_MS);

  afterAll(async () => {
    for (const each of [original, restored]) await each?.wire.close();
    for (const node of nodes) node.signal('SIGKILL');
    await Promise.all(nodes.map((node) => node.ended()));
    await Promise.all(sqls.map((sql) => sql.close()));
    await other?.stop();
  }, PATIENCE_MS);

  it('is taken while readings come in and no host folds them', async () => {
    for (let n = 0; n < 20; n++) await sendAll(original, QUIET);
    await eventually(
      () => countOf(original, 'Q%'),
      (n) => n === QUIET.length * 20,
    );
    host.signal('SIGKILL');
    await host.ended();
    for (let n = 0; n < 20; n++) await sendAll(original, QUIET);
    let going = true;
    const sending = (async () => {
      while (going) await sendAll(original, BUSY);
    })();
    // it is waited for below
    sending.catch(silent);
    await eventually(
      async () => sent.get(BUSY[0]) ?? 0,
      (n) => n > 20,
      5,
    );
    before = new Map(BUSY.map((id) => [id, sent.get(id) as number]));
    manifest = await backUp(settingsOf(original), to, silent);
    going = false;
    await sending;
    expect(await countOf(original, 'Q%')).toBe(QUIET.length * 20);
    expect(manifest.rows.mote_readings).toBe(QUIET.length * 20);
    expect(manifest.log?.messages).toBeGreaterThan(0);
    const files = fs.readdirSync(to).map((name) => [name, fs.statSync(join(to, name)).mode & 0o777]);
    expect(files.sort()).toEqual([
      ['database.dump', 0o600],
      ['log.ndjson.gz', 0o600],
      ['manifest.json', 0o600],
    ]);
  }, 120_000);

  it('never overwrites, and is refused where it is not whole', async () => {
    await expect(backUp(settingsOf(original), to, silent)).rejects.toThrow('not empty');
    const copy = join(folder, 'copy');
    fs.cpSync(to, copy, { recursive: true });
    const file = join(copy, 'log.ndjson.gz');
    const bytes = fs.readFileSync(file);
    bytes[bytes.length >> 1] ^= 1;
    fs.writeFileSync(file, bytes);
    await expect(restore(settingsOf(original), copy, silent)).rejects.toThrow('log.ndjson.gz is not as it was written');
    fs.rmSync(join(copy, 'manifest.json'));
    await expect(restore(settingsOf(original), copy, silent)).rejects.toThrow('was not finished');
    await expect(restore(settingsOf(original), to, silent)).rejects.toThrow(/holds \d+ messages/);
    const elsewhere = loadSettings({ DATA_DIR: join(folder, 'none'), SHARDS: '8' });
    await expect(restore(elsewhere, to, silent)).rejects.toThrow(SettingsError);
    expect(fs.existsSync(join(folder, 'none'))).toBe(false);
  });

  it('leaves nothing where it fails', async () => {
    const half = join(folder, 'half');
    const empty = await postgres!.database();
    const settings = loadSettings({ ...original.env, DATABASE_URL: empty });
    await expect(backUp(settings, half, silent)).rejects.toThrow('nothing of twinmesh');
    expect(fs.existsSync(half)).toBe(false);
  });

  it('is restored on empty servers: each acknowledged reading once, twins, alerts and events as they were', async () => {
    other = await findNats({ own: true });
    restored = await cluster('restored', (other as NatsServer).url);
    const full = { ...original.env, NATS_URL: restored.env.NATS_URL };
    await expect(restore(loadSettings(full), to, silent)).rejects.toThrow('not empty');
    const cli = run('restore-cli.ts', ['--from', to], restored.env);
    expect([cli.status, cli.stderr.includes('secret')]).toEqual([0, false]);
    expect(cli.stdout).toMatch(/Restored the state of .*12 twins, \d+ messages in the log/);
    await expect(restore(settingsOf(restored), to, silent)).rejects.toMatchObject({ code: 'conflict' });
    const state = await restored.sql.query(
      'select shard from shards where owner is not null or position <> 0 or position_id is not null',
    );
    expect(state).toEqual([]);
    expect(await restored.sql.query('select node from nodes')).toEqual([]);

    const [node] = await Promise.all([
      start(restored, 'r', 'gateway,history,ingest,host'),
      start(original, 'b', 'host'),
    ]);
    ({ http: restored.http } = await where(node));
    const busy = [...sent].reduce((sum, [id, n]) => sum + (BUSY.includes(id) ? n : 0), 0);
    for (const each of [original, restored]) {
      await eventually(
        () => countOf(each, 'Q%'),
        (n) => n >= QUIET.length * 40,
      );
    }
    await eventually(
      () => countOf(original, 'B%'),
      (n) => n >= busy,
    );
    for (const id of QUIET) expect(await numbers(restored, id)).toEqual(Array.from({ length: 40 }, (_, n) => n));
    for (const id of BUSY) {
      await eventually(
        async () => (await numbers(restored, id)).length,
        (n) => n >= (before.get(id) as number),
      );
      const there = await numbers(restored, id);
      expect(there).toEqual(Array.from({ length: there.length }, (_, n) => n));
      expect(there.length).toBeLessThanOrEqual(sent.get(id) as number);
    }
    for (const id of QUIET) expect(await viewOf(restored, id)).toEqual(await viewOf(original, id));
    const alerts = await alertsOf(original);
    expect(alerts.length).toBeGreaterThan(0);
    expect(await alertsOf(restored)).toEqual(alerts);
    const events = await eventsOf(original);
    expect(events.length).toBeGreaterThan(0);
    expect(await eventsOf(restored)).toEqual(events);
  }, 120_000);

  it('goes on after it, and takes nothing twice that is sent again', async () => {
    await sendAll(restored, QUIET);
    await eventually(
      () => countOf(restored, 'Q%'),
      (n) => n === QUIET.length * 41,
    );
    for (const id of [...QUIET, ...BUSY]) {
      const all = Array.from({ length: sent.get(id) as number }, (_, n) => n);
      for (let from = 0; from < all.length; from += 500) await send(restored, id, all.slice(from, from + 500));
    }
    await sendAll(restored, QUIET);
    await eventually(
      () => countOf(restored, 'Q%'),
      (n) => n >= QUIET.length * 42,
    );
    for (const id of BUSY)
      await eventually(
        async () => (await numbers(restored, id)).length,
        (n) => n >= (sent.get(id) as number),
      );
    for (const id of [...QUIET, ...BUSY])
      expect(await numbers(restored, id)).toEqual(Array.from({ length: sent.get(id) as number }, (_, n) => n));
    for (const id of QUIET) expect((await viewOf(restored, id)).ingest).toMatchObject({ accepted: 42, duplicate: 41 });
  }, 120_000);

  interface Cluster {
    env: Record<string, string>;
    sql: Pg;
    wire: NatsConnection;
    http: string;
    key: string | null;
  }

  async function cluster(name: string, natsUrl: string): Promise<Cluster> {
    const url = new URL(await postgres!.database());
    const env = {
      NATS_URL: natsUrl,
      DATABASE_URL: url.toString(),
      DATA_DIR: join(folder, name),
      SHARDS: '16',
      TTL_MS: '1500',
      METRICS_PORT: '0',
      RATE_LIMIT_PER_MINUTE: '1000000',
      // quiet twins are compared: nobody may ask about them meanwhile
      INFERENCE_MAX_PER_SECOND: '0',
    };
    const sql = await Pg.open({ url: env.DATABASE_URL, maxConnections: 4 });
    sqls.push(sql);
    return { env, sql, wire: await connect({ servers: natsUrl }), http: '', key: original?.key ?? null };
  }

  async function start({ env }: Cluster, name: string, roles: string): Promise<NodeProcess> {
    const own = { NODE_ID: name, ROLES: roles, DATA_DIR: join(folder, name) };
    const node = NodeProcess.start(folder, { ...env, ...own });
    nodes.push(node);
    await node.until(/keys, devices/);
    return node;
  }

  async function where(node: NodeProcess): Promise<{ http: string; key: string | null }> {
    const [, http] = await node.until(/API\s+(http:\S+)\/api\/v1\/twins/);
    await node.until(/keys, devices/);
    return { http, key: node.output.match(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/)?.[0] ?? null };
  }

  /** The next reading of each. */
  async function sendAll(cluster: Cluster, ids: readonly string[]): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        const n = sent.get(id) ?? 0;
        await send(cluster, id, [n]);
        sent.set(id, n + 1);
      }),
    );
  }

  /** Resolves when they have been acknowledged. */
  async function send({ wire }: Cluster, id: string, numbers: readonly number[]): Promise<void> {
    const readings = numbers.map((n) => ({
      at: BASE + n * stepMs(id),
      seq: n,
      values: { temperature: 60 + (n % 50), humidity: 1 + n / 1_000 },
    }));
    const payload = text.encode(JSON.stringify(readings));
    const answer = await wire.request(`twins.in.mote.${id}`, payload, { timeout: 30_000 });
    expect(JSON.parse(text.decode(answer.data))).toMatchObject({ rejected: [] });
  }

  async function countOf({ sql }: Cluster, ids: string): Promise<number> {
    const [{ n }] = await sql.query<{ n: number }>(
      'select count(*)::int as n from mote_readings r join twins t using (twin) where t.id like $1',
      [ids],
    );
    return n;
  }

  /** Those of all stored readings of a twin, in order; one that is there twice stands twice. */
  async function numbers({ sql }: Cluster, id: string): Promise<number[]> {
    const rows = await sql.query<{ seq: number }>(
      'select r.seq from mote_readings r join twins t using (twin) where t.id = $1 order by r.seq',
      [id],
    );
    return rows.map(({ seq }) => seq);
  }

  // biome-ignore lint/suspicious/noExplicitAny: a view, compared as a whole
  async function viewOf({ http }: Cluster, id: string): Promise<any> {
    const headers = { authorization: `Bearer ${original.key}` };
    const response = await eventually(
      () => fetch(`${http}/api/v1/twins/mote:${id}`, { headers }),
      // until then its shard has just got another owner, or none
      ({ status }) => status !== 503,
    );
    expect(response.status).toBe(200);
    const { data } = (await response.json()) as { data: { ingest: Record<string, unknown> } };
    const { lagMs: _, ...ingest } = data.ingest;
    return { ...data, ingest };
  }

  const alertsOf = ({ sql }: Cluster) =>
    sql.query(`select * from alerts where twin_id like 'mote:Q%' order by alert_id`);
  const eventsOf = ({ sql }: Cluster) =>
    sql.query(
      `select event_id, twin_id, revision, type, at, body from events where twin_id like 'mote:Q%' order by twin_id, revision, event_id`,
    );
});

describe('a backup of an embedded database', () => {
  it('is refused while the folder is in use, and restored into an empty one', async () => {
    const settings = loadSettings({ DATA_DIR: join(folder, 'embedded'), SHARDS: String(SHARDS) });
    const to = join(folder, 'embedded-backup');
    await emptyDatabase(settings.dataDir);
    const sql = await Pglite.open({ dataDir: settings.dataDir });
    const store = new PostgresStore(sql);
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'writer');
    await writer.claim(0);
    const readings = Array.from({ length: 30 }, (_, i) =>
      reading(key(0), i + 1, { at: T0 + i, values: { flow: i, level: 1 / (i + 1) } }),
    );
    await writer.commit([0], { readings, summaries: [summary(key(0), 30)] });
    const all = 'select * from meter_readings order by revision';
    const rows = await sql.query(all);
    await expect(backUp(settings, to, silent)).rejects.toMatchObject({ code: 'data_dir' });
    expect(fs.existsSync(to)).toBe(false);
    await sql.close();

    const manifest = await backUp(settings, to, silent);
    expect(manifest).toMatchObject({ database: 'embedded', shards: SHARDS, log: null, rows: { twins: 1 } });
    await expect(restore(settings, to, silent)).rejects.toThrow('holds a database already');
    const fresh = { DATA_DIR: join(folder, 'embedded-again'), SHARDS: String(SHARDS) };
    await expect(restore(loadSettings({ ...fresh, SHARDS: '9' }), to, silent)).rejects.toThrow(`set SHARDS=${SHARDS}`);
    await restore(loadSettings(fresh), to, silent);
    const again = await Pglite.open({ dataDir: fresh.DATA_DIR });
    try {
      expect(rows).toHaveLength(30);
      expect(await again.query(all)).toEqual(rows);
      expect(await again.query('select owner, position from shards where owner is not null or position <> 0')).toEqual(
        [],
      );
    } finally {
      await again.close();
    }
  }, 240_000);

  it('says on the command line what it wants', () => {
    for (const [file, option] of [
      ['backup-cli.ts', '--to FOLDER'],
      ['restore-cli.ts', '--from FOLDER'],
    ]) {
      const help = run(file, ['--help'], {});
      expect([help.status, help.stdout]).toEqual([0, expect.stringContaining(option)]);
      const nothing = run(file, [], {});
      expect([nothing.status, nothing.stderr]).toEqual([2, expect.stringContaining(option)]);
    }
  });
});

function run(file: string, args: readonly string[], env: Record<string, string>) {
  return spawnSync(process.execPath, [...inherited(), join(ROOT, 'services', file), ...args], {
    cwd: folder,
    encoding: 'utf8',
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: COMPILED, ...env },
  });
}

function settingsOf({ env }: { env: Record<string, string> }) {
  return loadSettings(env);
}
