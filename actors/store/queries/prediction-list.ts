import type { Sql } from '../sql.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page } from './page.ts';
import { HOUR_MS, iso, type Span } from './span.ts';
import type { TwinKey } from './twin-key.ts';

/**
 * What models said of a twin, in the order of its journal: the truth of predictions are the entries, and the view `predictions`
 * shows them.
 *
 *  1 Only the journal of this twin is read, through its key (twin, revision): no index is kept for predictions, which every
 *    insert of one would pay for.
 *  2 A page reads so many predictions at most, whatever is asked for: it may be short, or empty, and still have a cursor.
 *  3 The event time that a state had reached never falls from a revision to the next, and each answer names the revision it is
 *    based on. So the bounds of a span are found by halving, although answers of several models pass each other in flight.
 *  4 When they were received, by the clocks of the owners, may fall from a revision to the next: after a move, by any amount. Nothing
 *    is decided on it but how far to read on, and that only among answers of one owner.
 */
export interface PredictionQuery {
  /** As the kind calls it: `rul`. */
  name?: string;
  /** Event time that they are based on. */
  span: Partial<Span>;
  /** 1 to 1,000, default 100. */
  limit?: number;
  cursor?: string;
  order?: 'asc' | 'desc';
}

export interface PredictionItem extends Record<string, unknown> {
  revision: number;
  name: string;
  model: string;
  version: string;
  /** Event time of the newest reading it is based on. */
  at: string | null;
  predictedAt: string;
  basedOn: number;
}

interface Row {
  revision: number;
  name: string;
  based_on: number;
  predicted_at: Date;
  body: Record<string, unknown>;
}

/** Looked through for a page that leaves some out. */
const MOST_READ = 20_000;
/** No answer is on its way for so long: a question has a deadline of seconds, and is forgotten with its host. */
const FLIGHT_MS = HOUR_MS;
/** Beyond it a number is no time (ECMA-262, Time Values). */
const MAX_TIME_MS = 8.64e15;
const AT = `case when json_typeof(p.body -> 'at') = 'number' then (p.body ->> 'at')::float8 end`;

/** Throws `bad_request`. */
export async function listPredictions(sql: Sql, twin: TwinKey, query: PredictionQuery): Promise<Page<PredictionItem>> {
  const limit = limitOf(query.limit, 100, 1_000);
  const { name, span, order = 'asc' } = query;
  const scope = JSON.stringify(['predictions', twin.twin, name ?? null, order]);
  const [after] = query.cursor === undefined ? [null] : decodeCursor(query.cursor, scope, ['integer']);
  const { from, to } = await boundsOf(sql, twin.twin, span);
  const b = new Binder();
  const range = [`p.twin = ${b.add(twin.twin, '::bigint')}`];
  if (from !== null) range.push(`p.revision > ${b.add(from, '::bigint')}`);
  if (to !== null) range.push(`p.revision <= ${b.add(to, '::bigint')}`);
  if (after !== null) range.push(`p.revision ${order === 'asc' ? '>' : '<'} ${b.add(after, '::bigint')}`);
  const read = `from predictions p where ${range.join(' and ')} order by p.revision ${order}`;
  const ofRange = [...b.values];
  const where = ['true'];
  if (name !== undefined) where.push(`p.name = ${b.add(name, '::text')}`);
  if (span.from !== undefined) where.push(`${AT} >= ${b.add(span.from, '::float8')}`);
  if (span.to !== undefined) where.push(`${AT} < ${b.add(span.to, '::float8')}`);
  const rows = await sql.query<Row>(
    `select p.revision, p.name, p.based_on, p.predicted_at, p.body
     from (select p.revision, p.name, p.based_on, p.predicted_at, p.body ${read} limit ${MOST_READ}) p
     where ${where.join(' and ')} order by p.revision ${order} limit ${limit + 1}`,
    b.values,
  );
  const items = rows.slice(0, limit).map(itemOf);
  if (rows.length > limit) return { items, nextCursor: encodeCursor(scope, [rows[limit - 1].revision]) };
  if (where.length === 1) return { items, nextCursor: null };
  const [last] = await sql.query<{ revision: number }>(
    `select p.revision ${read} offset ${MOST_READ - 1} limit 1`,
    ofRange,
  );
  return { items, nextCursor: last === undefined ? null : encodeCursor(scope, [last.revision]) };
}

function itemOf({ revision, name, based_on, predicted_at, body }: Row): PredictionItem {
  const { model, at, ...said } = body;
  const id = typeof model === 'string' ? model : '';
  const split = id.lastIndexOf('@');
  return {
    revision,
    name,
    model: split < 0 ? id : id.slice(0, split),
    version: split < 0 ? '' : id.slice(split + 1),
    at: typeof at === 'number' && Math.abs(at) <= MAX_TIME_MS ? iso(at) : null,
    predictedAt: predicted_at.toISOString(),
    basedOn: based_on,
    ...said,
  };
}

/** Revisions after `from` and up to `to` have all predictions of the span, and few others. Null: open. */
async function boundsOf(
  sql: Sql,
  twin: number,
  span: Partial<Span>,
): Promise<{ from: number | null; to: number | null }> {
  const [from, to] = await Promise.all([
    span.from === undefined ? null : lastOf(sql, twin, `${AT} < $2::float8`, span.from),
    span.to === undefined ? null : endOf(sql, twin, span.to),
  ]);
  if (from === null) return { from, to };
  // What is based on a later state than an answer from before the span may be of the span: what is based on it is not.
  const [before] = await sql.query<{ based_on: number }>(
    'select based_on from predictions where twin = $1::bigint and revision = $2::bigint',
    [twin, from],
  );
  return { from: before?.based_on ?? null, to };
}

/**
 * Found is an answer from after `to` (event time): the twin had reached `to` when it was asked. What is answered later and is from
 * before `to` was in flight by then, and an answer is only folded by the memory that was asked: both were received by one owner, on
 * one clock, within the time in flight. Halving begins at the answer that was found: an owner whose clock is ahead or behind, before
 * or after it, makes the end lie further on, and never before one of these.
 */
async function endOf(sql: Sql, twin: number, to: number): Promise<number | null> {
  const last = await lastOf(sql, twin, `${AT} < $2::float8`, to);
  const [next] = await sql.query<{ revision: number; predicted_at: Date }>(
    'select revision, predicted_at from predictions where twin = $1::bigint and revision > $2::bigint order by revision limit 1',
    [twin, last],
  );
  if (next === undefined) return null;
  const until = iso(next.predicted_at.getTime() + FLIGHT_MS);
  return await lastOf(sql, twin, 'p.predicted_at <= $2::timestamptz', until, next.revision);
}

/**
 * By halving: a prediction of which `isBefore` holds and of whose successor it does not; `least` where it holds of none that was
 * met. What lies before `least` is not looked at.
 * Looks at one entry for each bit of the newest revision.
 */
async function lastOf(sql: Sql, twin: number, isBefore: string, value: number | string, least = 0): Promise<number> {
  const [{ lo }] = await sql.query<{ lo: number }>(
    `with recursive probe(lo, hi) as (
       select $3::bigint, (select coalesce(max(revision), 0) + 1 from entries where twin = $1::bigint)
       union all
       select case when met.is_before then met.revision else probe.lo end,
         case when met.is_before then probe.hi else probe.lo + (probe.hi - probe.lo) / 2 end
       from probe left join lateral (
         select p.revision, ${isBefore} as is_before from predictions p
         where p.twin = $1::bigint and p.revision >= probe.lo + (probe.hi - probe.lo) / 2 and p.revision < probe.hi
         order by p.revision limit 1) met on true
       where probe.hi - probe.lo > 1)
     select lo from probe order by hi - lo limit 1`,
    [twin, value, least],
  );
  return lo;
}
