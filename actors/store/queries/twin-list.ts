import { TwinmeshError } from '../../protocol/errors.ts';
import { KIND_PATTERN } from '../../protocol/twin-id.ts';
import type { Health } from '../../protocol/view.ts';
import type { Sql } from '../sql.ts';
import { Binder, type CursorKey, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
import { fieldsOf, parseFilter } from './rql.ts';
import { cursorType, parseSort, type SortKey, twinField } from './twin-field.ts';
import { compileFilter } from './twin-filter.ts';

/**
 * The list of twins from their summaries, which are at most a second behind the twins themselves.
 *
 * Invariants:
 *  L1  A page starts behind the sort keys of the last row of the page before: rows that come or go in between shift
 *      nothing. A twin whose sort key does not change is seen exactly once.
 *  L2  Missing values sort last, in both directions.
 *  L3  Retired twins are left out unless the filter names `retired`.
 */
export interface TwinListQuery {
  kind?: string;
  /** RQL, see rql.ts. */
  filter?: string;
  /** `+field,-field`; default `+twinId`. */
  sort?: string;
  /** 1 to 500, default 50. */
  limit?: number;
  cursor?: string;
}

export interface TwinItem {
  twinId: string;
  kind: string;
  id: string;
  revision: number;
  at: string | null;
  receivedAt: string;
  health: Health;
  online: boolean;
  retired: boolean;
  /** How many alerts stand. */
  alerts: number;
  reported: Record<string, number>;
  attributes: Record<string, string | number | boolean>;
}

export interface TwinRow {
  twin_id: string;
  kind: string;
  id: string;
  revision: number;
  at: Date | null;
  received_at: Date;
  health: Health;
  online: boolean;
  retired: boolean;
  alerts: number;
  reported: Record<string, number>;
  attributes: Record<string, string | number | boolean>;
}

export const TWIN_COLUMNS =
  't.twin_id, t.kind, t.id, t.revision, t.at, t.received_at, t.health, t.online, t.retired, t.alerts, t.reported, t.attributes';

export function twinItem(row: TwinRow): TwinItem {
  return {
    twinId: row.twin_id,
    kind: row.kind,
    id: row.id,
    revision: row.revision,
    at: row.at?.toISOString() ?? null,
    receivedAt: row.received_at.toISOString(),
    health: row.health,
    online: row.online,
    retired: row.retired,
    alerts: row.alerts,
    reported: row.reported,
    attributes: row.attributes,
  };
}

/** Throws `bad_request` for a filter, sort, limit or cursor that is not one. */
export async function listTwins(sql: Sql, query: TwinListQuery): Promise<Page<TwinItem>> {
  const limit = limitOf(query.limit, 50, 500);
  const binder = new Binder();
  const where: string[] = [];
  if (query.kind !== undefined) {
    if (!KIND_PATTERN.test(query.kind))
      throw new TwinmeshError('bad_request', 'kind: lower case letters, digits and _.');
    where.push(`t.kind = ${binder.add(query.kind, '::text')}`);
  }
  const filter = query.filter === undefined || query.filter.trim() === '' ? null : parseFilter(query.filter);
  if (filter !== null) where.push(compileFilter(filter, binder));
  if (filter === null || !fieldsOf(filter).includes('retired')) where.push('not t.retired');

  const keys = orderOf(query.sort);
  // The expressions are made once: a parameter in them has to be the same in select, where and order.
  const expressions = keys.map((key) => key.field.sql(binder));
  const scope = JSON.stringify([
    'twins',
    query.kind ?? null,
    query.filter ?? null,
    keys.map((k) => [k.name, k.descending]),
  ]);
  if (query.cursor !== undefined) {
    const after = decodeCursor(
      query.cursor,
      scope,
      keys.map(({ field }) => cursorType(field)),
    );
    where.push(behind(keys, expressions, after, binder));
  }
  const select = expressions.map((expression, i) => `${expression} as k${i}`).join(', ');
  const order = (expression: (i: number) => string) =>
    keys
      .map((key, i) => `${expression(i)} ${key.descending ? 'desc' : 'asc'}${key.field.nullable ? ' nulls last' : ''}`)
      .join(', ');
  // Sorted by the keys alone, and the rest fetched for the page: a sort that carries whole rows takes twice as long.
  const rows = await sql.query<TwinRow & Record<`k${number}`, unknown>>(
    `select ${TWIN_COLUMNS}, k.* from (
       select t.twin, ${select} from twins t where ${where.join(' and ')}
       order by ${order((i) => expressions[i])} limit ${limit + 1}
     ) k join twins t on t.twin = k.twin order by ${order((i) => `k.k${i}`)}`,
    binder.values,
  );
  return pageOf(rows, limit, twinItem, (row) =>
    encodeCursor(
      scope,
      keys.map((key, i) => cursorKey(key, row[`k${i}`])),
    ),
  );
}

/**
 * The sort with what makes it total. A twin id is its kind and its id, and that is the index there is: sorting by
 * twin id means by kind, then by id.
 */
function orderOf(sort: string | undefined): SortKey[] {
  const keys = parseSort(sort === undefined || sort.trim() === '' ? '+twinId' : sort);
  const out: SortKey[] = [];
  for (const key of keys) {
    const names = key.name === 'twinId' ? ['kind', 'id'] : [key.name];
    for (const name of names) {
      if (!out.some((other) => other.name === name)) out.push({ ...key, name, field: twinField(name)! });
    }
  }
  const last = out[out.length - 1];
  for (const name of ['kind', 'id']) {
    if (!out.some((key) => key.name === name)) {
      out.push({ name, field: twinField(name)!, descending: last.descending });
    }
  }
  return out;
}

/** The condition for rows behind the given keys in the order. */
function behind(
  keys: readonly SortKey[],
  expressions: readonly string[],
  after: readonly CursorKey[],
  binder: Binder,
): string {
  const bound = keys.map((key, i) => (after[i] === null ? null : bindKey(key, after[i], binder)));
  const uniform = keys.every((key) => !key.field.nullable && key.descending === keys[0].descending);
  // A row comparison is one range of the index; the general form below is not.
  if (uniform) return `(${expressions.join(', ')}) ${keys[0].descending ? '<' : '>'} (${bound.join(', ')})`;
  const cases: string[] = [];
  for (let i = 0; i < keys.length; i++) {
    const equal = keys
      .slice(0, i)
      .map((_, j) => (bound[j] === null ? `${expressions[j]} is null` : `${expressions[j]} = ${bound[j]}`));
    // Behind a missing value comes nothing but other missing ones.
    if (bound[i] === null) continue;
    const further = `${expressions[i]} ${keys[i].descending ? '<' : '>'} ${bound[i]}`;
    const here = keys[i].field.nullable ? `(${further} or ${expressions[i]} is null)` : further;
    cases.push(`(${[...equal, here].join(' and ')})`);
  }
  return `(${cases.join(' or ')})`;
}

function bindKey(key: SortKey, value: CursorKey, binder: Binder): string {
  switch (key.field.type) {
    case 'text':
      return binder.add(value, '::text');
    case 'number':
      return binder.add(value, '::float8');
    case 'boolean':
      return binder.add(value, '::boolean');
    case 'json':
      return binder.add(value, '::jsonb');
    case 'time':
      return binder.time(value as number);
  }
}

function cursorKey(key: SortKey, value: unknown): CursorKey {
  if (value === null || value === undefined) return null;
  if (value instanceof Date) return value.getTime();
  return key.field.type === 'json' ? JSON.stringify(value) : (value as CursorKey);
}
