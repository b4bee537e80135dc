import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { tableOf } from './history-table.ts';
import { DAY_MS, HOUR_MS } from './span.ts';

/** The two rollups that are kept of every kind. Buckets start at whole UTC hours and days. */
export const ROLLUPS = { hourly: HOUR_MS, daily: DAY_MS } as const;
export type Rollup = keyof typeof ROLLUPS;

export function rollupTable(kind: Kind, rollup: Rollup): string {
  return `${tableOf(kind)}_${rollup}`;
}

/**
 * How far the rollups of a twin can be relied on: every bucket before holds all its readings, because nothing that is
 * folded can land there any more, and backfill that did has been worked in; or retention has dropped the readings and
 * there is nothing else. Milliseconds of event time, 0 for nothing.
 */
export interface Rolled {
  hourly: number;
  daily: number;
}

interface Row {
  twin: number;
  hourly: Date | null;
  daily: Date | null;
  trimmed: Date | null;
  dirty: boolean;
}

/** Of several twins of one kind at once. A twin with backfill that has not been worked in yet counts as not rolled. */
export async function rolledTo(sql: Sql, kind: Kind, twins: readonly number[]): Promise<Map<number, Rolled>> {
  const rows = await sql.query<Row>(
    `select t.twin, h.done_to as hourly, d.done_to as daily, d.trimmed_to as trimmed,
            exists (select from rollup_dirty x where x.kind = $1::text and x.twin = t.twin) as dirty
     from unnest($2::bigint[]) as t(twin)
     left join rollup_marks h on h.twin = t.twin and h.rollup = 'hourly'
     left join rollup_marks d on d.twin = t.twin and d.rollup = 'daily'`,
    [kind.kind, [...twins]],
  );
  return new Map(
    rows.map((row) => {
      const reliable = (mark: Date | null) =>
        Math.max(row.trimmed?.getTime() ?? 0, row.dirty ? 0 : (mark?.getTime() ?? 0));
      return [row.twin, { hourly: reliable(row.hourly), daily: reliable(row.daily) }];
    }),
  );
}
