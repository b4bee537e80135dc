import { fileURLToPath } from 'node:url';
import { MemoryLog } from '../../actors/log/memory.ts';
import { type Clock, seededRandom, systemClock } from '../../actors/protocol/clock.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { shardOf } from '../../actors/protocol/twin-id.ts';
import { Host } from '../../actors/runtime/host.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { insertRescore } from '../../actors/store/queries/rescore-list.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { findModels } from '../../models/folder.ts';
import type { RescoreSummary } from '../../services/replay/rescoring.ts';
import { ReplayThreads } from '../../services/replay/threads.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import type { Figure, Scenario } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const TWINS = 500;
const READINGS_A_TWIN = 1_000;
const SHARDS = 16;
const T0 = Date.UTC(2026, 0, 1);
/** A mote speaks every two seconds and sends what it has every ten: the model is asked with each message. */
const STEP_MS = 2_000;
const AT_ONCE = 5;
const KIND = 'mote';
const MODEL = 'mote-anomaly';

/** History of motes once more through the model of their anomalies, in a thread of its own. */
const scenario: Scenario = {
  name: 'rescore',
  title: `${(TWINS * READINGS_A_TWIN).toLocaleString('en-US')} readings of ${TWINS} twins rescored with ${MODEL}`,
  async run(say) {
    const [folder] = (await findModels([fileURLToPath(new URL('../../models/', import.meta.url))])).get(MODEL) ?? [];
    if (folder === undefined) {
      say(`skipped: there is no ${MODEL}`);
      return [];
    }
    const figures: Figure[] = [];
    const data = temporaryFolder('rescore');
    try {
      const sql = await Pglite.open({ dataDir: data.path });
      figures.push(await measure('embedded', sql, null, folder));
      await sql.close();
    } finally {
      data.remove();
    }
    const postgres = await findPostgres();
    if (postgres === null) return figures;
    try {
      const url = await postgres.database();
      const sql = await Pg.open({ url });
      figures.push(await measure('PostgreSQL', sql, url, folder));
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
  { version, path }: { version: string; path: string },
): Promise<Figure> {
  await fill(sql);
  const threads = new ReplayThreads({
    settings: { databaseUrl, applicationName: 'bench', kindFolders: [] },
    sql,
    predictor: { predict: () => Promise.reject(new Error('nobody is asked')) },
    clock: systemClock,
  });
  const request = { model: MODEL, version, from: T0, to: T0 + 86_400_000, kind: KIND, windowMs: 3_600_000 };
  const row = { ...request, id: name, twins: undefined, by: null, node: 'bench' };
  await insertRescore(sql, row, systemClock.now());
  const cpu = process.cpuUsage();
  const summary = await threads.run<RescoreSummary>(
    { type: 'rescore', id: name, request, modelPath: path },
    { deadlineMs: 600_000 },
  );
  const { user, system } = process.cpuUsage(cpu);
  await threads.close();
  const seconds = summary.elapsedMs / 1_000;
  return {
    what: `${name}: readings a second`,
    value: summary.readings / seconds,
    unit: 'readings/s',
    atLeast: 50_000,
    note: `${summary.answers.asked.toLocaleString('en-US')} predictions beside them, ${Math.round(summary.answers.asked / seconds).toLocaleString('en-US')}/s; ${(((user + system) * 1) / summary.readings).toFixed(1)} µs of processor a reading in this process`,
  };
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
  for (let k = 0; k < READINGS_A_TWIN; k += AT_ONCE) {
    const byShard = new Map<number, Reading[]>();
    for (let step = k; step < k + AT_ONCE; step++)
      for (let twin = 0; twin < TWINS; twin++) {
        const id = String(twin);
        const at = T0 + step * STEP_MS;
        const values = { temperature: 20 + random(), humidity: 40 + random(), light: 100, voltage: 2.7 };
        const shard = shardOf(`${KIND}:${id}`, SHARDS);
        const readings = byShard.get(shard) ?? [];
        byShard.set(shard, readings);
        readings.push({ kind: KIND, id, at, values });
      }
    now = T0 + (k + AT_ONCE - 1) * STEP_MS;
    await Promise.all(
      [...byShard].map(([shard, readings]) => log.append({ shard, id: `b${k}-${shard}`, receivedAt: now, readings })),
    );
  }
  await host.stop();
  await log.close();
}
