import { eventTime } from '../../actors/ingress/event-time.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { RawReading } from '../../actors/protocol/kind.ts';
import { integralOf } from './integral.ts';
import { numberOf, wireTime } from './intel-text.ts';
import { msOf } from './loading.ts';
import { columnsOf, type DataMap, type OffsetTerm, type ValueRule } from './map.ts';

/** A row: cells of a CSV line, or the object of an NDJSON line. */
export type Row = readonly string[] | Record<string, unknown>;
export type RowSkip = 'no_values' | 'no_time' | 'no_id';

export interface RowContext {
  fileName: string;
  /** `--start`, ms; what the map counts from. */
  startMs: number | null;
  /** Column names of a CSV; null for objects. */
  header: readonly string[] | null;
}

/** `row` counts data rows from 0. */
export type RowReader = (row: Row, number: number) => RawReading | RowSkip;

type Cell = (row: Row) => unknown;

/** Makes the function that turns rows into readings. Throws bad_request for columns that are not there. */
export function rowReader(map: DataMap, context: RowContext): RowReader {
  const { header } = context;
  if (header !== null) {
    const absent = columnsOf(map).filter((name) => !header.includes(name));
    if (absent.length > 0) {
      throw new TwinmeshError(
        'bad_request',
        `${context.fileName} has no column ${absent.join(', ')}; it has ${header.slice(0, 40).join(', ')}.`,
      );
    }
  }
  const missing = new Set(['', ...(map.missing ?? [])]);
  const cell = (name: string): Cell => {
    if (header !== null) {
      const index = header.indexOf(name);
      if (index < 0) return () => undefined;
      return (row) => {
        const text = (row as readonly string[])[index].trim();
        return missing.has(text) ? undefined : text;
      };
    }
    const path = name.split('.');
    return (row) => {
      let value: unknown = Object.hasOwn(row, name) ? (row as Record<string, unknown>)[name] : undefined;
      if (value === undefined && path.length > 1) {
        value = row;
        for (const step of path) value = isObject(value) && Object.hasOwn(value, step) ? value[step] : undefined;
      }
      return value === null || (typeof value === 'string' && missing.has(value)) ? undefined : value;
    };
  };
  const id = idOf(map, context, cell);
  const at = timeOf(map, context, cell);
  const integrals: { name: string; value: ReturnType<typeof integralOf> }[] = [];
  const metrics: { name: string; value: Cell }[] = [];
  for (const [name, rule] of Object.entries(map.metrics)) {
    if (typeof rule !== 'string' && 'integral' in rule) integrals.push({ name, value: integralOf(rule, cell) });
    else metrics.push({ name, value: metricOf(rule, cell) });
  }
  const attributes = Object.entries(map.attributes ?? {}).map(([name, rule]) => ({
    name,
    value: 'column' in rule ? cell(rule.column) : () => rule.constant,
  }));
  const seq = map.seq === undefined ? null : cell(map.seq);
  const key = map.key === undefined ? null : cell(map.key);

  let begun = false;
  return (row, number) => {
    const values: Record<string, unknown> = {};
    let some = false;
    // also where the first row has nothing to say
    if (number === 0) begun = true;
    for (const { name, value } of metrics) {
      const v = value(row);
      if (v === undefined) continue;
      values[name] = v;
      some = true;
    }
    if (!some) return 'no_values';
    const when = at(row, number);
    if (when === undefined) return 'no_time';
    for (const { name, value } of integrals) {
      const v = value(row, number, msOf(when), begun);
      if (v !== undefined) values[name] = v;
    }
    const who = id(row, number);
    if (who === undefined) return 'no_id';
    const reading: RawReading = { id: who, at: when, values };
    if (seq !== null) reading.seq = asNumber(seq(row));
    if (key !== null) reading.key = key(row);
    if (map.unit !== undefined) reading.unit = map.unit;
    if (attributes.length > 0) {
      reading.attributes = {};
      for (const { name, value } of attributes) {
        const v = value(row);
        if (v !== undefined) reading.attributes[name] = v;
      }
    }
    return reading;
  };
}

function idOf(map: DataMap, context: RowContext, cell: (name: string) => Cell): (row: Row, number: number) => unknown {
  const rule = map.id;
  if ('constant' in rule) return () => rule.constant;
  const prefix = rule.prefix ?? '';
  if ('count' in rule) {
    const from = rule.from ?? 1;
    return (_, number) => `${prefix}${number + from}`;
  }
  if ('file' in rule) {
    const id = prefix + idOfFile(rule.file, context.fileName, map.name);
    return () => id;
  }
  const value = cell(rule.column);
  return (row) => {
    const v = value(row);
    return v === undefined || prefix === '' ? v : prefix + String(v);
  };
}

/** `TripA01.csv.gz` → `TripA01`. */
function idOfFile(pattern: string | true, fileName: string, mapName: string): string {
  const found = pattern === true ? fileName.split('.')[0] : new RegExp(pattern).exec(fileName)?.[1];
  if (!found) {
    const message = `Map ${mapName} takes the id from the file's name by ${JSON.stringify(pattern)}, and ${fileName} does not fit.`;
    throw new TwinmeshError('bad_request', message);
  }
  return found;
}

function timeOf(
  map: DataMap,
  context: RowContext,
  cell: (name: string) => Cell,
): (row: Row, number: number) => unknown {
  const rule = map.time;
  if ('offset' in rule) {
    const start = startOf(map, context.startMs);
    const terms = rule.offset.map((term) => termOf(term, cell));
    return (row, number) => {
      let seconds = 0;
      for (const term of terms) {
        const s = term(row, number);
        if (s === undefined) return undefined;
        seconds += s;
      }
      // What is no number makes no time: the door says so.
      return Number.isFinite(seconds) ? wireTime(Math.round(start + seconds * 1000)) : seconds;
    };
  }
  const value = cell(rule.column);
  const scale = rule.unit === undefined ? null : rule.unit === 's' ? 1000 : 1;
  return (row) => {
    const written = value(row);
    if (written === undefined) return undefined;
    const number = typeof written === 'string' ? numberOf(written) : written;
    if (scale !== null) return typeof number === 'number' ? wireTime(Math.round(number * scale)) : written;
    return plainTime(number ?? written);
  };
}

/** In milliseconds where it is a time, else as it is, for the door to refuse. */
function plainTime(at: unknown): unknown {
  try {
    return wireTime(eventTime(at, Number.POSITIVE_INFINITY, 0));
  } catch {
    return at;
  }
}

export function startOf(map: DataMap, startMs: number | null): number {
  if (startMs !== null) return startMs;
  throw new TwinmeshError(
    'bad_request',
    `Map ${map.name} counts time from a start: give it, e.g. --start 2026-01-01T00:00:00Z.`,
  );
}

function termOf(term: OffsetTerm, cell: (name: string) => Cell): (row: Row, number: number) => number | undefined {
  const seconds = term.seconds ?? 1;
  if ('count' in term) return (_, number) => number * seconds;
  const value = cell(term.column);
  const from = term.from ?? 0;
  return (row) => {
    const v = value(row);
    return v === undefined ? undefined : (toNumber(v) - from) * seconds;
  };
}

function metricOf(rule: string | ValueRule, cell: (name: string) => Cell): Cell {
  if (typeof rule === 'string') {
    const value = cell(rule);
    return (row) => asNumber(value(row));
  }
  if ('integral' in rule) throw new TwinmeshError('bad_request', 'An integral is read row after row.');
  if ('file' in rule) throw new TwinmeshError('bad_request', 'A metric by file is for matrices.');
  const convert = conversionOf(rule);
  if ('constant' in rule) {
    const constant = convert(rule.constant);
    return () => constant;
  }
  const columns = ('product' in rule ? rule.product : [rule.column]).map(cell);
  return (row) => {
    let product = 1;
    for (const column of columns) {
      const value = asNumber(column(row));
      if (typeof value !== 'number') return value;
      product *= value;
    }
    return convert(product);
  };
}

export function conversionOf({ factor = 1, offset = 0, decimals }: ValueRule): (value: number) => number {
  return (value) => {
    const converted = value * factor + offset;
    return decimals === undefined ? converted : Number(converted.toFixed(decimals));
  };
}

/** The number a cell stands for; what stands for none is left as it is, for the door to refuse. */
export function asNumber(cell: unknown): unknown {
  return typeof cell === 'string' ? (numberOf(cell.trim()) ?? cell) : cell;
}

function toNumber(cell: unknown): number {
  const value = asNumber(cell);
  return typeof value === 'number' ? value : Number.NaN;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
