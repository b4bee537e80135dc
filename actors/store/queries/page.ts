import { TwinmeshError } from '../../protocol/errors.ts';
import { hash32 } from '../../protocol/twin-id.ts';
import { LATEST_MS } from './span.ts';

/** One page of a list; `nextCursor` null means that there is nothing behind it. */
export interface Page<Item> {
  items: Item[];
  nextCursor: string | null;
}

export type CursorKey = string | number | boolean | null;
/** What a key of a cursor has to be; `?` also takes null. */
export type CursorKeyType =
  | 'text'
  | 'text?'
  | 'number'
  | 'number?'
  | 'integer'
  | 'time'
  | 'time?'
  | 'boolean'
  | 'json?';

const MAX_CURSOR_LENGTH = 2_048;

/**
 * A cursor is the sort keys of the last row of a page, as base64url of a JSON array that starts with the hash of its
 * scope (list, filter and sort). It is not secret and not trusted: every key is checked against the type that the list
 * expects before it becomes a parameter, so a forged one can only start a page somewhere else in the same list.
 */
export function encodeCursor(scope: string, keys: readonly CursorKey[]): string {
  return Buffer.from(JSON.stringify([hash32(scope), ...keys])).toString('base64url');
}

/** The keys of a cursor. Throws `bad_request` for anything that `encodeCursor` did not make for this scope and these types. */
export function decodeCursor(cursor: string, scope: string, types: readonly CursorKeyType[]): CursorKey[] {
  const refuse = (why: string) => new TwinmeshError('bad_request', `cursor: ${why}; start again without it.`);
  if (typeof cursor !== 'string' || cursor.length > MAX_CURSOR_LENGTH || !/^[A-Za-z0-9_-]+$/.test(cursor)) {
    throw refuse('it is not one of this service');
  }
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    throw refuse('it is not one of this service');
  }
  if (!Array.isArray(parts) || parts.length !== types.length + 1) throw refuse('it is not one of this list');
  if (parts[0] !== hash32(scope)) throw refuse('it belongs to another filter, sort or list');
  const keys = parts.slice(1);
  for (let i = 0; i < types.length; i++) {
    if (!fits(keys[i], types[i])) throw refuse('it is not one of this list');
  }
  return keys as CursorKey[];
}

function fits(key: unknown, type: CursorKeyType): boolean {
  if (key === null) return type.endsWith('?');
  switch (type) {
    case 'text':
    case 'text?':
      return typeof key === 'string' && key.isWellFormed() && !key.includes('\0');
    case 'number':
    case 'number?':
      return typeof key === 'number' && Number.isFinite(key);
    case 'integer':
      return Number.isSafeInteger(key);
    case 'time':
    case 'time?':
      return Number.isSafeInteger(key) && (key as number) >= 0 && (key as number) < LATEST_MS;
    case 'boolean':
      return typeof key === 'boolean';
    case 'json?':
      return typeof key === 'string' && isScalarJson(key);
  }
}

function isScalarJson(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'string') return value.isWellFormed() && !value.includes('\0');
    return typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value));
  } catch {
    return false;
  }
}

/** Number of items a page may have. Throws `bad_request` outside 1 to `most`. */
export function limitOf(value: number | undefined, usual: number, most: number): number {
  if (value === undefined) return usual;
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new TwinmeshError('bad_request', `limit: a whole number from 1 to ${most}.`);
  }
  return value;
}

/** Cuts `rows`, of which one more than `limit` was asked for, into a page. */
export function pageOf<Row, Item>(
  rows: readonly Row[],
  limit: number,
  item: (row: Row) => Item,
  cursor: (row: Row) => string,
): Page<Item> {
  const shown = rows.length > limit ? rows.slice(0, limit) : rows;
  return { items: shown.map(item), nextCursor: rows.length > limit ? cursor(shown[limit - 1]) : null };
}

/** Collects the parameters of one statement: whatever a caller said reaches SQL only through here. */
export class Binder {
  readonly values: unknown[] = [];

  /** The placeholder of the value, cast where the statement alone does not tell its type. */
  add(value: unknown, cast = ''): string {
    this.values.push(value);
    return `$${this.values.length}${cast}`;
  }

  /** A time in ms as timestamptz. */
  time(ms: number): string {
    return this.add(new Date(ms).toISOString(), '::timestamptz');
  }
}
