import type { Clock } from '../../protocol/clock.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { carrying, metricsOf, tableOf } from './history-table.ts';
import { type BucketStatistics, type Moments, merged, statistics } from './moments.ts';
import { type OlderReadings, trimmedTo } from './older.ts';
import { Binder } from './page.ts';
import { readingPages } from './readings.ts';
import { ROLLUPS, type Rollup, rolledTo, rollupTable } from './rolled.ts';
import { deadlineOf, inSlices, tooLong } from './slices.ts';
import { ceilTo, DAY_MS, floorTo, HOUR_MS, iso, LATEST_MS, MINUTE_MS, type Span } from './span.ts';
import type { TwinKey } from './twin-key.ts';

/**
 * Statistics of one twin's readings by buckets of event time.
 *
 * Invariants:
 *  D1  The answer is that of the raw readings, whether rollups were used or not: rollups stand in only for whole hours or
 *      days that they cover completely, the edges are read raw, and the parts are merged exactly.
 *  D2  No single statement runs long: raw readings are read in slices of time that adapt to how long they take, because
 *      on an embedded database a checkpoint waits for the statement in front of it.
 *  D3  At most MAX_BUCKETS buckets, and a deadline for all of it.
 */
export interface DownsampleQuery {
  metric?: string;
  span: Partial<Span>;
  stepMs: number;
}

export interface Bucket {
  /** Start of the bucket. */
  at: string;
  metrics: Record<string, BucketStatistics>;
}

export interface Downsampled {
  items: Bucket[];
  from: string;
  to: string;
  stepMs: number;
  /** Which rollup stands in for raw readings where it covers them; null: none, the step is no multiple of an hour. */
  rollup: Rollup | null;
}

export const MAX_BUCKETS = 5_000;

/** Buckets start at multiples of the step since the epoch. Throws `bad_request`, `deadline_exceeded`. */
export async function downsample(
  sql: Sql,
  clock: Clock,
  kind: Kind,
  twin: TwinKey,
  query: DownsampleQuery,
  older: OlderReadings | null = null,
): Promise<Downsampled> {
  const { stepMs } = query;
  const metrics = metricsOf(kind, query.metric);
  const span = await boundsOf(sql, kind, twin, query.span);
  const rollup = stepMs % DAY_MS === 0 ? 'daily' : stepMs % HOUR_MS === 0 ? 'hourly' : null;
  const out: Downsampled = { items: [], from: '', to: '', stepMs, rollup };
  if (span === null) return { ...out, from: iso(query.span.from ?? 0), to: iso(query.span.to ?? query.span.from ?? 0) };
  const buckets = ceilTo(span.to, stepMs) / stepMs - floorTo(span.from, stepMs) / stepMs;
  if (buckets > MAX_BUCKETS) {
    throw new TwinmeshError(
      'bad_request',
      `step: ${buckets} buckets are more than ${MAX_BUCKETS}; take a step of at least ${Math.ceil((span.to - span.from) / (MAX_BUCKETS - 1))} ms or a shorter span.`,
    );
  }
  const found = await moments({ sql, clock, kind, twin, metrics, older }, span, { stepMs, originMs: 0, rollup });
  out.from = iso(span.from);
  out.to = iso(span.to);
  out.items = [...found.entries()]
    .sort(([a], [b]) => a - b)
    .map(([at, byMetric]) => ({ at: iso(at), metrics: inOrder(byMetric, statistics) }));
  return out;
}

/** Statistics of the whole span in one. Metrics without a reading are left out. */
export async function summarise(
  sql: Sql,
  clock: Clock,
  kind: Kind,
  twin: TwinKey,
  span: Span,
  metric?: string,
  older: OlderReadings | null = null,
): Promise<Record<string, BucketStatistics>> {
  const grid = { stepMs: span.to - span.from, originMs: span.from, rollup: 'hourly' as const };
  const found = await moments({ sql, clock, kind, twin, metrics: metricsOf(kind, metric), older }, span, grid);
  const [only] = found.values();
  return only === undefined ? {} : inOrder(only, statistics);
}

interface Grid {
  stepMs: number;
  originMs: number;
  rollup: Rollup | null;
}

type Found = Map<number, Map<string, Moments>>;

interface Source {
  sql: Sql;
  clock: Clock;
  kind: Kind;
  twin: TwinKey;
  metrics: readonly string[] | null;
  older: OlderReadings | null;
}

/** How often retention may drop what is being read before the reader gives up. */
const MOST_TRIES = 5;

async function moments(source: Source, span: Span, grid: Grid): Promise<Found> {
  const { sql, clock, twin, older } = source;
  const deadline = deadlineOf(clock);
  for (let tries = 1; ; tries++) {
    const trimmed = older === null ? 0 : await trimmedTo(sql, twin.twin);
    const found = await momentsOnce(source, span, grid, trimmed, deadline);
    // Readings that retention has dropped meanwhile may be missing: now they are in the archive.
    if (older === null || tries === MOST_TRIES || (await trimmedTo(sql, twin.twin)) === trimmed) return found;
  }
}

async function momentsOnce(source: Source, span: Span, grid: Grid, trimmed: number, deadline: number): Promise<Found> {
  const { sql, kind, twin, metrics } = source;
  const found: Found = new Map();
  const raw = async ({ from, to }: Span) => {
    const border = Math.min(Math.max(from, trimmed), to);
    if (from < border) await olderMoments(source, { from, to: border }, grid, deadline, found);
    await rawMoments(source, { from: border, to }, grid, deadline, found);
  };
  let rawFrom = span.from;
  if (grid.rollup !== null) {
    const unitMs = ROLLUPS[grid.rollup];
    const reliable = (await rolledTo(sql, kind, [twin.twin])).get(twin.twin)!;
    const lo = ceilTo(span.from, unitMs);
    const hi = floorTo(Math.min(span.to, reliable[grid.rollup]), unitMs);
    if (lo < hi) {
      await raw({ from: span.from, to: lo });
      await rolledMoments(sql, kind, twin, metrics, { from: lo, to: hi }, grid, found);
      rawFrom = hi;
    }
  }
  await raw({ from: rawFrom, to: span.to });
  return found;
}

interface MomentsRow {
  bucket: Date;
  metric: string;
  n: number;
  mean: number;
  m2: number;
  lo: number;
  hi: number;
}

function bucketOf(column: string, grid: Grid, binder: Binder): string {
  return `date_bin(${binder.add(grid.stepMs, '::float8')} * interval '1 millisecond', ${column}, ${binder.time(grid.originMs)})`;
}

async function rawMoments(
  { sql, clock, kind, twin, metrics }: Source,
  span: Span,
  grid: Grid,
  deadline: number,
  found: Found,
): Promise<void> {
  await inSlices(clock, span, { firstMs: DAY_MS, unitMs: MINUTE_MS, deadline }, async (slice) => {
    for (const row of await rawSlice(sql, kind, twin, metrics, slice, grid)) add(found, row);
  });
}

/** Of a span below what the database has whole: reading by reading. */
async function olderMoments(
  { sql, clock, kind, twin, metrics, older }: Source,
  span: Span,
  grid: Grid,
  deadline: number,
  found: Found,
): Promise<void> {
  const names = kind.openMetrics ? null : (metrics ?? kind.metricNames);
  for await (const rows of readingPages(sql, kind, twin, { metrics, span, pageRows: OLDER_PAGE }, older)) {
    if (clock.monotonic() > deadline) throw tooLong();
    for (const row of rows) {
      const bucket = floorTo(row.at.getTime() - grid.originMs, grid.stepMs) + grid.originMs;
      if (names === null) one(found, bucket, row.metric!, row.value!);
      else
        for (const name of names) {
          const value = row[name];
          if (typeof value === 'number') one(found, bucket, name, value);
        }
    }
  }
}

const OLDER_PAGE = 5_000;

/** One value more, after Welford. */
function one(found: Found, bucket: number, metric: string, value: number): void {
  let byMetric = found.get(bucket);
  if (byMetric === undefined) {
    byMetric = new Map();
    found.set(bucket, byMetric);
  }
  const m = byMetric.get(metric);
  if (m === undefined) {
    byMetric.set(metric, { count: 1, mean: value, m2: 0, min: value, max: value });
    return;
  }
  m.count++;
  const delta = value - m.mean;
  m.mean += delta / m.count;
  m.m2 += delta * (value - m.mean);
  if (value < m.min) m.min = value;
  if (value > m.max) m.max = value;
}

async function rawSlice(
  sql: Sql,
  kind: Kind,
  twin: TwinKey,
  metrics: readonly string[] | null,
  span: Span,
  grid: Grid,
): Promise<MomentsRow[]> {
  const binder = new Binder();
  const bucket = bucketOf('r.at', grid, binder);
  const where = `r.twin = ${binder.add(twin.twin, '::bigint')} and r.at >= ${binder.time(span.from)} and r.at < ${binder.time(span.to)}`;
  const of = (v: string) => `count(${v}), avg(${v}), regr_sxx(${v}, ${v}), min(${v}), max(${v})`;
  if (kind.openMetrics) {
    return await sql.query<MomentsRow>(
      `select bucket, metric, n, mean, m2, lo, hi from (
         select ${bucket}, r.metric, ${of('r.value')} from ${tableOf(kind)} r
         where ${where} and ${carrying(kind, 'r', metrics, binder)} group by 1, 2
       ) as x(bucket, metric, n, mean, m2, lo, hi)`,
      binder.values,
    );
  }
  const names = metrics ?? kind.metricNames;
  const columns = names.map((_, i) => `n${i}, mean${i}, m2${i}, lo${i}, hi${i}`).join(', ');
  return await sql.query<MomentsRow>(
    `select x.bucket, y.metric, y.n, y.mean, y.m2, y.lo, y.hi from (
       select ${bucket}, ${names.map((name) => of(`r."${name}"`)).join(', ')} from ${tableOf(kind)} r where ${where} group by 1
     ) as x(bucket, ${columns})
     cross join lateral (values ${names.map((name, i) => `('${name}', n${i}, mean${i}, m2${i}, lo${i}, hi${i})`).join(', ')})
       as y(metric, n, mean, m2, lo, hi) where y.n > 0`,
    binder.values,
  );
}

/** Rollup rows of a span, merged by the database; two steps, so that the mean is known before the squares are summed. */
async function rolledMoments(
  sql: Sql,
  kind: Kind,
  twin: TwinKey,
  metrics: readonly string[] | null,
  span: Span,
  grid: Grid,
  found: Found,
): Promise<void> {
  const binder = new Binder();
  const bucket = bucketOf('r.bucket', grid, binder);
  const only = metrics === null ? 'true' : `r.metric = any(${binder.add([...metrics], '::text[]')})`;
  const rows = await sql.query<MomentsRow>(
    `with parts as (
       select ${bucket} as bucket, r.metric, (r.record_count - r.null_count)::float8 as n, r.avg, r.std, r.min, r.max
       from ${rollupTable(kind, grid.rollup!)} r
       where r.twin = ${binder.add(twin.twin, '::bigint')} and r.bucket >= ${binder.time(span.from)} and r.bucket < ${binder.time(span.to)}
         and r.record_count > r.null_count and ${only}
     ), means as (
       select bucket, metric, sum(n * avg) / sum(n) as mean from parts group by 1, 2
     )
     select p.bucket, p.metric, sum(p.n)::float8 as n, min(m.mean) as mean,
            sum(coalesce(p.std * p.std, 0) * (p.n - 1) + p.n * (p.avg - m.mean) * (p.avg - m.mean)) as m2, min(p.min) as lo, max(p.max) as hi
     from parts p join means m on m.bucket = p.bucket and m.metric = p.metric group by 1, 2`,
    binder.values,
  );
  for (const row of rows) add(found, row);
}

function add(found: Found, row: MomentsRow): void {
  const at = row.bucket.getTime();
  let byMetric = found.get(at);
  if (byMetric === undefined) {
    byMetric = new Map();
    found.set(at, byMetric);
  }
  const part: Moments = { count: row.n, mean: row.mean, m2: row.m2 ?? 0, min: row.lo, max: row.hi };
  byMetric.set(row.metric, merged(byMetric.get(row.metric), part));
}

/**
 * Open ends of a span closed by what there is: from the oldest reading (raw or rolled), to just behind the newest. Null
 * where there is nothing between.
 */
async function boundsOf(sql: Sql, kind: Kind, twin: TwinKey, span: Partial<Span>): Promise<Span | null> {
  const table = tableOf(kind);
  const daily = rollupTable(kind, 'daily');
  const [row] = await sql.query<Record<'first' | 'last' | 'first_day' | 'last_day', Date | null>>(
    `select (select min(at) from ${table} where twin = $1::bigint) as first,
            (select max(at) from ${table} where twin = $1::bigint) as last,
            (select min(bucket) from ${daily} where twin = $1::bigint) as first_day,
            (select max(bucket) from ${daily} where twin = $1::bigint) as last_day`,
    [twin.twin],
  );
  const { first: firstRaw, last: lastRaw, first_day: firstDay, last_day: lastDay } = row;
  if (firstRaw === null && firstDay === null) return null;
  const first = Math.min(firstRaw?.getTime() ?? LATEST_MS, firstDay?.getTime() ?? LATEST_MS);
  const last = lastRaw !== null ? lastRaw.getTime() : lastDay!.getTime() + DAY_MS - 1;
  const out = { from: Math.max(span.from ?? first, first), to: Math.min(span.to ?? last + 1, last + 1) };
  return out.from < out.to ? out : null;
}

function inOrder(
  byMetric: Map<string, Moments>,
  of: (m: Moments) => BucketStatistics,
): Record<string, BucketStatistics> {
  const out: Record<string, BucketStatistics> = {};
  for (const name of [...byMetric.keys()].sort()) out[name] = of(byMetric.get(name)!);
  return out;
}
