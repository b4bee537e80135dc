import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { type HistoryRow, metricsOf } from './history-table.ts';
import type { OlderReadings } from './older.ts';
import { Binder } from './page.ts';
import { readingPages } from './readings.ts';
import type { Span } from './span.ts';

/**
 * All readings of a kind, twin by twin in order of id, each in order of event time: page by page, or as CSV.
 *
 * Invariants:
 *  X1  Memory is bounded by one page; no transaction outlives a page, so an export of hours holds nothing up.
 *  X2  Every reading that was there at the start is in it once. Twins are read as they were at the start of their page.
 *  X3  Cells are ids of the allow-list, ISO times, numbers, and for open kinds metric names and quoted units.
 */
export interface ExportQuery {
  /** Asset ids, without the kind; default all. */
  ids?: readonly string[];
  metric?: string;
  span: Partial<Span>;
  pageRows?: number;
}

/** Readings of one twin. */
export interface ExportPage {
  id: string;
  rows: readonly HistoryRow[];
}

/** What a row of an export holds beside id and time. Throws `bad_request`. */
export function exportedNames(kind: Kind, metric: string | undefined): readonly string[] {
  const metrics = metricsOf(kind, metric);
  return kind.openMetrics ? ['metric', 'value', 'unit'] : (metrics ?? kind.metricNames);
}

/** Throws `bad_request` before the first page. */
export async function* exportPages(
  sql: Sql,
  kind: Kind,
  query: ExportQuery,
  older: OlderReadings | null = null,
): AsyncGenerator<ExportPage, void, void> {
  const metrics = metricsOf(kind, query.metric);
  const { ids, span, pageRows = 2_000 } = query;
  for await (const twin of twinsOf(sql, kind, ids)) {
    for await (const rows of readingPages(sql, kind, twin, { metrics, span, pageRows }, older)) {
      yield { id: twin.id, rows };
    }
  }
}

/** Chunks of CSV text, the header in the first. `idColumn` is the name of the first column; `told` hears the rows of each. Throws `bad_request` before the first chunk. */
export async function* exportCsv(
  sql: Sql,
  kind: Kind,
  query: ExportQuery & { idColumn: string; told?: (rows: number) => void },
  older: OlderReadings | null = null,
): AsyncGenerator<string, void, void> {
  const names = exportedNames(kind, query.metric);
  yield `${[query.idColumn, 'timestamp', ...names].join(',')}\n`;
  for await (const { id, rows } of exportPages(sql, kind, query, older)) {
    query.told?.(rows.length);
    let text = '';
    for (const row of rows) text += `${id},${row.at.toISOString()},${names.map((name) => cell(row[name])).join(',')}\n`;
    yield text;
  }
}

async function* twinsOf(
  sql: Sql,
  kind: Kind,
  ids: readonly string[] | undefined,
): AsyncGenerator<{ twin: number; id: string }, void, void> {
  const page = 500;
  for (let after = ''; ; ) {
    const b = new Binder();
    const where = [`kind = ${b.add(kind.kind, '::text')}`, `id > ${b.add(after, '::text')}`];
    if (ids !== undefined) where.push(`id = any(${b.add([...ids], '::text[]')})`);
    const rows = await sql.query<{ twin: number; id: string }>(
      `select twin, id from twins where ${where.join(' and ')} order by kind, id limit ${page}`,
      b.values,
    );
    yield* rows;
    if (rows.length < page) return;
    after = rows[rows.length - 1].id;
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
