import { MemoryLog } from '../../../actors/log/memory.ts';
import { seededRandom, systemClock } from '../../../actors/protocol/clock.ts';
import { defineTwin, type Kind } from '../../../actors/protocol/kind.ts';
import type { Outcome, Reading } from '../../../actors/protocol/reading.ts';
import { shardOf, twinIdOf } from '../../../actors/protocol/twin-id.ts';
import { Host } from '../../../actors/runtime/host.ts';
import type { HostOptions } from '../../../actors/runtime/host-options.ts';
import { registryOf } from '../../../actors/runtime/kind-registry.ts';
import type { Pglite } from '../../../actors/store/pglite.ts';
import type { Store } from '../../../actors/store/port.ts';
import { PostgresStore } from '../../../actors/store/postgres.ts';
import { openEmptyDatabase } from '../../servers/embedded.ts';

export const SHARDS = 4;
export const T0 = 1_750_000_000_000;

/** A kind whose turn can be made to throw: with `explode` above 0 its own rule message does. */
export const pump: Kind = defineTwin({
  kind: 'pump',
  version: 1,
  title: 'Pump',
  description: 'for tests',
  metrics: { flow: { unit: 'l/s', min: -1e9, max: 1e9 }, heat: { unit: '°C', min: -1e9, max: 1e9 } },
  formats: [{ name: 'plain', example: {}, decode: () => ({ id: 'p', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: 60_000, panes: 6 } },
  detectors: {},
  rules: [
    {
      name: 'hot',
      metric: 'heat',
      above: 90,
      hysteresis: 5,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'high',
      message: 'Hot: {value}',
    },
  ],
  silentAfterMs: 600_000,
  graph: { type: 'Pump' },
  digest: () => '',
});

export interface Bench {
  store: Store;
  sql: Pglite;
  close(): Promise<void>;
}

export async function openBench(): Promise<Bench> {
  const sql = await openEmptyDatabase();
  const store = new PostgresStore(sql);
  await store.open([pump], SHARDS);
  return { store, sql, close: () => sql.close() };
}

export interface Running {
  host: Host;
  log: MemoryLog;
  /** Sends readings, a batch a shard, and answers their outcomes in the order given. */
  send(readings: Reading[]): Promise<(Outcome | undefined)[]>;
  stop(): Promise<void>;
}

let unique = 0;

export async function run(store: Store, options: Partial<HostOptions> = {}): Promise<Running> {
  const log = new MemoryLog({ clock: systemClock, maxReadings: 10_000 });
  const host = new Host({
    node: 'one',
    kinds: registryOf([pump]),
    store,
    log,
    clock: systemClock,
    random: seededRandom(1),
    shards: SHARDS,
    ttlMs: 2_000,
    housekeepingMs: 10,
    summaryEveryMs: 20,
    ...options,
  });
  await host.start();
  await until(() => host.status().shards.owned === SHARDS || options.node !== undefined);
  return {
    host,
    log,
    async send(readings) {
      const outcomes = new Array<Outcome | undefined>(readings.length);
      const byShard = new Map<number, number[]>();
      readings.forEach((reading, i) => {
        const shard = shardOf(twinIdOf(reading.kind, reading.id), SHARDS);
        byShard.set(shard, [...(byShard.get(shard) ?? []), i]);
      });
      await Promise.all(
        [...byShard].map(async ([shard, indexes]) => {
          const appended = await log.append({
            shard,
            id: `b${++unique}`,
            receivedAt: Date.now(),
            readings: indexes.map((i) => readings[i]),
          });
          for (const [at, i] of indexes.entries()) outcomes[i] = appended.outcomes?.[at];
        }),
      );
      return outcomes;
    },
    async stop() {
      await host.stop();
      await log.close();
    },
  };
}

export function reading(id: string, at: number, values: Record<string, number>, more: Partial<Reading> = {}): Reading {
  return { kind: 'pump', id, at: T0 + at, values, ...more };
}

export async function until(condition: () => boolean | Promise<boolean>, what = 'the condition'): Promise<void> {
  for (let i = 0; i < 2_000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`gave up waiting for ${what}`);
}
