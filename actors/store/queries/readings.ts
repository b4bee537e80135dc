import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import {
  behind,
  carries,
  carrying,
  columnsOf,
  compareRows,
  type HistoryRow,
  orderOf,
  tableOf,
  tieKeys,
} from './history-table.ts';
import { type OlderReadings, type OlderTwin, trimmedTo } from './older.ts';
import { Binder, type CursorKey } from './page.ts';
import type { Span } from './span.ts';

/**
 * The readings of one twin in their total order, page by page, from the database and, below what it has, from the archive.
 *
 * Invariants:
 *  M1  Each reading once, also where both have it: the order tells any two readings apart, and of equal ones the
 *      database's is taken.
 *  M2  Nothing is lost while retention goes on: where the database has dropped readings (`trimmed_to`) is asked again
 *      after each page, and a page that may have missed some is read again.
 *  M3  Memory holds a page of the database and what the archive reads ahead; no transaction outlives a page.
 */
export interface ReadingsQuery {
  metrics: readonly string[] | null;
  /** Event time; what is missing is open. */
  span: Partial<Span>;
  descending?: boolean;
  /** Behind this reading. */
  after?: Place;
  pageRows: number;
}

/** Place of a reading in the order of its twin. */
export interface Place {
  at: number;
  tie: readonly CursorKey[];
}

export function placeOf(row: HistoryRow): Place {
  return { at: row.at.getTime(), tie: tieKeys(row) };
}

/** Pages that are not empty. */
export async function* readingPages(
  sql: Sql,
  kind: Kind,
  twin: OlderTwin,
  query: ReadingsQuery,
  older: OlderReadings | null,
): AsyncGenerator<HistoryRow[], void, void> {
  if (older === null) yield* storedPages(sql, kind, twin.twin, query);
  else if (query.descending) yield* downwards(sql, kind, twin, query, older);
  else yield* upwards(sql, kind, twin, query, older);
}

async function* upwards(
  sql: Sql,
  kind: Kind,
  twin: OlderTwin,
  query: ReadingsQuery,
  older: OlderReadings,
): AsyncGenerator<HistoryRow[], void, void> {
  const { span, pageRows } = query;
  const end = span.to ?? Number.POSITIVE_INFINITY;
  let from = span.from ?? 0;
  let after = query.after;
  const border = async () => Math.min(await trimmedTo(sql, twin.twin), end);
  for (let trimmed = await border(); ; ) {
    const start = Math.max(from, after?.at ?? 0);
    if (start < trimmed) {
      yield* mergedPages(sql, kind, twin, { ...query, span: { from: start, to: trimmed }, after }, older);
      from = trimmed;
      after = undefined;
      if (trimmed >= end) return;
      trimmed = await border();
      continue;
    }
    const rows = await storedPage(sql, kind, twin.twin, { ...query, span: { ...span, from }, after });
    // M2
    trimmed = await border();
    if (trimmed > start) continue;
    if (rows.length > 0) yield rows;
    if (rows.length < pageRows) return;
    after = placeOf(rows[rows.length - 1]);
  }
}

async function* downwards(
  sql: Sql,
  kind: Kind,
  twin: OlderTwin,
  query: ReadingsQuery,
  older: OlderReadings,
): AsyncGenerator<HistoryRow[], void, void> {
  const { span, pageRows } = query;
  const bottom = span.from ?? 0;
  let after = query.after;
  for (;;) {
    const trimmed = await trimmedTo(sql, twin.twin);
    const from = Math.max(bottom, trimmed);
    const open = (span.to === undefined || span.to > from) && (after === undefined || after.at >= from);
    const rows = open ? await storedPage(sql, kind, twin.twin, { ...query, span: { ...span, from }, after }) : [];
    if ((await trimmedTo(sql, twin.twin)) > trimmed) continue;
    if (rows.length > 0) yield rows;
    if (rows.length === pageRows) {
      after = placeOf(rows[rows.length - 1]);
      continue;
    }
    if (bottom >= trimmed) return;
    const to = Math.min(span.to ?? trimmed, trimmed);
    if (to > bottom)
      yield* mergedPages(
        sql,
        kind,
        twin,
        { ...query, span: { from: bottom, to }, after: open ? undefined : after },
        older,
      );
    return;
  }
}

/** One page of what the database has. */
export async function storedPage(sql: Sql, kind: Kind, twin: number, query: ReadingsQuery): Promise<HistoryRow[]> {
  const { metrics, span, descending = false, after, pageRows } = query;
  const b = new Binder();
  const where = [`r.twin = ${b.add(twin, '::bigint')}`, carrying(kind, 'r', metrics, b)];
  if (span.from !== undefined) where.push(`r.at >= ${b.time(span.from)}`);
  if (span.to !== undefined) where.push(`r.at < ${b.time(span.to)}`);
  if (after !== undefined) where.push(behind(kind, 'r', descending, after, b));
  return await sql.query<HistoryRow>(
    `select ${columnsOf(kind, 'r', metrics)} from ${tableOf(kind)} r where ${where.join(' and ')}
     order by ${orderOf(kind, 'r', descending)} limit ${pageRows}`,
    b.values,
  );
}

async function* storedPages(
  sql: Sql,
  kind: Kind,
  twin: number,
  query: ReadingsQuery,
): AsyncGenerator<HistoryRow[], void, void> {
  for (let after = query.after; ; ) {
    const rows: HistoryRow[] = await storedPage(sql, kind, twin, { ...query, after });
    if (rows.length > 0) yield rows;
    if (rows.length < query.pageRows) return;
    after = placeOf(rows[rows.length - 1]);
  }
}

async function* mergedPages(
  sql: Sql,
  kind: Kind,
  twin: OlderTwin,
  query: ReadingsQuery,
  older: OlderReadings,
): AsyncGenerator<HistoryRow[], void, void> {
  const { metrics, span, descending = false, after, pageRows } = query;
  const compare = (a: HistoryRow, b: HistoryRow) => (descending ? compareRows(b, a) : compareRows(a, b));
  const limit = after === undefined ? null : { at: after.at, tie: after.tie, descending };
  const archived = async function* () {
    for await (const row of older.readings(kind, twin, bounded(span, limit), descending)) {
      if (carries(kind, metrics, row) && (limit === null || isBehind(row, limit))) yield row;
    }
  };
  const stored = async function* () {
    for await (const rows of storedPages(sql, kind, twin.twin, query)) yield* rows;
  };
  let page: HistoryRow[] = [];
  for await (const row of mergeRows([stored(), archived()], compare)) {
    page.push(row);
    if (page.length === pageRows) {
      yield page;
      page = [];
    }
  }
  if (page.length > 0) yield page;
}

type Limit = Place & { descending: boolean };

/** The span cut at the place, so that the archive does not read what is before it. */
function bounded(span: Partial<Span>, limit: Limit | null): Partial<Span> {
  if (limit === null) return span;
  return limit.descending
    ? { ...span, to: Math.min(span.to ?? Number.POSITIVE_INFINITY, limit.at + 1) }
    : { ...span, from: Math.max(span.from ?? 0, limit.at) };
}

function isBehind(row: HistoryRow, { at, tie, descending }: Limit): boolean {
  const [revision, key, seq, sensor, set] = tie as [number, string, number, string, string];
  const order = compareRows(row, { at: new Date(at), revision, key, seq, sensor, o_set: set } as HistoryRow);
  return descending ? order < 0 : order > 0;
}

/** Sorted sources as one, equal readings once: of the first source that has them. */
export async function* mergeRows(
  sources: readonly AsyncGenerator<HistoryRow, void, void>[],
  compare: (a: HistoryRow, b: HistoryRow) => number,
): AsyncGenerator<HistoryRow, void, void> {
  try {
    const heads = await Promise.all(sources.map(async (source) => (await source.next()).value ?? null));
    let last: HistoryRow | null = null;
    for (;;) {
      let least = -1;
      for (let i = 0; i < heads.length; i++) {
        const head = heads[i];
        if (head !== null && (least < 0 || compare(head, heads[least]!) < 0)) least = i;
      }
      if (least < 0) return;
      const row: HistoryRow = heads[least]!;
      if (last === null || compare(last, row) !== 0) yield row;
      last = row;
      heads[least] = (await sources[least].next()).value ?? null;
    }
  } finally {
    await Promise.all(sources.map((source) => source.return()));
  }
}
