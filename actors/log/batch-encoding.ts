import type { Reading } from '../protocol/reading.ts';
import { ID_PATTERN, KIND_PATTERN, METRIC_PATTERN, shardOf, twinIdOf } from '../protocol/twin-id.ts';
import { ByteReader, ByteWriter, Corrupt } from './bytes.ts';
import type { LogBatch } from './port.ts';

/**
 * The content of one message of the log: the readings of a batch, without its shard (the subject) and id (a header).
 *
 * Owns the format and its version. Does not own where the bytes lie.
 *
 *     version 1 · text: bytes, UTF-8 · receivedAt · trace · strings: lengths · twins: (kind, id) · shapes: metric names ·
 *     readings: flags, twin, shape, time since the one before, [key] [seq] [sensor] [attributes] [unit], values
 *
 * A value that is exactly n / 10^k (k ≤ 6, |n| < 2^27), as nearly all that sensors print, takes 1 to 5 bytes; any other
 * takes nine.
 *
 * Invariants:
 *  1  Decoding gives back every reading bit for bit, the order of its metrics included.
 *  2  Bytes that are not such a batch throw `Corrupt`; no input costs more memory than a fixed multiple of its length,
 *     attributes excepted, whose sum is bounded.
 *  3  What is decoded obeys the invariants of protocol/reading.ts and belongs to the shard: the log may be written by
 *     whoever has its password.
 */
export const ENCODING_VERSION = 1;
/** Readings of one message. */
export const MAX_READINGS = 50_000;

export interface DecodedBatch {
  receivedAt: number;
  readings: Reading[];
  trace?: string;
}

const KEY = 1;
const SEQ = 2;
const SENSOR = 4;
const ATTRIBUTES = 8;
const UNIT = 16;
const UNTIMED = 32;
const ODD_SEQ = 64;

const POWERS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
const RAW = 7;
const MOST_SCALED = 2 ** 27;
/** After so many values in a row that are no short decimals, the metric is not tried any more in this batch. */
const PATIENCE = 4;
const MAX_ATTRIBUTE_TEXT = 64 * 1024 * 1024;
const MAX_AT = 8_000_000_000_000;

interface Shape {
  index: number;
  names: string[];
  /** Decimals of the value before, a metric. */
  decimals: number[];
  misses: number[];
}

/** A writer that is used again and again; encoding is synchronous. */
const out = new ByteWriter();

export function encodeBatch(batch: Pick<LogBatch, 'receivedAt' | 'readings' | 'trace'>): Uint8Array {
  const strings: string[] = [];
  const known = new Map<string, number>();
  const intern = (text: string): number => {
    let index = known.get(text);
    if (index === undefined) {
      index = strings.push(text) - 1;
      known.set(text, index);
    }
    return index;
  };
  const twins = new Map<string, Map<string, number>>();
  const twinParts: number[] = [];
  const shapes = new Map<string, Shape>();
  /** Twin → the metrics that it spoke of last: mostly it speaks of the same again. */
  const usual: Shape[] = [];
  let last: Shape | null = null;
  let at = batch.receivedAt;

  out.reset();
  for (const reading of batch.readings) {
    let ofKind = twins.get(reading.kind);
    if (ofKind === undefined) {
      ofKind = new Map();
      twins.set(reading.kind, ofKind);
    }
    let twin = ofKind.get(reading.id);
    if (twin === undefined) {
      twin = twinParts.push(intern(reading.kind), intern(reading.id)) / 2 - 1;
      ofKind.set(reading.id, twin);
    }
    let shape: Shape | null = usual[twin] ?? last;
    if (shape === null || !hasShape(reading.values, shape.names)) shape = shapeOf(reading.values, shapes);
    usual[twin] = shape;
    last = shape;
    const { seq } = reading;
    const even = seq !== undefined && Number.isSafeInteger(seq) && seq >= 0 && !Object.is(seq, -0);
    out.byte(
      (reading.key === undefined ? 0 : KEY) |
        (seq === undefined ? 0 : even ? SEQ : ODD_SEQ) |
        (reading.sensor === undefined ? 0 : SENSOR) |
        (reading.attributes === undefined ? 0 : ATTRIBUTES) |
        (reading.unit === undefined ? 0 : UNIT) |
        (reading.untimed === undefined ? 0 : UNTIMED),
    );
    out.varint(twin);
    out.varint(shape.index);
    out.signed(reading.at - at);
    at = reading.at;
    // a key is the reading's own: looking for it among the others would find nothing
    if (reading.key !== undefined) out.varint(strings.push(reading.key) - 1);
    if (seq !== undefined) even ? out.varint(seq) : out.double(seq);
    if (reading.sensor !== undefined) out.varint(intern(reading.sensor));
    if (reading.attributes !== undefined) out.varint(intern(JSON.stringify(reading.attributes)));
    if (reading.unit !== undefined) out.varint(intern(reading.unit));
    for (let i = 0; i < shape.names.length; i++) writeValue(reading.values[shape.names[i]], shape, i);
  }
  const rows = out.copy();

  const shapeNames = [...shapes.values()].map(({ names }) => names.map(intern));
  const trace = batch.trace ?? '';
  const text = Buffer.from(trace + strings.join(''), 'utf8');
  out.reset();
  out.byte(ENCODING_VERSION);
  out.varint(text.length);
  out.bytes(text);
  out.varint(batch.receivedAt);
  out.varint(trace.length);
  out.varint(strings.length);
  for (const string of strings) out.varint(string.length);
  out.varint(twinParts.length / 2);
  for (const part of twinParts) out.varint(part);
  out.varint(shapeNames.length);
  for (const names of shapeNames) {
    out.varint(names.length);
    for (const name of names) out.varint(name);
  }
  out.varint(batch.readings.length);
  out.bytes(rows);
  return out.copy();
}

/** Throws `Corrupt`. `of` is checked where it is given: the shard of the message and how many there are. */
export function decodeBatch(bytes: Uint8Array, of?: { shard: number; shards: number }): DecodedBatch {
  const input = new ByteReader(bytes);
  const version = input.byte();
  if (version !== ENCODING_VERSION)
    throw new Corrupt(`version ${version} of the encoding is not known here (this is ${ENCODING_VERSION})`);
  const text = input.text(input.varint());
  const receivedAt = input.varint();
  const traceLength = input.varint();
  const strings: string[] = [];
  let from = traceLength;
  for (let left = input.count(1); left > 0; left--) {
    const end = from + input.varint();
    strings.push(text.slice(from, end));
    from = end;
  }
  if (from !== text.length) throw new Corrupt('the lengths of the strings do not add up to the text');
  const string = (): string => {
    const index = input.varint();
    if (index >= strings.length) throw new Corrupt('a string is missing');
    return strings[index];
  };

  const kinds: string[] = [];
  const ids: string[] = [];
  for (let left = input.count(2); left > 0; left--) {
    const kind = string();
    const id = string();
    if (!KIND_PATTERN.test(kind) || !ID_PATTERN.test(id)) throw new Corrupt('a twin id is outside the allow-list');
    if (of && shardOf(twinIdOf(kind, id), of.shards) !== of.shard)
      throw new Corrupt(`${kind}:${id} is not of this shard`);
    kinds.push(kind);
    ids.push(id);
  }
  const shapes: string[][] = [];
  for (let left = input.count(1); left > 0; left--) {
    const names: string[] = [];
    for (let more = input.count(1); more > 0; more--) {
      const name = string();
      if (!METRIC_PATTERN.test(name)) throw new Corrupt('a metric name is outside the allow-list');
      names.push(name);
    }
    if (names.length === 0 || new Set(names).size !== names.length)
      throw new Corrupt('a set of metrics is empty or names one twice');
    shapes.push(names);
  }

  const readings: Reading[] = [];
  const attributes = new Map<string, Record<string, string | number | boolean>>();
  let attributeText = 0;
  let at = receivedAt;
  const count = input.count(5);
  if (count > MAX_READINGS) throw new Corrupt(`there are more than ${MAX_READINGS} readings`);
  for (let left = count; left > 0; left--) {
    const flags = input.byte();
    const twin = input.varint();
    const names = shapes[input.varint()];
    if (twin >= kinds.length || names === undefined) throw new Corrupt('a twin or a set of metrics is missing');
    at += input.signed();
    if (!(at >= 0 && at < MAX_AT)) throw new Corrupt('a time is out of range');
    const values: Record<string, number> = {};
    const reading: Reading = { kind: kinds[twin], id: ids[twin], at, values };
    if (flags & KEY) reading.key = string();
    if (flags & SEQ) reading.seq = input.varint();
    else if (flags & ODD_SEQ) reading.seq = finite(input.double());
    if (flags & SENSOR) reading.sensor = string();
    if (flags & ATTRIBUTES) {
      const json = string();
      attributeText += json.length;
      if (attributeText > MAX_ATTRIBUTE_TEXT) throw new Corrupt('there are too many attributes');
      let parsed = attributes.get(json);
      if (!parsed) {
        parsed = parseAttributes(json);
        attributes.set(json, parsed);
      }
      // each reading has its own
      reading.attributes = { ...parsed };
    }
    if (flags & UNIT) reading.unit = string();
    if (flags & UNTIMED) reading.untimed = true;
    for (let i = 0; i < names.length; i++) values[names[i]] = readValue(input);
    readings.push(reading);
  }
  if (!input.ended) throw new Corrupt('there are bytes after the last reading');
  const batch: DecodedBatch = { receivedAt, readings };
  if (traceLength > 0) batch.trace = text.slice(0, traceLength);
  return batch;
}

function hasShape(values: Record<string, number>, names: readonly string[]): boolean {
  let i = 0;
  for (const name in values) if (names[i++] !== name) return false;
  return i === names.length;
}

function shapeOf(values: Record<string, number>, shapes: Map<string, Shape>): Shape {
  const names = Object.keys(values);
  const key = names.join(',');
  let shape = shapes.get(key);
  if (shape === undefined) {
    shape = { index: shapes.size, names, decimals: names.map(() => 0), misses: names.map(() => 0) };
    shapes.set(key, shape);
  }
  return shape;
}

function writeValue(value: number, shape: Shape, metric: number): void {
  if (shape.misses[metric] < PATIENCE) {
    const usual = shape.decimals[metric];
    for (let tries = 0; tries < POWERS.length; tries++) {
      // first the decimals of the value before, then more, then fewer
      const k = (usual + tries) % POWERS.length;
      const scaled = Math.round(value * POWERS[k]);
      if (Math.abs(scaled) >= MOST_SCALED || scaled / POWERS[k] !== value || (scaled === 0 && Object.is(value, -0)))
        continue;
      shape.decimals[metric] = k;
      shape.misses[metric] = 0;
      out.varint((scaled < 0 ? -2 * scaled - 1 : 2 * scaled) * 8 + k);
      return;
    }
    shape.misses[metric]++;
  }
  out.byte(RAW);
  out.double(value);
}

function readValue(input: ByteReader): number {
  const number = input.varint();
  const k = number % 8;
  if (k === RAW) {
    if (number !== RAW) throw new Corrupt('a value is not written as it has to be');
    return finite(input.double());
  }
  const zigzag = Math.floor(number / 8);
  const scaled = zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
  return scaled / POWERS[k];
}

function finite(value: number): number {
  if (!Number.isFinite(value) || Object.is(value, -0)) throw new Corrupt('a number is not finite, or is -0');
  return value;
}

function parseAttributes(json: string): Record<string, string | number | boolean> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw new Corrupt('attributes are not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new Corrupt('attributes are not an object');
  for (const [name, value] of Object.entries(parsed)) {
    if (name === '__proto__' || !['string', 'number', 'boolean'].includes(typeof value))
      throw new Corrupt('attributes are not flat');
  }
  return parsed as Record<string, string | number | boolean>;
}
