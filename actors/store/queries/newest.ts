import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import {
  behind,
  carrying,
  columnsOf,
  type HistoryRow,
  metricsOf,
  orderOf,
  TIE_TYPES,
  tableOf,
  tieKeys,
} from './history-table.ts';
import { Binder, type CursorKey, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
import type { Span } from './span.ts';

/**
 * Readings of all twins of a kind, newest first, although history is indexed by twin only: a page of n rows comes from at
 * most the n twins whose newest reading (before the cursor) is newest, and none of it is older than the oldest of these.
 * One probe of the index a twin, then n rows.
 */
export interface NewestQuery {
  /** Asset id, without the kind. */
  id?: string;
  metric?: string;
  span: Partial<Span>;
  /** 1 to 1,000, default 100. */
  limit?: number;
  cursor?: string;
}

export type NewestRow = HistoryRow & { id: string };

/** Throws `bad_request`. */
export async function newestReadings<Item>(
  sql: Sql,
  kind: Kind,
  query: NewestQuery,
  item: (row: NewestRow) => Item,
): Promise<Page<Item>> {
  const limit = limitOf(query.limit, 100, 1_000);
  const metrics = metricsOf(kind, query.metric);
  const scope = JSON.stringify(['newest', kind.kind, query.id ?? null, metrics]);
  const b = new Binder();
  const table = tableOf(kind);
  const twins = [`t.kind = ${b.add(kind.kind, '::text')}`];
  if (query.id !== undefined) twins.push(`t.id = ${b.add(query.id, '::text')}`);
  const within = ['r.twin = t.twin', carrying(kind, 'r', metrics, b)];
  if (query.span.from !== undefined) within.push(`r.at >= ${b.time(query.span.from)}`);
  if (query.span.to !== undefined) within.push(`r.at < ${b.time(query.span.to)}`);
  if (query.cursor !== undefined) {
    const [at, twin, ...tie] = decodeCursor(query.cursor, scope, ['time', 'integer', ...TIE_TYPES]) as [
      number,
      number,
      ...CursorKey[],
    ];
    within.push(behind(kind, 'r', true, { at, twin, tie }, b));
  }
  const conditions = within.join(' and ');
  const most = b.add(limit + 1, '::int');
  const rows = await sql.query<NewestRow>(
    `with lead as materialized (
       select t.twin, t.id, n.at from twins t
       cross join lateral (select r.at from ${table} r where ${conditions} order by r.at desc limit 1) n
       where ${twins.join(' and ')} order by n.at desc, t.twin desc limit ${most}
     ), edge as materialized (
       select case when count(*) >= ${most} then min(at) else '-infinity' end as at from lead
     )
     select t.id, r.* from lead t cross join lateral (
       select ${columnsOf(kind, 'r', metrics)} from ${table} r where ${conditions} and r.at >= (select at from edge)
       order by ${orderOf(kind, 'r', true, true)} limit ${most}
     ) r order by ${orderOfColumns()} limit ${most}`,
    b.values,
  );
  return pageOf(rows, limit, item, (row) => encodeCursor(scope, [row.at.getTime(), row.twin, ...tieKeys(row)]));
}

/** The same order over the selected columns. */
function orderOfColumns(): string {
  return [
    'r.at',
    'r.twin',
    'coalesce(r.revision, 0)',
    `coalesce(r.key, '')`,
    'coalesce(r.seq, -9007199254740991)',
    `coalesce(r.sensor, '')`,
    'r.o_set',
  ]
    .map((e) => `${e} desc`)
    .join(', ');
}
