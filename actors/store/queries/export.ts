import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { behind, carrying, columnsOf, type HistoryRow, metricsOf, orderOf, tableOf, tieKeys } from './history-table.ts';
import { Binder, type CursorKey } from './page.ts';
import type { Span } from './span.ts';

/**
 * All readings of a kind as CSV, twin by twin in order of id, each in order of event time.
 *
 * Invariants:
 *  X1  Memory is bounded by one page; no transaction outlives a page, so an export of hours holds nothing up.
 *  X2  Every reading that was there at the start is in it once. Twins are read as they were at the start of their page.
 *  X3  Cells are ids of the allow-list, ISO times, numbers, and for open kinds metric names and quoted units.
 */
export interface ExportQuery {
  /** Asset id, without the kind; default all. */
  id?: string;
  metric?: string;
  span: Partial<Span>;
  /** Name of the first column, which holds the asset id. */
  idColumn: string;
  pageRows?: number;
}

/** Chunks of CSV text, the header in the first. Throws `bad_request` before the first chunk. */
export async function* exportCsv(sql: Sql, kind: Kind, query: ExportQuery): AsyncGenerator<string, void, void> {
  const metrics = metricsOf(kind, query.metric);
  const names = kind.openMetrics ? ['metric', 'value', 'unit'] : (metrics ?? kind.metricNames);
  yield `${[query.idColumn, 'timestamp', ...names].join(',')}\n`;
  for await (const twin of twinsOf(sql, kind, query.id)) {
    yield* readingsOf(sql, kind, metrics, names, twin, query);
  }
}

interface ExportedTwin {
  twin: number;
  id: string;
}

async function* twinsOf(sql: Sql, kind: Kind, id: string | undefined): AsyncGenerator<ExportedTwin, void, void> {
  const page = 500;
  for (let after = ''; ; ) {
    const b = new Binder();
    const where = [`kind = ${b.add(kind.kind, '::text')}`, `id > ${b.add(after, '::text')}`];
    if (id !== undefined) where.push(`id = ${b.add(id, '::text')}`);
    const rows = await sql.query<ExportedTwin>(
      `select twin, id from twins where ${where.join(' and ')} order by kind, id limit ${page}`,
      b.values,
    );
    yield* rows;
    if (rows.length < page) return;
    after = rows[rows.length - 1].id;
  }
}

async function* readingsOf(
  sql: Sql,
  kind: Kind,
  metrics: readonly string[] | null,
  names: readonly string[],
  twin: ExportedTwin,
  query: ExportQuery,
): AsyncGenerator<string, void, void> {
  const pageRows = query.pageRows ?? 2_000;
  let after: { at: number; tie: CursorKey[] } | null = null;
  for (;;) {
    const b: Binder = new Binder();
    const where: string[] = [`r.twin = ${b.add(twin.twin, '::bigint')}`, carrying(kind, 'r', metrics, b)];
    if (query.span.from !== undefined) where.push(`r.at >= ${b.time(query.span.from)}`);
    if (query.span.to !== undefined) where.push(`r.at < ${b.time(query.span.to)}`);
    if (after !== null) where.push(behind(kind, 'r', false, after, b));
    const rows: HistoryRow[] = await sql.query<HistoryRow>(
      `select ${columnsOf(kind, 'r', metrics)} from ${tableOf(kind)} r where ${where.join(' and ')}
       order by ${orderOf(kind, 'r', false)} limit ${pageRows}`,
      b.values,
    );
    let text = '';
    for (const row of rows)
      text += `${twin.id},${row.at.toISOString()},${names.map((name) => cell(row[name])).join(',')}\n`;
    if (text !== '') yield text;
    if (rows.length < pageRows) return;
    const last: HistoryRow = rows[rows.length - 1];
    after = { at: last.at.getTime(), tie: tieKeys(last) };
  }
}

/** Numbers as they are; text quoted, and never the start of a formula. */
function cell(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const text = String(value);
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
