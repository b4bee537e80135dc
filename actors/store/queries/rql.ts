import { TwinmeshError } from '../../protocol/errors.ts';

/**
 * The filter language: a subset of RQL, as text to a tree. Knows nothing of fields or SQL.
 *
 *     filter  = ( "and" | "or" ) "(" filter { "," filter } ")" | "not" "(" filter ")"
 *             | ( "eq" | "ne" | "gt" | "ge" | "lt" | "le" | "like" ) "(" field "," value ")"
 *             | "in" "(" field "," value { "," value } ")" | "exists" "(" field ")"
 *     value   = number | "true" | "false" | "null" | quoted text ("…" or '…', with \ before a quote or \) | bare word
 *
 * Invariants:
 *  R1  Time and memory are bounded: by MAX_LENGTH characters, MAX_DEPTH levels, MAX_NODES conditions, MAX_VALUES values.
 *  R2  Every refusal is `bad_request` and names the position, counted from 1.
 */
export type Filter =
  | { op: 'and' | 'or'; of: Filter[] }
  | { op: 'not'; of: Filter }
  | { op: Comparison; field: Field; value: Value }
  | { op: 'in'; field: Field; values: Value[] }
  | { op: 'exists'; field: Field };

export type Comparison = 'eq' | 'ne' | 'gt' | 'ge' | 'lt' | 'le' | 'like';
export type Literal = string | number | boolean | null;

export interface Field {
  name: string;
  position: number;
}

export interface Value {
  literal: Literal;
  /** As it was written, for fields of text: `007` is not `7`. */
  text: string;
  position: number;
}

export const MAX_LENGTH = 4_096;
export const MAX_DEPTH = 16;
export const MAX_NODES = 200;
const MAX_VALUES = 200;

const COMPARISONS = new Set<string>(['eq', 'ne', 'gt', 'ge', 'lt', 'le', 'like']);
const NUMBER = /^-?\d+(\.\d+)?([eE][+-]?\d{1,3})?$/;

/** Throws `bad_request`. */
export function parseFilter(text: string): Filter {
  if (text.length > MAX_LENGTH) {
    throw new TwinmeshError('bad_request', `filter: at most ${MAX_LENGTH} characters, not ${text.length}.`);
  }
  if (!text.isWellFormed() || text.includes('\0')) {
    throw new TwinmeshError('bad_request', 'filter: it holds a character that is not text.');
  }
  return new Parser(text).parse();
}

/** Every field that a filter names. */
export function fieldsOf(filter: Filter): string[] {
  switch (filter.op) {
    case 'and':
    case 'or':
      return filter.of.flatMap(fieldsOf);
    case 'not':
      return fieldsOf(filter.of);
    default:
      return [filter.field.name];
  }
}

/** A refusal that points at a place of the filter. */
export function refusal(position: number, message: string): TwinmeshError {
  return new TwinmeshError('bad_request', `filter: ${message} at position ${position}.`, { position });
}

class Parser {
  readonly #text: string;
  #at = 0;
  #nodes = 0;
  #values = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Filter {
    const filter = this.#filter(1);
    this.#space();
    if (this.#at < this.#text.length) throw this.#expected('the end');
    return filter;
  }

  #filter(depth: number): Filter {
    this.#space();
    const position = this.#at + 1;
    if (depth > MAX_DEPTH) throw refusal(position, `more than ${MAX_DEPTH} levels deep`);
    if (++this.#nodes > MAX_NODES) throw refusal(position, `more than ${MAX_NODES} conditions`);
    const op = this.#word();
    if (op === '') throw this.#expected('a condition such as eq(kind,"battery")');
    if (op === 'and' || op === 'or') {
      this.#take('(');
      const of = [this.#filter(depth + 1)];
      while (this.#more()) of.push(this.#filter(depth + 1));
      this.#take(')');
      return { op, of };
    }
    if (op === 'not') {
      this.#take('(');
      const of = this.#filter(depth + 1);
      this.#take(')');
      return { op, of };
    }
    if (op === 'exists') {
      this.#take('(');
      const field = this.#field();
      this.#take(')');
      return { op, field };
    }
    if (op !== 'in' && !COMPARISONS.has(op)) throw refusal(position, `unknown operator "${op.slice(0, 20)}"`);
    this.#take('(');
    const field = this.#field();
    this.#take(',');
    const value = this.#value();
    if (op === 'in') {
      const values = [value];
      while (this.#more()) values.push(this.#value());
      this.#take(')');
      return { op, field, values };
    }
    this.#take(')');
    return { op: op as Comparison, field, value };
  }

  #field(): Field {
    this.#space();
    const position = this.#at + 1;
    const name = this.#bare();
    if (name === '') throw this.#expected('the name of a field');
    return { name, position };
  }

  #value(): Value {
    this.#space();
    const position = this.#at + 1;
    if (++this.#values > MAX_VALUES) throw refusal(position, `more than ${MAX_VALUES} values`);
    const quote = this.#text[this.#at];
    if (quote === '"' || quote === "'") {
      const text = this.#quoted(quote);
      return { literal: text, text, position };
    }
    const bare = this.#bare();
    if (bare === '') throw this.#expected('a value');
    if (bare === 'true' || bare === 'false') return { literal: bare === 'true', text: bare, position };
    if (bare === 'null') return { literal: null, text: bare, position };
    if (!NUMBER.test(bare)) return { literal: bare, text: bare, position };
    const number = Number(bare);
    if (!Number.isFinite(number)) throw refusal(position, 'a number that is not finite');
    return { literal: number, text: bare, position };
  }

  #quoted(quote: string): string {
    const start = this.#at++;
    let out = '';
    for (; this.#at < this.#text.length; this.#at++) {
      const c = this.#text[this.#at];
      if (c === quote) {
        this.#at++;
        return out;
      }
      if (c === '\\') {
        const next = this.#text[this.#at + 1];
        if (next !== '\\' && next !== '"' && next !== "'")
          throw refusal(this.#at + 1, '\\ goes before a quote or \\ only,');
        out += next;
        this.#at++;
      } else {
        out += c;
      }
    }
    throw refusal(start + 1, 'a quote that is not closed');
  }

  /** Everything up to what the grammar needs itself. */
  #bare(): string {
    const start = this.#at;
    while (this.#at < this.#text.length && !/[\s(),"']/.test(this.#text[this.#at])) this.#at++;
    return this.#text.slice(start, this.#at);
  }

  #word(): string {
    const start = this.#at;
    while (this.#at < this.#text.length && /[A-Za-z]/.test(this.#text[this.#at])) this.#at++;
    return this.#text.slice(start, this.#at);
  }

  #more(): boolean {
    this.#space();
    if (this.#text[this.#at] !== ',') return false;
    this.#at++;
    return true;
  }

  #take(character: string): void {
    this.#space();
    if (this.#text[this.#at] !== character) throw this.#expected(`"${character}"`);
    this.#at++;
  }

  #space(): void {
    while (this.#at < this.#text.length && /\s/.test(this.#text[this.#at])) this.#at++;
  }

  #expected(what: string): TwinmeshError {
    const found =
      this.#at < this.#text.length ? `"${String.fromCodePoint(this.#text.codePointAt(this.#at)!)}"` : 'the end';
    return refusal(this.#at + 1, `expected ${what}, found ${found}`);
  }
}
