import { TwinmeshError } from '../../protocol/errors.ts';
import type { Binder } from './page.ts';
import { type Comparison, type Field, type Filter, type Literal, refusal, type Value } from './rql.ts';
import { instantOf } from './span.ts';
import { type TwinField, twinField } from './twin-field.ts';

/**
 * A filter as a condition over `twins t`.
 *
 * Invariants:
 *  F1  Two-valued: a condition about something the twin does not have is false, never null, so that `not` is exact
 *      negation. `ne` is the negation of `eq`: true for a twin without the field. `eq(field,null)` is `not(exists(field))`.
 *  F2  Values of another type than the field's are refused; attributes have the type of the value they are compared
 *      with, and are unequal and unordered across types.
 *  F3  Nothing of the caller is part of the statement's text.
 *  F4  Text is ordered by code point; `like` takes * for any characters and ? for one, and respects case.
 */
export function compileFilter(filter: Filter, binder: Binder): string {
  switch (filter.op) {
    case 'and':
    case 'or':
      return `(${filter.of.map((part) => compileFilter(part, binder)).join(` ${filter.op} `)})`;
    case 'not':
      return `(not ${compileFilter(filter.of, binder)})`;
    case 'exists':
      return fieldOf(filter.field).exists(binder);
    case 'in':
      return anyOf(fieldOf(filter.field), filter.values, binder);
    case 'like':
      return like(fieldOf(filter.field), filter.field, filter.value, binder);
    default:
      return compare(fieldOf(filter.field), filter.op, filter.value, binder);
  }
}

const SYMBOL = { gt: '>', ge: '>=', lt: '<', le: '<=' } as const;
/** Matching takes time exponential in the wildcards at worst. */
const MAX_WILDCARDS = 8;

function fieldOf(field: Field): TwinField {
  const found = twinField(field.name);
  if (found === null) throw refusal(field.position, `there is no field "${field.name.slice(0, 60)}",`);
  return found;
}

function compare(field: TwinField, op: Exclude<Comparison, 'like'>, value: Value, binder: Binder): string {
  if (value.literal === null) {
    if (op === 'eq') return `(not ${field.exists(binder)})`;
    if (op === 'ne') return field.exists(binder);
    throw refusal(value.position, `null has no order: ${op} cannot take it,`);
  }
  if (op === 'ne') return `(not ${compare(field, 'eq', value, binder)})`;
  if (op === 'eq') return anyOf(field, [value], binder);
  if (typeof value.literal === 'boolean' && field.type !== 'text') {
    throw refusal(value.position, `true and false have no order: ${op} cannot take them,`);
  }
  const symbol = SYMBOL[op];
  if (field.type === 'json') {
    const json = field.sql(binder);
    const type = typeof value.literal === 'string' ? 'string' : 'number';
    const text = `(${json} #>> '{}')`;
    const test =
      type === 'string'
        ? `${text} collate "C" ${symbol} ${binder.add(value.literal, '::text')}`
        : `${text}::float8 ${symbol} ${binder.add(value.literal, '::float8')}`;
    return `(case when jsonb_typeof(${json}) = '${type}' then ${test} else false end)`;
  }
  const bound = bind(field, value, binder);
  const collate = field.type === 'text' ? ' collate "C"' : '';
  return known(field, `${field.sql(binder)}${collate} ${symbol} ${bound}`);
}

function anyOf(field: TwinField, values: readonly Value[], binder: Binder): string {
  const some = values.filter((value) => value.literal !== null);
  const parts: string[] = [];
  if (some.length < values.length) parts.push(`(not ${field.exists(binder)})`);
  if (field.type === 'json') {
    const json = some.length > 0 ? field.sql(binder) : '';
    for (const { literal } of some) {
      parts.push(`coalesce(${json} = ${binder.add(JSON.stringify(literal), '::jsonb')}, false)`);
    }
  } else if (some.length === 1) {
    parts.push(known(field, `${field.sql(binder)} = ${bind(field, some[0], binder)}`));
  } else if (some.length > 1) {
    const list = some.map((value) => bind(field, value, binder)).join(', ');
    parts.push(known(field, `${field.sql(binder)} in (${list})`));
  }
  return parts.length === 1 ? parts[0] : `(${parts.join(' or ')})`;
}

function like(field: TwinField, named: Field, value: Value, binder: Binder): string {
  if (value.literal === null) throw refusal(value.position, 'like takes text');
  const pattern = value.text;
  if (field.type !== 'text' && field.type !== 'json')
    throw refusal(named.position, `like is for text, which "${named.name.slice(0, 60)}" is not,`);
  if ((pattern.match(/[*?]/g)?.length ?? 0) > MAX_WILDCARDS) {
    throw refusal(value.position, `like takes at most ${MAX_WILDCARDS} of * and ?`);
  }
  const bound = binder.add(likePattern(pattern), '::text');
  if (field.type === 'text') return `(${field.sql(binder)} like ${bound})`;
  const json = field.sql(binder);
  return `(case when jsonb_typeof(${json}) = 'string' then (${json} #>> '{}') like ${bound} else false end)`;
}

function likePattern(pattern: string): string {
  return pattern
    .replace(/[\\%_]/g, '\\$&')
    .replace(/\*+/g, '%')
    .replaceAll('?', '_');
}

/** Keeps a condition two-valued; the plain form is left to columns that are never null, so that indexes apply. */
function known(field: TwinField, condition: string): string {
  return field.nullable ? `coalesce(${condition}, false)` : `(${condition})`;
}

function bind(field: TwinField, value: Value, binder: Binder): string {
  const { literal, position } = value;
  switch (field.type) {
    case 'text':
      return binder.add(value.text, '::text');
    case 'number':
      if (typeof literal !== 'number') throw refusal(position, 'expected a number');
      return binder.add(literal, '::float8');
    case 'boolean':
      if (typeof literal !== 'boolean') throw refusal(position, 'expected true or false');
      return binder.add(literal, '::boolean');
    case 'time':
      return binder.time(timeOf(literal, position));
    default:
      throw new TypeError('json fields bind their own values');
  }
}

function timeOf(literal: Literal, position: number): number {
  if (typeof literal === 'boolean' || literal === null) throw refusal(position, 'expected a time');
  try {
    return instantOf(literal, 'time');
  } catch (error) {
    if (error instanceof TwinmeshError) throw refusal(position, 'expected a time, ISO 8601 or epoch,');
    throw error;
  }
}
