import type { PGlite } from '@electric-sql/pglite';

/**
 * Statements to PGlite in two messages at most: parse and describe where a statement is new, bind and execute always.
 * PGlite's own `query` plans every statement anew and takes six turns for it, which costs a checkpoint of few rows
 * most of its time.
 *
 * Frontend messages: https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
export class Protocol {
  readonly #db: PGlite;
  /** Columns of the statements prepared by name. */
  readonly #prepared = new Map<string, Column[]>();

  constructor(db: PGlite) {
    this.#db = db;
  }

  async query(text: string, params: readonly unknown[], name = ''): Promise<Record<string, unknown>[]> {
    let columns = name === '' ? undefined : this.#prepared.get(name);
    if (columns === undefined) {
      columns = columnsOf(await this.#send(Buffer.concat([parse(name, text), describe(name), SYNC])));
      if (name !== '') this.#prepared.set(name, columns);
    }
    return this.#rows(columns, await this.#send(Buffer.concat([...bind(name, params), EXECUTE, SYNC])));
  }

  async #send(message: Uint8Array): Promise<Message[]> {
    const { messages } = await this.#db.execProtocol(message, { syncToFs: false, throwOnError: true });
    // A server that died leaves its answer unfinished; PGlite does not say so.
    if (!messages.some((reply) => reply.name === 'readyForQuery')) throw new Error('The database stopped.');
    return messages as unknown as Message[];
  }

  #rows(columns: readonly Column[], messages: readonly Message[]): Record<string, unknown>[] {
    const parsers = columns.map((column) => this.#db.parsers[column.dataTypeID]);
    const rows: Record<string, unknown>[] = [];
    for (const message of messages) {
      if (message.name !== 'dataRow') continue;
      const row: Record<string, unknown> = {};
      for (let i = 0; i < columns.length; i++) {
        const field = message.fields[i];
        const parser = parsers[i];
        row[columns[i].name] = field === null || parser === undefined ? field : parser(field, columns[i].dataTypeID);
      }
      rows.push(row);
    }
    return rows;
  }
}

interface Column {
  name: string;
  dataTypeID: number;
}

type Message =
  | { name: 'rowDescription'; fields: Column[] }
  | { name: 'dataRow'; fields: (string | null)[] }
  | { name: 'readyForQuery' };

function columnsOf(messages: readonly Message[]): Column[] {
  for (const message of messages) if (message.name === 'rowDescription') return message.fields;
  return [];
}

const SYNC = framed('S', []);
/** Execute of the unnamed portal, all rows. */
const EXECUTE = framed('E', [Buffer.from([0]), int32(0)]);

function parse(name: string, text: string): Buffer {
  return framed('P', [cstring(name), cstring(text), int16(0)]);
}

function describe(name: string): Buffer {
  return framed('D', [Buffer.from('S'), cstring(name)]);
}

/** Byte arrays go in binary, everything else as text. The parts are not joined here: columns are large. */
function bind(name: string, params: readonly unknown[]): Uint8Array[] {
  const formats = Buffer.alloc(params.length * 2);
  const values: Uint8Array[] = [];
  let bytes = 0;
  for (let i = 0; i < params.length; i++) {
    const param = params[i];
    if (param === null || param === undefined) {
      values.push(NULL);
      bytes += 4;
      continue;
    }
    if (param instanceof Uint8Array) formats.writeInt16BE(1, i * 2);
    const value = param instanceof Uint8Array ? param : Buffer.from(textOf(param));
    values.push(int32(value.byteLength), value);
    bytes += 4 + value.byteLength;
  }
  const head = Buffer.concat([Buffer.from([0]), cstring(name), int16(params.length), formats, int16(params.length)]);
  const length = 4 + head.byteLength + bytes + 2;
  return [Buffer.from('B'), int32(length), head, ...values, int16(0)];
}

/** A parameter as PostgreSQL reads it from text. */
export function textOf(param: unknown): string {
  if (typeof param === 'string') return param;
  if (typeof param === 'boolean') return param ? 't' : 'f';
  if (param instanceof Date) return param.toISOString();
  if (Array.isArray(param)) return `{${param.map(elementOf).join(',')}}`;
  return typeof param === 'object' ? JSON.stringify(param) : String(param);
}

function elementOf(element: unknown): string {
  if (element === null || element === undefined) return 'NULL';
  if (Array.isArray(element)) return textOf(element);
  return `"${textOf(element).replace(/[\\"]/g, '\\$&')}"`;
}

const NULL = int32(-1);

function framed(type: string, parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.byteLength + 4), body]);
}

function cstring(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

function int16(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}
