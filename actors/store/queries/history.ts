import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { type HistoryItem, type HistoryRow, historyItem, metricsOf, TIE_TYPES, tieKeys } from './history-table.ts';
import type { OlderReadings } from './older.ts';
import { type CursorKey, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
import { type Place, readingPages } from './readings.ts';
import type { Span } from './span.ts';
import type { TwinKey } from './twin-key.ts';

/** Raw readings of one twin. */
export interface HistoryQuery {
  /** Names separated by commas; default all. Readings without any of them are left out. */
  metric?: string;
  /** Event time; what is missing is open. */
  span: Partial<Span>;
  /** 1 to 5,000, default 1,000. */
  limit?: number;
  cursor?: string;
  /** By event time: `asc` (default) or `desc`. */
  order?: 'asc' | 'desc';
}

/** One page, through the index (twin, at), and from the archive below what the database has. Throws `bad_request`. */
export async function rawHistory(
  sql: Sql,
  kind: Kind,
  twin: TwinKey,
  query: HistoryQuery,
  older: OlderReadings | null = null,
): Promise<Page<HistoryItem>> {
  const limit = limitOf(query.limit, 1_000, 5_000);
  const metrics = metricsOf(kind, query.metric);
  const descending = query.order === 'desc';
  const scope = JSON.stringify(['history', twin.twin, metrics, descending]);
  let after: Place | undefined;
  if (query.cursor !== undefined) {
    const [at, ...tie] = decodeCursor(query.cursor, scope, ['time', ...TIE_TYPES]) as [number, ...CursorKey[]];
    after = { at, tie };
  }
  const wanted = limit + 1;
  const rows: HistoryRow[] = [];
  const { span } = query;
  for await (const page of readingPages(
    sql,
    kind,
    twin,
    { metrics, span, descending, after, pageRows: wanted },
    older,
  )) {
    rows.push(...page.slice(0, wanted - rows.length));
    if (rows.length === wanted) break;
  }
  return pageOf(
    rows,
    limit,
    (row) => historyItem(kind, metrics, row),
    (row) => encodeCursor(scope, [row.at.getTime(), ...tieKeys(row)]),
  );
}
