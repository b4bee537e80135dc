import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { behind, columnsOf, type HistoryRow, orderOf, tableOf } from './history-table.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
import { type Place, placeOf } from './readings.ts';
import type { Span } from './span.ts';

/**
 * What the archive asks of the database and writes down in it.
 *
 * Invariants:
 *  A1  Steps are numbered per kind: of two nodes that archive at once only one registers what it wrote (`register`).
 *  A2  `archive_rows` says how many rows of a twin's day, of those that the database has, are in the archive. Where it is
 *      not what the database has, rows came late; retention leaves such a day alone (retention.ts T4).
 *  A3  No statement is about more than a page of twins, or of rows.
 */
export interface ArchiveRow extends HistoryRow {
  twin_id: string;
  id: string;
  attributes: string | null;
  metric_set?: string | null;
}

export interface ArchiveTwin {
  twin: number;
  id: string;
  twin_id: string;
  /** Readings of the span. */
  rows: number;
}

export interface ArchiveState {
  step_no: number;
  done_to: Date;
}

/** A file in the archive, as it is registered. */
export interface ArchivedFile {
  key: string;
  kind: string;
  day: Date;
  first_id: string;
  last_id: string;
  rows: number;
  bytes: number;
  sha256: string;
  late: boolean;
  written_at: Date;
}

const TWINS_A_PAGE = 500;
const ROWS_A_PAGE = 5_000;

export async function archiveState(sql: Sql, kind: Kind): Promise<ArchiveState> {
  const [row] = await sql.query<ArchiveState>(
    `insert into archive_state (kind) values ($1::text) on conflict (kind) do update set kind = excluded.kind returning step_no, done_to`,
    [kind.kind],
  );
  return row;
}

/** Event time of the oldest reading from `from` on; null where there is none. */
export async function oldestReading(sql: Sql, kind: Kind, from: number): Promise<number | null> {
  let oldest: number | null = null;
  for (let after: number | null = 0; after !== null; ) {
    const b: Binder = new Binder();
    const [row]: { at: Date | null; last: number | null }[] = await sql.query(
      `select min(m.at) as at, max(t.twin) as last from (
         select twin from twins where kind = ${b.add(kind.kind, '::text')} and twin > ${b.add(after, '::bigint')} order by twin limit ${TWINS_A_PAGE}
       ) t left join lateral (
         select r.at from ${tableOf(kind)} r where r.twin = t.twin and r.at >= ${b.time(from)} order by r.at limit 1
       ) m on true`,
      b.values,
    );
    if (row.at !== null) oldest = Math.min(oldest ?? Number.POSITIVE_INFINITY, row.at.getTime());
    after = row.last;
  }
  return oldest;
}

/** Twins that have readings in a span, in order of id. */
export async function twinsWithReadings(sql: Sql, kind: Kind, span: Span): Promise<ArchiveTwin[]> {
  const out: ArchiveTwin[] = [];
  for (let after = ''; ; ) {
    const b = new Binder();
    const rows = await sql.query<ArchiveTwin>(
      `select t.twin, t.id, t.twin_id, c.rows from (
         select twin, id, twin_id from twins where kind = ${b.add(kind.kind, '::text')} and id > ${b.add(after, '::text')}
         order by kind, id limit ${TWINS_A_PAGE}
       ) t cross join lateral (
         select count(*) as rows from ${tableOf(kind)} r where r.twin = t.twin and r.at >= ${b.time(span.from)} and r.at < ${b.time(span.to)}
       ) c order by t.id`,
      b.values,
    );
    for (const row of rows) if (row.rows > 0) out.push(row);
    if (rows.length < TWINS_A_PAGE) return out;
    after = rows[rows.length - 1].id;
  }
}

/** Every reading of a span with all its columns: twin by twin in the order given, each in its order; pages that are not empty. */
export async function* readingsToArchive(
  sql: Sql,
  kind: Kind,
  twins: readonly ArchiveTwin[],
  span: Span,
): AsyncGenerator<ArchiveRow[], void, void> {
  for (let i = 0; i < twins.length; ) {
    let upto = i + 1;
    let sum = twins[i].rows;
    while (upto < twins.length && sum + twins[upto].rows <= ROWS_A_PAGE) sum += twins[upto++].rows;
    const page = twins.slice(i, upto);
    if (page.length > 1) {
      const rows = await rowsOf(sql, kind, page, span, null);
      if (rows.length > 0) yield rows;
    } else {
      for (let after: Place | null = null; ; ) {
        const rows: ArchiveRow[] = await rowsOf(sql, kind, page, span, after);
        if (rows.length > 0) yield rows;
        if (rows.length < ROWS_A_PAGE) break;
        after = placeOf(rows[rows.length - 1]);
      }
    }
    i = upto;
  }
}

/** Of one twin a page behind `after`; of several everything, which the caller knows to be about a page. */
async function rowsOf(
  sql: Sql,
  kind: Kind,
  twins: readonly ArchiveTwin[],
  span: Span,
  after: Place | null,
): Promise<ArchiveRow[]> {
  const b = new Binder();
  const columns = `${columnsOf(kind, 'r', null)}, r.attributes::text as attributes${kind.openMetrics ? ', r.metric_set' : ''}`;
  const where = [`r.at >= ${b.time(span.from)}`, `r.at < ${b.time(span.to)}`];
  if (after !== null) where.push(behind(kind, 'r', false, after, b));
  const of = b.add(
    twins.map(({ twin }) => twin),
    '::bigint[]',
  );
  const rows = await sql.query<ArchiveRow>(
    `select ${columns} from unnest(${of}) with ordinality as w(twin, place) join ${tableOf(kind)} r on r.twin = w.twin
     where ${where.join(' and ')} order by w.place, ${orderOf(kind, 'r', false)} ${twins.length === 1 ? `limit ${ROWS_A_PAGE}` : ''}`,
    b.values,
  );
  const names = new Map(twins.map((twin) => [twin.twin, twin]));
  for (const row of rows) {
    const { id, twin_id } = names.get(row.twin)!;
    row.id = id;
    row.twin_id = twin_id;
  }
  return rows;
}

/** Writes down what has been written (A1, A2). False: another node took the step, and nothing was written down. */
export async function register(
  sql: Sql,
  kind: Kind,
  stepNo: number,
  done: { day: number; doneTo: number | null; files: readonly ArchivedFile[]; rows: ReadonlyMap<number, number> },
): Promise<boolean> {
  const b = new Binder();
  const name = b.add(kind.kind, '::text');
  const day = b.time(done.day);
  const doneTo = done.doneTo === null ? 'done_to' : `greatest(done_to, ${b.time(done.doneTo)})`;
  const [row] = await sql.query<{ taken: boolean }>(
    `with fence as (
       update archive_state set step_no = step_no + 1, done_to = ${doneTo}
       where kind = ${name} and step_no = ${b.add(stepNo, '::bigint')} returning 1
     ), files as (
       insert into archives (key, kind, day, first_id, last_id, rows, bytes, sha256, late, written_at)
       select x.key, ${name}, ${day}, x.first_id, x.last_id, x.rows, x.bytes, x.sha256, x.late, x.written_at
       from fence cross join jsonb_to_recordset(${b.add(JSON.stringify(done.files), '::jsonb')}) as x(
         key text, first_id text, last_id text, rows bigint, bytes bigint, sha256 text, late boolean, written_at timestamptz) returning 1
     ), counted as (
       insert into archive_rows (kind, twin, day, rows)
       select ${name}, u.twin, ${day}, u.rows from fence
       cross join unnest(${b.add([...done.rows.keys()], '::bigint[]')}, ${b.add([...done.rows.values()], '::bigint[]')}) as u(twin, rows)
       on conflict (twin, day, kind) do update set rows = excluded.rows returning 1
     )
     select (select count(*) from fence) > 0 as taken`,
    b.values,
  );
  return row.taken;
}

export interface LateDay extends ArchiveTwin {
  day: Date;
}

/** Days of twins, wholly in the span, of which the database has other rows than the archive counts (A2): up to `most`. */
export async function lateDays(sql: Sql, kind: Kind, span: Span, most: number): Promise<LateDay[]> {
  const out: LateDay[] = [];
  for (let after = 0; out.length < most; ) {
    const b = new Binder();
    const name = b.add(kind.kind, '::text');
    const rows = await sql.query<LateDay & { last: number | null }>(
      `with page as materialized (
         select twin, id, twin_id from twins where kind = ${name} and twin > ${b.add(after, '::bigint')} order by twin limit ${TWINS_A_PAGE}
       )
       select (select max(twin) from page) as last, p.twin, p.id, p.twin_id, p.day, p.rows from (select 1) as one left join (
         select t.twin, t.id, t.twin_id, d.day, d.rows from page t cross join lateral (
           select date_bin('1 day', r.at, 'epoch') as day, count(*) as rows from ${tableOf(kind)} r
           where r.twin = t.twin and r.at >= ${b.time(span.from)} and r.at < ${b.time(span.to)} group by 1
         ) d left join archive_rows a on a.kind = ${name} and a.twin = t.twin and a.day = d.day
         where a.rows is distinct from d.rows
       ) p on true order by p.twin, p.day`,
      b.values,
    );
    for (const { last: _, ...row } of rows) if (row.twin !== null) out.push(row);
    const [{ last }] = rows;
    if (last === null) break;
    after = last;
  }
  return out.slice(0, most);
}

/** Registered files of a kind with days in a span, that may hold a twin; in order of day and key. */
export async function archivedFiles(sql: Sql, kind: string, span: Partial<Span>, id?: string): Promise<ArchivedFile[]> {
  const b = new Binder();
  const where = [`kind = ${b.add(kind, '::text')}`];
  if (span.from !== undefined) where.push(`day > ${b.time(span.from)}::timestamptz - interval '1 day'`);
  if (span.to !== undefined && Number.isFinite(span.to)) where.push(`day < ${b.time(span.to)}`);
  if (id !== undefined) {
    const text = b.add(id, '::text');
    where.push(`first_id <= ${text} and last_id >= ${text}`);
  }
  return await sql.query<ArchivedFile>(
    `select * from archives where ${where.join(' and ')} order by day, key`,
    b.values,
  );
}

/** The first and the last day of which there are files; null where there are none. */
export async function archivedDays(sql: Sql, kind: string): Promise<{ first: number; last: number } | null> {
  const [{ first, last }] = await sql.query<{ first: Date | null; last: Date | null }>(
    'select min(day) as first, max(day) as last from archives where kind = $1::text',
    [kind],
  );
  return first === null || last === null ? null : { first: first.getTime(), last: last.getTime() };
}

/** Days of which files were written since. */
export async function daysWrittenSince(sql: Sql, kind: Kind, sinceMs: number): Promise<number[]> {
  const b = new Binder();
  const rows = await sql.query<{ day: Date }>(
    `select distinct day from archives where kind = ${b.add(kind.kind, '::text')} and written_at >= ${b.time(sinceMs)} order by day`,
    b.values,
  );
  return rows.map(({ day }) => day.getTime());
}

/** Takes the files of expired days, and everything counted of them, out of the books. */
export async function forget(sql: Sql, kind: Kind, beforeMs: number): Promise<void> {
  const b = new Binder();
  const where = `kind = ${b.add(kind.kind, '::text')} and day < ${b.time(beforeMs)}`;
  await sql.query(
    `with files as (delete from archives where ${where} returning 1) delete from archive_rows where ${where}`,
    b.values,
  );
}

/** Of days whose rows are all gone from the database nothing has to be counted any more. */
export async function forgetEmpty(sql: Sql, kind: Kind): Promise<void> {
  await sql.query('delete from archive_rows where kind = $1::text and rows = 0', [kind.kind]);
}

/** Registered files, newest day first. Throws `bad_request`. */
export async function archivePage(
  sql: Sql,
  query: { kind?: string; limit?: number; cursor?: string },
): Promise<Page<ArchivedFile> & { cursorOf(file: ArchivedFile): string }> {
  const limit = limitOf(query.limit, 100, 500);
  const scope = JSON.stringify(['archives', query.kind ?? null]);
  const cursorOf = (file: ArchivedFile) => encodeCursor(scope, [file.day.getTime(), file.key]);
  const b = new Binder();
  const where = ['true'];
  if (query.kind !== undefined) where.push(`kind = ${b.add(query.kind, '::text')}`);
  if (query.cursor !== undefined) {
    const [day, key] = decodeCursor(query.cursor, scope, ['time', 'text']);
    where.push(`(day, key) < (${b.time(day as number)}, ${b.add(key, '::text')})`);
  }
  const rows = await sql.query<ArchivedFile>(
    `select * from archives where ${where.join(' and ')} order by day desc, key desc limit ${limit + 1}`,
    b.values,
  );
  return { ...pageOf(rows, limit, (file) => file, cursorOf), cursorOf };
}
