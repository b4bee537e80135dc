import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import { checkMap } from './map-check.ts';

/**
 * A map says how the rows of a foreign file become readings: which column is which metric and in what unit, whose
 * reading it is, and when it was. It only names and converts; whether the result is a reading is decided at the door.
 * Maps are JSON files; those in the folder beside this file go by their name.
 */
export interface DataMap {
  name: string;
  description?: string;
  /** Kinds it makes readings of; `--kind` has to be one of them and may be left out where there is only one. */
  kinds: string[];
  /** `csv`: rows with a header; `ndjson`: an object a line; `matrix`: rows are assets, columns are times, a file a metric. */
  format: 'csv' | 'ndjson' | 'matrix';
  /** Between cells. `space` is any run of blanks. Default `,`. */
  separator?: ',' | ';' | '\t' | '|' | 'space';
  /** Names of the columns, for a CSV without a header line. */
  columns?: string[];
  id: IdRule;
  time: TimeRule;
  /** Metric → where its value comes from; a text is the name of a column. For a matrix: `{ "file": … }`. */
  metrics: Record<string, string | ValueRule>;
  /** Attribute of the twin → where it comes from. */
  attributes?: Record<string, { column: string; optional?: boolean } | { constant: string | number | boolean }>;
  /** Columns with the device's running number and with the reading's own id. */
  seq?: string;
  key?: string;
  /** Unit of the values, for kinds with open metrics. */
  unit?: string;
  /** Cells that mean "no value", beside blank ones. */
  missing?: string[];
  /** Column in which people have marked readings that are anomalies; no part of a reading. */
  label?: string;
}

export type IdRule =
  | { column: string; prefix?: string }
  /** The first group of this regular expression in the file's name; `true`: the name up to its first dot. */
  | { file: string | true; prefix?: string }
  | { constant: string }
  /** The number of the row, counted from `from` (default 1). */
  | { count: 'row'; from?: number; prefix?: string };

export type TimeRule =
  /** ISO 8601 or epoch; `unit` says which epoch where the size of the number does not (contract: below 10^11 seconds). */
  | { column: string; unit?: 's' | 'ms' }
  /** Seconds after `--start`: the sum of these. */
  | { offset: OffsetTerm[] };

export type OffsetTerm =
  /** (value - from) · seconds */
  | { column: string; seconds?: number; from?: number }
  /** Rows (or columns of a matrix) from 0, times seconds. */
  | { count: 'row' | 'column'; seconds: number };

/**
 * What has run through since a stretch of the file began: the integral of a column over the seconds of event time, by the trapezoid
 * rule. A stretch begins with the file and wherever `restart` changes; where reading is taken up inside a stretch, there is no value
 * until the next one. `where`: only rows in which a column holds this text have one. `within`: kept inside these bounds, after factor
 * and offset.
 */
export interface IntegralRule {
  integral: string;
  restart?: string;
  where?: { column: string; is: string };
  within?: [number, number];
}

export type ValueRule = (
  | IntegralRule
  | { column: string }
  /** The product of these columns; missing where one of them is. */
  | { product: string[] }
  | { constant: number }
  /** Matrix: the file whose name holds this text carries the metric. */
  | { file: string }
) & {
  /** value · factor + offset */
  factor?: number;
  offset?: number;
  /** Rounded to so many decimals, against the noise of the conversion. */
  decimals?: number;
};

const MAPS = fileURLToPath(new URL('./maps/', import.meta.url));
const MAX_MAP_BYTES = 262_144;

export function mapNames(): string[] {
  return readdirSync(MAPS)
    .filter((file) => file.endsWith('.json'))
    .map((file) => basename(file, '.json'))
    .sort();
}

/** A map by name, or by the path of its file. Throws bad_request naming every fault of it at once. */
export function loadMap(nameOrPath: string): DataMap {
  const builtIn = /^[a-z0-9-]+$/.test(nameOrPath);
  if (builtIn && !mapNames().includes(nameOrPath)) {
    const there = `there are ${mapNames().join(', ')}, and any path to a map of your own (./my-map.json)`;
    throw new TwinmeshError('bad_request', `There is no map "${nameOrPath}"; ${there}.`);
  }
  const path = builtIn ? join(MAPS, `${nameOrPath}.json`) : nameOrPath;
  let content: unknown;
  try {
    const text = readFileSync(path, 'utf8');
    if (text.length > MAX_MAP_BYTES) throw new Error('it is too long for a map');
    content = JSON.parse(text);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'it does not exist' : messageOf(error);
    throw new TwinmeshError('bad_request', `Map ${nameOrPath}: ${why}.`, undefined, { cause: error });
  }
  const name = builtIn ? nameOrPath : basename(nameOrPath).replace(/\.json$/, '');
  const faults = checkMap(content);
  if (faults.length > 0) throw new TwinmeshError('bad_request', `Map ${nameOrPath}: ${faults.join('; ')}.`);
  return { ...(content as Omit<DataMap, 'name'>), name };
}

/** Columns that a map cannot do without. */
export function columnsOf(map: DataMap): string[] {
  const names = new Set<string>();
  const add = (rule: object) => {
    if ('optional' in rule && rule.optional === true) return;
    if ('column' in rule) names.add(rule.column as string);
    if ('integral' in rule) {
      const { integral, restart, where } = rule as IntegralRule;
      for (const name of [integral, restart, where?.column]) if (name !== undefined) names.add(name);
    }
    if ('product' in rule) for (const name of rule.product as string[]) names.add(name);
  };
  add(map.id);
  if ('offset' in map.time) map.time.offset.forEach(add);
  else add(map.time);
  for (const rule of Object.values(map.metrics)) add(typeof rule === 'string' ? { column: rule } : rule);
  Object.values(map.attributes ?? {}).forEach(add);
  if (map.seq !== undefined) names.add(map.seq);
  if (map.key !== undefined) names.add(map.key);
  return [...names];
}
