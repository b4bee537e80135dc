/**
 * Columns of a batch as PostgreSQL's binary arrays: the checkpoint sends one parameter a column and unnests them.
 * Binary, because it is bit-exact by construction, needs no escaping, and is read twice as fast as array literals.
 *
 * Layout (array_recv): dimensions, has-null flag, element type, length, lower bound, then each element as its
 * byte length (-1 for null) and its bytes, all big-endian.
 */
export type ColumnType = 'bool' | 'int4' | 'int8' | 'float8' | 'timestamptz' | 'text' | 'json' | 'jsonb' | 'bytea';

/** Answers the value of row `i`; for timestamptz milliseconds since the epoch, for json and jsonb JSON text. */
export type Cell<T> = (i: number) => T | null;

const OID: Record<ColumnType, number> = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int4: 23,
  text: 25,
  json: 114,
  float8: 701,
  timestamptz: 1184,
  jsonb: 3802,
};
const HEADER_BYTES = 20;
/** Milliseconds from 1970 to 2000, where PostgreSQL counts from. */
const PG_EPOCH_MS = 946_684_800_000;
const TWO_32 = 2 ** 32;

export function boolColumn(rows: number, cell: Cell<boolean>): Uint8Array {
  const column = start('bool', rows, 1);
  for (let i = 0; i < rows; i++) {
    const value = cell(i);
    if (value === null) column.putNull();
    else column.putByte(value ? 1 : 0);
  }
  return column.end();
}

export function int4Column(rows: number, cell: Cell<number>): Uint8Array {
  const column = start('int4', rows, 4);
  for (let i = 0; i < rows; i++) {
    const value = cell(i);
    if (value === null) column.putNull();
    else column.putInt4(value);
  }
  return column.end();
}

export function int8Column(rows: number, cell: Cell<number>): Uint8Array {
  const column = start('int8', rows, 8);
  for (let i = 0; i < rows; i++) {
    const value = cell(i);
    if (value === null) column.putNull();
    else column.putInt8(value);
  }
  return column.end();
}

export function float8Column(rows: number, cell: Cell<number>): Uint8Array {
  const column = start('float8', rows, 8);
  for (let i = 0; i < rows; i++) {
    const value = cell(i);
    if (value === null) column.putNull();
    else column.putFloat8(value);
  }
  return column.end();
}

export function timestampColumn(rows: number, cell: Cell<number>): Uint8Array {
  const column = start('timestamptz', rows, 8);
  for (let i = 0; i < rows; i++) {
    const value = cell(i);
    if (value === null) column.putNull();
    else column.putTimestamp(value);
  }
  return column.end();
}

/** text and json have the same bytes, jsonb a version in front. */
export function textColumn(rows: number, cell: Cell<string>, type: 'text' | 'json' | 'jsonb' = 'text'): Uint8Array {
  const texts = new Array<string | null>(rows);
  let bytes = 0;
  for (let i = 0; i < rows; i++) {
    const value = cell(i);
    texts[i] = value;
    // A UTF-16 unit takes three bytes at most.
    if (value !== null) bytes += value.length * 3 + 1;
  }
  const column = new ArrayWriter(type, rows, bytes);
  for (let i = 0; i < rows; i++) {
    const value = texts[i];
    if (value === null) column.putNull();
    else column.putText(value, type === 'jsonb');
  }
  return column.end();
}

export function byteaColumn(rows: number, cell: Cell<Uint8Array>): Uint8Array {
  let bytes = 0;
  for (let i = 0; i < rows; i++) bytes += cell(i)?.byteLength ?? 0;
  const column = new ArrayWriter('bytea', rows, bytes);
  for (let i = 0; i < rows; i++) {
    const value = cell(i);
    if (value === null) column.putNull();
    else column.putBytes(value);
  }
  return column.end();
}

function start(type: ColumnType, rows: number, width: number): ArrayWriter {
  return new ArrayWriter(type, rows, rows * width);
}

class ArrayWriter {
  // Never from Buffer's pool: a column can be given away to another thread.
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #offset = HEADER_BYTES;
  #nulls = false;

  constructor(type: ColumnType, rows: number, payloadBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(HEADER_BYTES + rows * 4 + payloadBytes);
    this.#view = new DataView(this.#bytes.buffer);
    this.#view.setInt32(0, rows === 0 ? 0 : 1);
    this.#view.setInt32(8, OID[type]);
    this.#view.setInt32(12, rows);
    this.#view.setInt32(16, 1);
    // An array without elements has no dimensions.
    if (rows === 0) this.#offset = 12;
  }

  putNull(): void {
    this.#nulls = true;
    this.#view.setInt32(this.#offset, -1);
    this.#offset += 4;
  }

  putByte(value: number): void {
    this.#view.setInt32(this.#offset, 1);
    this.#view.setUint8(this.#offset + 4, value);
    this.#offset += 5;
  }

  putInt4(value: number): void {
    this.#view.setInt32(this.#offset, 4);
    this.#view.setInt32(this.#offset + 4, value);
    this.#offset += 8;
  }

  putInt8(value: number): void {
    const high = Math.floor(value / TWO_32);
    this.#view.setInt32(this.#offset, 8);
    this.#view.setInt32(this.#offset + 4, high);
    this.#view.setUint32(this.#offset + 8, value - high * TWO_32);
    this.#offset += 12;
  }

  putFloat8(value: number): void {
    this.#view.setInt32(this.#offset, 8);
    this.#view.setFloat64(this.#offset + 4, value);
    this.#offset += 12;
  }

  putTimestamp(ms: number): void {
    if (Number.isFinite(ms)) {
      this.putInt8(Math.round((ms - PG_EPOCH_MS) * 1000));
      return;
    }
    // 'infinity' and '-infinity' are the ends of int8.
    this.#view.setInt32(this.#offset, 8);
    this.#view.setInt32(this.#offset + 4, ms > 0 ? 0x7fffffff : -0x80000000);
    this.#view.setUint32(this.#offset + 8, ms > 0 ? 0xffffffff : 0);
    this.#offset += 12;
  }

  putText(value: string, versioned: boolean): void {
    const at = this.#offset + 4;
    if (versioned) this.#bytes[at] = 1;
    const length = this.#bytes.write(value, versioned ? at + 1 : at, 'utf8') + (versioned ? 1 : 0);
    this.#view.setInt32(this.#offset, length);
    this.#offset = at + length;
  }

  putBytes(value: Uint8Array): void {
    this.#view.setInt32(this.#offset, value.byteLength);
    this.#bytes.set(value, this.#offset + 4);
    this.#offset += 4 + value.byteLength;
  }

  end(): Uint8Array {
    this.#view.setInt32(4, this.#nulls ? 1 : 0);
    return this.#bytes.subarray(0, this.#offset);
  }
}
