import { createHash } from 'node:crypto';
import {
  boolColumn,
  byteaColumn,
  type Cell,
  float8Column,
  int4Column,
  int8Column,
  textColumn,
  timestampColumn,
} from '../column.ts';
import type { QueryOptions } from '../sql.ts';

/**
 * True for rows `r` of a batch whose shard passed the fence. Written so that it stays a hashed sub-plan: as a join it
 * would be planned for the few rows that an unnest of unknown length is taken for.
 */
export const FENCED = '(r.shard in (select shard from fence)) is true';

const names = new Map<string, string>();

/**
 * Options for a statement that is planned once a connection. The name follows from the text, so that it never means
 * another one. For texts of a fixed number only.
 */
export function prepared(text: string, priority = false): QueryOptions {
  let name = names.get(text);
  if (name === undefined) {
    name = nameOf(text);
    names.set(text, name);
  }
  return { name, priority };
}

export function nameOf(text: string): string {
  return `tm_${createHash('sha1').update(text).digest('hex')}`;
}

/** Collects the parameters of one statement; `add` answers the placeholder. */
export class Parameters {
  readonly values: unknown[] = [];

  add(value: unknown): string {
    this.values.push(value);
    return `$${this.values.length}`;
  }
}

/**
 * Rows of a batch as one `unnest(…) as alias(names)`: each column is one binary array parameter.
 * `optional` columns without any value are left out; what selects from it asks `has`.
 */
export class Batch {
  readonly #parameters: Parameters;
  readonly #rows: number;
  readonly #arrays: string[] = [];
  readonly names: string[] = [];

  constructor(parameters: Parameters, rows: number) {
    this.#parameters = parameters;
    this.#rows = rows;
  }

  bool(name: string, cell: Cell<boolean>): this {
    return this.#add(name, 'bool[]', boolColumn(this.#rows, cell));
  }

  int4(name: string, cell: Cell<number>): this {
    return this.#add(name, 'int4[]', int4Column(this.#rows, cell));
  }

  int8(name: string, cell: Cell<number>): this {
    return this.#add(name, 'int8[]', int8Column(this.#rows, cell));
  }

  float8(name: string, cell: Cell<number>): this {
    return this.#add(name, 'float8[]', float8Column(this.#rows, cell));
  }

  timestamp(name: string, cell: Cell<number>): this {
    return this.#add(name, 'timestamptz[]', timestampColumn(this.#rows, cell));
  }

  text(name: string, cell: Cell<string>): this {
    return this.#add(name, 'text[]', textColumn(this.#rows, cell));
  }

  json(name: string, cell: Cell<string>): this {
    return this.#add(name, 'json[]', textColumn(this.#rows, cell, 'json'));
  }

  jsonb(name: string, cell: Cell<string>): this {
    return this.#add(name, 'jsonb[]', textColumn(this.#rows, cell, 'jsonb'));
  }

  bytea(name: string, cell: Cell<Uint8Array>): this {
    return this.#add(name, 'bytea[]', byteaColumn(this.#rows, cell));
  }

  /** Adds the column only where some row has a value. */
  optional<T>(type: 'int8' | 'float8' | 'text' | 'json', name: string, cell: Cell<T>): this {
    for (let i = 0; i < this.#rows; i++) {
      if (cell(i) !== null) return this[type](name, cell as Cell<never>);
    }
    return this;
  }

  get columns(): string {
    return this.names.map((name) => `"${name}"`).join(', ');
  }

  from(alias: string): string {
    return `unnest(${this.#arrays.join(', ')}) as ${alias}(${this.columns})`;
  }

  #add(name: string, type: string, column: Uint8Array): this {
    this.#arrays.push(`${this.#parameters.add(column)}::${type}`);
    this.names.push(name);
    return this;
  }
}
