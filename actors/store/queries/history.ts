import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import {
  behind,
  carrying,
  columnsOf,
  type HistoryItem,
  type HistoryRow,
  historyItem,
  metricsOf,
  orderOf,
  TIE_TYPES,
  tableOf,
  tieKeys,
} from './history-table.ts';
import { Binder, type CursorKey, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
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

/** One page, through the index (twin, at). Throws `bad_request`. */
export async function rawHistory(sql: Sql, kind: Kind, twin: TwinKey, query: HistoryQuery): Promise<Page<HistoryItem>> {
  const limit = limitOf(query.limit, 1_000, 5_000);
  const metrics = metricsOf(kind, query.metric);
  const descending = query.order === 'desc';
  const scope = JSON.stringify(['history', twin.twin, metrics, descending]);
  const binder = new Binder();
  const where = [`r.twin = ${binder.add(twin.twin, '::bigint')}`, carrying(kind, 'r', metrics, binder)];
  if (query.span.from !== undefined) where.push(`r.at >= ${binder.time(query.span.from)}`);
  if (query.span.to !== undefined) where.push(`r.at < ${binder.time(query.span.to)}`);
  if (query.cursor !== undefined) {
    const [at, ...tie] = decodeCursor(query.cursor, scope, ['time', ...TIE_TYPES]) as [number, ...CursorKey[]];
    where.push(behind(kind, 'r', descending, { at, tie }, binder));
  }
  const rows = await sql.query<HistoryRow>(
    `select ${columnsOf(kind, 'r', metrics)} from ${tableOf(kind)} r where ${where.join(' and ')}
     order by ${orderOf(kind, 'r', descending)} limit ${limit + 1}`,
    binder.values,
  );
  return pageOf(
    rows,
    limit,
    (row) => historyItem(kind, metrics, row),
    (row) => encodeCursor(scope, [row.at.getTime(), ...tieKeys(row)]),
  );
}
