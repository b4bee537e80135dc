import type { Clock } from '../../protocol/clock.ts';
import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import type { AggregateRow } from './aggregates.ts';
import { bucketRows, ROLLUP_COLUMNS } from './bucketing.ts';
import { carrying } from './history-table.ts';
import { type Moments, merged, statistics } from './moments.ts';
import { Binder } from './page.ts';
import { type Rollup, rollupTable } from './rolled.ts';
import { deadlineOf, inSlices } from './slices.ts';
import { DAY_MS, floorTo, HOUR_MS, iso, type Span } from './span.ts';

/**
 * Buckets behind the mark of their twin, computed when they are asked for. Few by construction: a twin's open buckets
 * are those of its last hour (or day) and lateness window, unless the rollups have yet to catch up.
 */
export interface Marked {
  twin: number;
  hourly: number;
  daily: number;
}

export function columnsOfRollup(r: string): string {
  return ROLLUP_COLUMNS.map((name) => `${r}.${name}`).join(', ');
}

const TWINS_A_STATEMENT = 20;

export async function openBuckets(
  sql: Sql,
  clock: Clock,
  kind: Kind,
  rollup: Rollup,
  twins: readonly Marked[],
  span: Span,
  metrics: readonly string[] | null,
): Promise<AggregateRow[]> {
  const open = twins.filter((twin) => twin[rollup] < span.to);
  if (open.length === 0) return [];
  if (rollup === 'hourly') {
    const from = open.map(({ twin, hourly }) => ({ twin, from: Math.max(span.from, hourly) }));
    return await rawHours(sql, clock, kind, from, span.to, metrics);
  }
  const hours = await closedHours(sql, kind, open, span, metrics);
  const rest = await rawHours(
    sql,
    clock,
    kind,
    open.map(({ twin, hourly, daily }) => ({ twin, from: Math.max(span.from, daily, hourly) })),
    span.to,
    metrics,
  );
  return days([...hours, ...rest]);
}

async function rawHours(
  sql: Sql,
  clock: Clock,
  kind: Kind,
  twins: readonly { twin: number; from: number }[],
  to: number,
  metrics: readonly string[] | null,
): Promise<AggregateRow[]> {
  const rows: AggregateRow[] = [];
  const deadline = deadlineOf(clock);
  for (let i = 0; i < twins.length; i += TWINS_A_STATEMENT) {
    const some = twins.slice(i, i + TWINS_A_STATEMENT);
    const from = Math.min(...some.map((twin) => twin.from));
    await inSlices(clock, { from, to }, { firstMs: DAY_MS, unitMs: HOUR_MS, deadline }, async (slice) => {
      const work = some
        .filter((twin) => twin.from < slice.to)
        .map((twin) => ({ twin: twin.twin, from: Math.max(twin.from, slice.from) }));
      if (work.length > 0) rows.push(...(await hoursOf(sql, kind, work, slice.to, metrics)));
    });
  }
  return rows;
}

async function hoursOf(
  sql: Sql,
  kind: Kind,
  twins: readonly { twin: number; from: number }[],
  to: number,
  metrics: readonly string[] | null,
): Promise<AggregateRow[]> {
  const b = new Binder();
  const ids = b.add(
    twins.map(({ twin }) => twin),
    '::bigint[]',
  );
  const lo = b.add(
    twins.map(({ from }) => iso(from)),
    '::timestamptz[]',
  );
  const work = `(select u.twin, u.lo, ${b.time(to)} as hi from unnest(${ids}, ${lo}) as u(twin, lo)) w`;
  const condition = kind.openMetrics ? carrying(kind, 'r', metrics, b) : 'true';
  return await sql.query<AggregateRow>(bucketRows(kind, 'hourly', work, metrics ?? undefined, condition), b.values);
}

async function closedHours(
  sql: Sql,
  kind: Kind,
  twins: readonly Marked[],
  span: Span,
  metrics: readonly string[] | null,
): Promise<AggregateRow[]> {
  const b = new Binder();
  const ids = b.add(
    twins.map(({ twin }) => twin),
    '::bigint[]',
  );
  const lo = b.add(
    twins.map(({ daily }) => iso(Math.max(span.from, daily))),
    '::timestamptz[]',
  );
  const hi = b.add(
    twins.map(({ hourly }) => iso(Math.min(span.to, hourly))),
    '::timestamptz[]',
  );
  const only = metrics === null ? 'true' : `r.metric = any(${b.add([...metrics], '::text[]')})`;
  return await sql.query<AggregateRow>(
    `select ${columnsOfRollup('r')} from unnest(${ids}, ${lo}, ${hi}) as w(twin, lo, hi)
     join ${rollupTable(kind, 'hourly')} r on r.twin = w.twin and r.bucket >= w.lo and r.bucket < w.hi where ${only}`,
    b.values,
  );
}

/** Hours merged to days. Medians do not merge. */
function days(hours: readonly AggregateRow[]): AggregateRow[] {
  const found = new Map<string, { row: AggregateRow; moments: Moments | undefined }>();
  for (const hour of hours) {
    const day = floorTo(hour.bucket.getTime(), DAY_MS);
    const key = `${hour.twin} ${day} ${hour.metric}`;
    let entry = found.get(key);
    if (entry === undefined) {
      const row = { ...hour, bucket: new Date(day), median: null, record_count: 0, null_count: 0 };
      entry = { row, moments: undefined };
      found.set(key, entry);
    }
    entry.row.record_count += hour.record_count;
    entry.row.null_count += hour.null_count;
    const count = hour.record_count - hour.null_count;
    if (count === 0) continue;
    const part = { count, mean: hour.avg!, m2: (hour.std ?? 0) ** 2 * (count - 1), min: hour.min!, max: hour.max! };
    entry.moments = merged(entry.moments, part);
  }
  return [...found.values()].map(({ row, moments }) => {
    const s = moments === undefined ? null : statistics(moments);
    return { ...row, avg: s?.avg ?? null, min: s?.min ?? null, max: s?.max ?? null, std: s?.std ?? null };
  });
}
