import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { emptyDatabase } from '../servers/embedded.ts';
import { dataOf, untilReady } from './api.ts';
import { eventually, NodeProcess, type Whereabouts, whereabouts } from './node-process.ts';
import { type Asset, HttpLoader, MqttLoader, STEP_MS, valuesOf } from './numbered-load.ts';

/**
 * kill -9 under load, again and again on one data folder. What a device was told is safe is there, once; what it was
 * not told it sends again, and that counts once too.
 */
const KILLS = 10;
const SEED = Number(process.env.KILL_SEED ?? 20260101);

let folder = '';
let node: NodeProcess;
let admin = '';

async function start(): Promise<Whereabouts> {
  node = NodeProcess.start(folder, { DEMO: 'off', RATE_LIMIT_PER_MINUTE: '1000000', SHARDS: '32' });
  const at = await whereabouts(node);
  await untilReady(at.http);
  if (at.key !== null) admin = at.key;
  return { ...at, key: admin };
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-kill-'));
  await emptyDatabase(join(folder, 'data'));
});

afterAll(async () => {
  node?.signal('SIGKILL');
  await node?.ended();
  rmSync(folder, { recursive: true, force: true });
});

interface Row {
  at: Date;
  revision: number | null;
  seq: number;
  temperature: number;
  vibration: number;
  pressure: number;
}

/** History and journal of an asset against what its device knows. */
async function checkStored(sql: Sql, asset: Asset, baseMs: number): Promise<void> {
  const [twin] = await sql.query<{ twin: number; revision: number }>(
    'select twin, revision from twins where twin_id = $1',
    [`machine:${asset.id}`],
  );
  const rows = await sql.query<Row>(
    'select at, revision, seq, temperature, vibration, pressure from machine_readings where twin = $1 order by seq',
    [twin.twin],
  );
  expect(rows.map((row) => row.seq)).toEqual(Array.from({ length: asset.next }, (_, n) => n));
  for (const { at, seq, temperature, vibration, pressure } of rows) {
    expect({ at: at.getTime(), temperature, vibration, pressure }).toEqual({
      at: baseMs + seq * STEP_MS,
      ...valuesOf(seq),
    });
  }
  const others = await sql.query<{ revision: number }>('select revision from entries where twin = $1', [twin.twin]);
  const revisions = [...rows, ...others].map((row) => row.revision ?? Number.NaN).sort((a, b) => a - b);
  expect(revisions).toEqual(Array.from({ length: twin.revision }, (_, i) => i + 1));
}

describe('kill -9 under load', () => {
  it(`loses nothing acknowledged and counts nothing twice, ${KILLS} times in a row`, { timeout: 300_000 }, async () => {
    const random = seededRandom(SEED);
    console.log(`KILL_SEED=${SEED}`);
    // Event times stay inside one pane of the hour, whatever comes twice or late.
    const baseMs = Math.floor(Date.now() / 3_600_000 - 2) * 3_600_000;
    let at = await start();
    const enrol = async (name: string) =>
      (await dataOf(at, '/api/v1/devices', 'POST', { name, kind: 'machine', gateway: true })).key as string;
    const options = async (name: string) => ({ name, key: await enrol(name), baseMs, random });
    const overHttp = [new HttpLoader(await options('http-a')), new HttpLoader(await options('http-b'))];
    const loaders = [
      ...overHttp,
      new MqttLoader(await options('mqtt-a')),
      new MqttLoader(await options('mqtt-b')),
      new MqttLoader(await options('mqtt-c')),
    ];
    const assets = loaders.flatMap((loader) => loader.assets);
    const acknowledged = () => assets.reduce((sum, asset) => sum + asset.acknowledged.size, 0);

    for (let kill = 1; kill <= KILLS; kill++) {
      const before = acknowledged();
      const running = Promise.all(loaders.map((loader) => loader.run(at)));
      await new Promise((resolve) => setTimeout(resolve, 400 + 900 * random()));
      // A machine with other work may not have acknowledged anything yet.
      await eventually(
        async () => acknowledged(),
        (count) => count > before,
        20,
      );
      node.signal('SIGKILL');
      expect(await node.ended()).toBe(-1);
      await running;
      const now = acknowledged();
      const sent = assets.reduce((sum, asset) => sum + asset.next, 0);
      console.log(`kill ${kill}: ${now - before} acknowledged, ${sent - now} in the air`);
      expect(now).toBeGreaterThan(before);

      at = await start();
      expect(node.output).not.toMatch(/"level":"(error|fatal)"/);
      // It goes on where it was: every acknowledged reading counts in its twin before anything is sent again.
      for (const asset of assets.filter(({ acknowledged: { size } }) => size > 0)) {
        const { ingest, revision } = await dataOf(at, `/api/v1/twins/machine:${asset.id}`);
        expect(ingest.accepted).toBeGreaterThanOrEqual(asset.acknowledged.size);
        expect(ingest.accepted).toBeLessThanOrEqual(asset.next);
        expect(revision).toBeGreaterThanOrEqual(ingest.accepted);
      }
    }

    for (const loader of loaders) loader.stop();
    await Promise.all(loaders.map((loader) => loader.run(at)));
    for (const asset of assets) expect(asset.unacknowledged()).toEqual([]);
    expect(overHttp.flatMap((loader) => loader.faults)).toEqual([]);

    for (const asset of assets) {
      const twin = await dataOf(at, `/api/v1/twins/machine:${asset.id}`);
      const last = asset.next - 1;
      expect(twin.at).toBe(new Date(baseMs + last * STEP_MS).toISOString());
      expect(twin.reported).toEqual(valuesOf(last));
      expect(twin.ingest).toMatchObject({ accepted: asset.next, backfill: 0 });
      const sent = Array.from({ length: asset.next }, (_, n) => valuesOf(n).temperature);
      const mean = sent.reduce((sum, value) => sum + value, 0) / sent.length;
      const { count, min, max, last: newest, mean: rolled } = twin.rolling.temperature['1h'];
      expect({ count, min, max, newest }).toEqual({
        count: asset.next,
        min: Math.min(...sent),
        max: Math.max(...sent),
        newest: valuesOf(last).temperature,
      });
      expect(rolled).toBeCloseTo(mean, 6);
    }

    node.signal('SIGTERM');
    expect(await node.ended()).toBe(0);
    const sql = await Pglite.open({ dataDir: join(folder, 'data') });
    try {
      for (const asset of assets) await checkStored(sql, asset, baseMs);
      const [events] = await sql.query<{ events: number; ids: number; holes: number }>(
        `select sum(n)::int as events, sum(ids)::int as ids, count(*) filter (where n <> last)::int as holes from
           (select count(*) as n, count(distinct event_id) as ids, max(seq) as last from events group by shard) e`,
      );
      expect(events.ids).toBe(events.events);
      expect(events.holes).toBe(0);
    } finally {
      await sql.close();
    }
  });
});
