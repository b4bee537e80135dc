import type { Clock } from '../../protocol/clock.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { Kind } from '../../protocol/kind.ts';
import { parseTwinId } from '../../protocol/twin-id.ts';
import type { Sql } from '../sql.ts';
import { metricsOf } from './history-table.ts';
import { columnsOfRollup, openBuckets } from './open-buckets.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page } from './page.ts';
import { ROLLUPS, type Rollup, rolledTo, rollupTable } from './rolled.ts';
import { ceilTo, DAY_MS, floorTo, HOUR_MS, iso, type Span } from './span.ts';

/**
 * Hourly and daily aggregates of many twins, a page of whole twins at a time.
 *
 * Closed buckets come from the rollups; the ones after are computed: hourly ones from raw readings, daily ones by merging
 * the closed hours with the raw rest, which is why the median of a day that is not closed is null. `complete` tells
 * them apart.
 */
export interface AggregateQuery {
  twinId?: string;
  metric?: string;
  /** Default: the last 24 hours, or 30 days, before now. */
  span: Partial<Span>;
  /** Twins a page, 1 to 500, default 50; fewer where their buckets are many. */
  limit?: number;
  cursor?: string;
}

export interface Aggregate {
  twinId: string;
  /** Start of the bucket. */
  bucket: string;
  metric: string;
  avg: number | null;
  min: number | null;
  max: number | null;
  /** Sample standard deviation. */
  std: number | null;
  median: number | null;
  record_count: number;
  null_count: number;
  /** Whether every reading that is to come for this bucket has come. */
  complete: boolean;
}

/** A row as the rollups and the open buckets give it. */
export interface AggregateRow {
  twin: number;
  bucket: Date;
  metric: string;
  avg: number | null;
  min: number | null;
  max: number | null;
  std: number | null;
  median: number | null;
  record_count: number;
  null_count: number;
}

const MOST_BUCKETS = 1_000;
const MOST_ROWS = 20_000;

/** Throws `bad_request`, `bad_id`, `not_found` for a twin that there is not. */
export async function aggregates(
  sql: Sql,
  clock: Clock,
  kind: Kind,
  rollup: Rollup,
  query: AggregateQuery,
): Promise<Page<Aggregate>> {
  const unitMs = ROLLUPS[rollup];
  const asked = limitOf(query.limit, 50, 500);
  const metrics = metricsOf(kind, query.metric);
  const to = ceilTo(query.span.to ?? clock.now() + 1, unitMs);
  const from = floorTo(query.span.from ?? Math.max(0, to - (rollup === 'hourly' ? 24 * HOUR_MS : 30 * DAY_MS)), unitMs);
  if (from >= to) throw new TwinmeshError('bad_request', 'from: must lie before to.');
  const buckets = (to - from) / unitMs;
  if (buckets > MOST_BUCKETS) {
    throw new TwinmeshError(
      'bad_request',
      `from: ${buckets} buckets are more than ${MOST_BUCKETS}; ask for a shorter span.`,
    );
  }
  const limit = Math.max(1, Math.min(asked, Math.floor(MOST_ROWS / (buckets * (metrics?.length ?? 4)))));
  const scope = JSON.stringify(['aggregates', kind.kind, rollup, query.twinId ?? null, metrics]);
  const binder = new Binder();
  const where = [`t.kind = ${binder.add(kind.kind, '::text')}`];
  if (query.twinId !== undefined) {
    parseTwinId(query.twinId);
    where.push(`t.twin_id = ${binder.add(query.twinId, '::text')}`);
  }
  if (query.cursor !== undefined) {
    const [id] = decodeCursor(query.cursor, scope, ['text']);
    where.push(`t.id > ${binder.add(id, '::text')}`);
  }
  const found = await sql.query<{ twin: number; twin_id: string; id: string }>(
    `select t.twin, t.twin_id, t.id from twins t where ${where.join(' and ')} order by t.kind, t.id limit ${limit + 1}`,
    binder.values,
  );
  if (found.length === 0 && query.twinId !== undefined && query.cursor === undefined) {
    throw new TwinmeshError('not_found', `There is no ${kind.kind} ${query.twinId}.`);
  }
  const twins = found.slice(0, limit);
  const items = await aggregatesOf(sql, clock, kind, rollup, twins, { from, to }, metrics);
  return { items, nextCursor: found.length > limit ? encodeCursor(scope, [twins[limit - 1].id]) : null };
}

async function aggregatesOf(
  sql: Sql,
  clock: Clock,
  kind: Kind,
  rollup: Rollup,
  twins: readonly { twin: number; twin_id: string }[],
  span: Span,
  metrics: readonly string[] | null,
): Promise<Aggregate[]> {
  if (twins.length === 0) return [];
  const marks = await rolledTo(
    sql,
    kind,
    twins.map(({ twin }) => twin),
  );
  const rank = new Map(twins.map(({ twin }, index) => [twin, index]));
  const binder = new Binder();
  const only = metrics === null ? 'true' : `r.metric = any(${binder.add([...metrics], '::text[]')})`;
  const closed = await sql.query<AggregateRow>(
    `select ${columnsOfRollup('r')} from unnest(${binder.add(
      twins.map(({ twin }) => twin),
      '::bigint[]',
    )}, ${binder.add(
      twins.map(({ twin }) => iso(Math.min(span.to, marks.get(twin)![rollup]))),
      '::timestamptz[]',
    )}) as w(twin, hi) join ${rollupTable(kind, rollup)} r on r.twin = w.twin and r.bucket >= ${binder.time(span.from)} and r.bucket < w.hi
     where ${only}`,
    binder.values,
  );
  const open = await openBuckets(
    sql,
    clock,
    kind,
    rollup,
    twins.map(({ twin }) => ({ twin, ...marks.get(twin)! })),
    span,
    metrics,
  );
  const item = (row: AggregateRow, complete: boolean): Aggregate => {
    const { twin, bucket, ...rest } = row;
    return { twinId: twins[rank.get(twin)!].twin_id, bucket: iso(bucket.getTime()), ...rest, complete };
  };
  const order = (a: AggregateRow, b: AggregateRow) =>
    rank.get(a.twin)! - rank.get(b.twin)! ||
    a.bucket.getTime() - b.bucket.getTime() ||
    (a.metric < b.metric ? -1 : a.metric > b.metric ? 1 : 0);
  return [...closed.map((row) => ({ row, complete: true })), ...open.map((row) => ({ row, complete: false }))]
    .sort((a, b) => order(a.row, b.row))
    .map(({ row, complete }) => item(row, complete));
}
