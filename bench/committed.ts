import { DOOR_LIMITS } from '../actors/ingress/door.ts';
import { Ingress } from '../actors/ingress/ingress.ts';
import { MemoryLog } from '../actors/log/memory.ts';
import { systemClock } from '../actors/protocol/clock.ts';
import { Host } from '../actors/runtime/host.ts';
import { loadKinds } from '../actors/runtime/kind-registry.ts';
import { Pg } from '../actors/store/pg.ts';
import { PostgresStore } from '../actors/store/postgres.ts';
import { loadSettings } from '../config/settings.ts';
import { findPostgres } from '../test/servers/postgres.ts';
import type { Figure } from './scenario.ts';

/** Ingress, log, host and a PostgreSQL of this machine, in this process: for benches of what comes before them. */
export interface Committed {
  ingress: Ingress;
  /** Readings that a commit has answered for. */
  accepted(): number;
  /** The same, asked of the database. */
  rows(): Promise<number>;
  close(): Promise<void>;
}

const SHARDS = 256;

/** Null without a PostgreSQL here. */
export async function openCommitted(): Promise<Committed | null> {
  const server = await findPostgres();
  if (server === null) return null;
  const sql = await Pg.open({ url: await server.database() });
  const kinds = await loadKinds();
  const store = new PostgresStore(sql);
  await store.open(kinds.all(), SHARDS);
  const log = new MemoryLog({ clock: systemClock, maxReadings: 200_000 });
  // as `npm start` has it
  const { cutMaxEntries, passivateAfterMs, maxResidentMb, ttlMs } = loadSettings({});
  const host = new Host({
    node: 'bench',
    kinds,
    store,
    log,
    clock: systemClock,
    random: Math.random,
    shards: SHARDS,
    ttlMs,
    cutMaxEntries,
    passivateAfterMs,
    maxResidentBytes: maxResidentMb * 2 ** 20,
  });
  await host.start();
  while (host.status().shards.owned < SHARDS) await new Promise((resolve) => setTimeout(resolve, 5));
  const ingress = new Ingress({
    log,
    kinds,
    clock: systemClock,
    shards: SHARDS,
    door: { ...DOOR_LIMITS, maxSkewMs: 10 * 365 * 86_400_000 },
    json: { maxBytes: 2 ** 20, maxDepth: 16 },
    deadLetters: {
      add(letter) {
        throw new Error(`refused: ${letter.code} ${letter.message}`);
      },
    },
    batchPrefix: 'bench',
  });
  return {
    ingress,
    accepted() {
      let sum = 0;
      for (const [key, count] of ingress.tally.readings) if (key.endsWith(' accepted')) sum += count;
      return sum;
    },
    async rows() {
      const [{ n }] = await sql.query<{ n: number }>('select count(*)::int as n from machine_readings');
      return n;
    },
    async close() {
      ingress.close();
      await host.stop();
      await sql.close();
      await server.stop();
    },
  };
}

/** Reading `k` of a fleet of `twins` machines in turn, as a machine sends it. */
export function machineMessage(k: number, twins: number): { id: string; text: string } {
  const id = `M${k % twins}`;
  const t = Math.floor(k / twins);
  const text = JSON.stringify({
    timestamp: new Date(1_750_000_000_000 + t * 1000).toISOString(),
    machine_id: id,
    readings: {
      temperature: 65 + Math.sin(t / 9),
      vibration: 1.2 + Math.sin(t / 5) / 10,
      pressure: 45 + (k % 7) / 10,
      power: 250 - (k % 11),
    },
  });
  return { id, text };
}

export async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** Seconds of both cores that this process spent on a million readings: what a busy machine does not change much. */
export function cpuFigure(what: string, spent: NodeJS.CpuUsage, readings: number): Figure {
  return { what, value: (spent.user + spent.system) / readings, unit: 'CPU s a million readings' };
}
