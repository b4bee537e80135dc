import { MemoryLog } from '../../actors/log/memory.ts';
import { type Clock, seededRandom, systemClock } from '../../actors/protocol/clock.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { shardOf } from '../../actors/protocol/twin-id.ts';
import { Host } from '../../actors/runtime/host.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { ReplayThreads } from '../../services/replay/threads.ts';
import type { PastView } from '../../services/replay/time-travel.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const READINGS = 1_000_000;
const BATCH = 2_000;
const ASKED = 100;
const SHARDS = 16;
const TWIN = 'machine:M1';
const T0 = Date.UTC(2026, 0, 1);

/** Any moment of a twin with a million readings, one a second: from the nearest kept snapshot, in a thread of its own. */
const scenario: Scenario = {
  name: 'time-travel',
  title: `the twin as it was, at ${ASKED} random moments of ${READINGS.toLocaleString('en-US')} readings`,
  async run(say) {
    const figures: Figure[] = [];
    const folder = temporaryFolder('time-travel');
    try {
      const sql = await Pglite.open({ dataDir: folder.path });
      figures.push(...(await measure('embedded', sql, null, say)));
      await sql.close();
    } finally {
      folder.remove();
    }
    const postgres = await findPostgres();
    if (postgres === null) return figures;
    try {
      const url = await postgres.database();
      const sql = await Pg.open({ url });
      figures.push(...(await measure('PostgreSQL', sql, url, say)));
      await sql.close();
    } finally {
      await postgres.stop();
    }
    return figures;
  },
};
export default scenario;

async function measure(
  name: string,
  sql: Sql,
  databaseUrl: string | null,
  say: (line: string) => void,
): Promise<Figure[]> {
  await fill(sql);
  say(`${name}: ${READINGS.toLocaleString('en-US')} readings are there`);
  const threads = new ReplayThreads({
    settings: { databaseUrl, applicationName: 'bench', kindFolders: [] },
    sql,
    predictor: { predict: () => Promise.reject(new Error('nobody is asked')) },
    clock: systemClock,
  });
  const random = seededRandom(7);
  const ask = async (): Promise<{ ms: number; folded: number }> => {
    const at = T0 + Math.floor(random() * READINGS) * 1_000;
    const from = performance.now();
    const view = await threads.run<PastView>({ type: 'at', twinId: TWIN, at }, { deadlineMs: 60_000 });
    return { ms: performance.now() - from, folded: view.asOf.folded };
  };
  const first = await ask();
  const asked: { ms: number; folded: number }[] = [];
  const cpu = process.cpuUsage();
  for (let i = 0; i < ASKED; i++) asked.push(await ask());
  const { user, system } = process.cpuUsage(cpu);
  await threads.close();
  const [size] = await sql.query<{ snapshots: number; history: number; n: number }>(
    `select pg_total_relation_size('twin_snapshots') as snapshots, pg_total_relation_size('machine_readings') as history,
      (select count(*) from twin_snapshots) as n`,
  );
  const times = asked.map(({ ms }) => ms);
  const folded = Math.max(...asked.map((a) => a.folded));
  return [
    {
      what: `${name}: longest of ${ASKED}`,
      value: Math.max(...times),
      unit: 'ms',
      atMost: 300,
      note: `p50 ${percentile(times, 0.5).toFixed(0)}, p95 ${percentile(times, 0.95).toFixed(0)}; at most ${folded} entries folded; ${((user + system) / 1_000 / ASKED).toFixed(0)} ms of processor each in this process; the first, with the start of the thread, ${first.ms.toFixed(0)} ms`,
    },
    {
      what: `${name}: kept snapshots`,
      value: size.snapshots / 1_048_576,
      unit: 'MiB',
      note: `${size.n} of them, beside ${(size.history / 1_048_576).toFixed(0)} MiB of history`,
    },
  ];
}

async function fill(sql: Sql): Promise<void> {
  const kinds = await loadKinds();
  const store = new PostgresStore(sql);
  await store.open(kinds.all(), SHARDS);
  let now = T0;
  const clock: Clock = { ...systemClock, now: () => now };
  const log = new MemoryLog({ clock, maxReadings: 100_000 });
  const host = new Host({
    node: 'bench',
    kinds,
    store,
    log,
    clock,
    random: seededRandom(1),
    shards: SHARDS,
    ttlMs: 30_000,
  });
  await host.start();
  const random = seededRandom(3);
  const shard = shardOf(TWIN, SHARDS);
  for (let i = 0; i < READINGS; i += BATCH) {
    const readings: Reading[] = [];
    for (let k = i; k < i + BATCH; k++)
      readings.push({
        kind: 'machine',
        id: 'M1',
        at: T0 + k * 1_000,
        values: { temperature: 65 + random(), vibration: 1 + random(), pressure: 45 + random(), power: 250 + random() },
      });
    now = T0 + (i + BATCH - 1) * 1_000;
    // each second of a batch came when it says: the batch is only how the bench sends it
    await Promise.all(
      split(readings, 100).map((some, n) =>
        log.append({ shard, id: `b${i}-${n}`, receivedAt: some[some.length - 1].at, readings: some }),
      ),
    );
  }
  await host.stop();
  await log.close();
}

function split<T>(items: readonly T[], size: number): T[][] {
  const parts: T[][] = [];
  for (let i = 0; i < items.length; i += size) parts.push(items.slice(i, i + size));
  return parts;
}
