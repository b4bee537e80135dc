import type { Ingress } from '../actors/ingress/ingress.ts';
import { Pg } from '../actors/store/pg.ts';
import { findPostgres } from '../test/servers/postgres.ts';
import { openHotPath } from './hot-path.ts';
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

/** Null without a PostgreSQL here. */
export async function openCommitted(): Promise<Committed | null> {
  const server = await findPostgres();
  if (server === null) return null;
  const sql = await Pg.open({ url: await server.database() });
  const { ingress, host } = await openHotPath(sql, 2 ** 20);
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
