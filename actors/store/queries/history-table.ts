import { createHash } from 'node:crypto';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { Kind } from '../../protocol/kind.ts';
import { METRIC_PATTERN } from '../../protocol/twin-id.ts';
import type { Binder, CursorKey, CursorKeyType } from './page.ts';
import { iso } from './span.ts';

/**
 * What queries know about the table `<kind>_readings`: its columns, its total order, its rows as items.
 *
 * The order of one twin's rows is by event time, then by whatever tells two readings of one instant apart: the revision,
 * and for backfill, which has none, the parts of its identity. Key, seq and sensor may be missing, so they stand in
 * with a least value; the set of metrics is the last part.
 */
export interface HistoryItem {
  at: string;
  receivedAt: string;
  /** Null for backfill: stored, never folded. */
  revision: number | null;
  values: Record<string, number>;
  unit?: string;
  sensor?: string;
  seq?: number;
  key?: string;
}

export interface HistoryRow {
  twin: number;
  at: Date;
  received_at: Date;
  revision: number | null;
  key: string | null;
  seq: number | null;
  sensor: string | null;
  unit?: string | null;
  metric?: string;
  value?: number;
  o_set: string;
  [metric: string]: unknown;
}

export function tableOf(kind: Kind): string {
  return `${kind.kind}_readings`;
}

/** The metrics asked for, by name, in the order of the kind. Throws `bad_request`; none asked for means all: null where they are open. */
export function metricsOf(kind: Kind, asked: string | undefined): readonly string[] | null {
  if (asked === undefined || asked.trim() === '') return kind.openMetrics ? null : kind.metricNames;
  const names = [...new Set(asked.split(',').map((name) => name.trim()))];
  const known = (name: string) => (kind.openMetrics ? METRIC_PATTERN.test(name) : kind.metricNames.includes(name));
  const strange = names.find((name) => !known(name));
  if (strange !== undefined || names.length > 60) {
    const there = kind.openMetrics ? 'letters, digits, _ . -' : kind.metricNames.join(', ');
    throw new TwinmeshError(
      'bad_request',
      `metric: "${(strange ?? '').slice(0, 60)}" is none of ${kind.kind}; there are ${there}.`,
    );
  }
  return kind.openMetrics ? names : kind.metricNames.filter((name) => names.includes(name));
}

/** Two readings of one instant differ in these metrics being there or not. */
function setOf(kind: Kind, r: string): string {
  if (kind.openMetrics) return `${r}.metric || ',' || coalesce(md5(${r}.metric_set), '')`;
  return `concat(${kind.metricNames.map((name) => `(${r}."${name}" is null)::int`).join(', ')})`;
}

/** Columns to select; `only` limits the metrics that are read. */
export function columnsOf(kind: Kind, r: string, only: readonly string[] | null): string {
  const metrics = kind.openMetrics
    ? [`${r}.metric`, `${r}.value`, `${r}.unit`]
    : (only ?? kind.metricNames).map((name) => `${r}."${name}"`);
  return [
    ...['twin', 'at', 'received_at', 'revision', 'key', 'seq', 'sensor'].map((name) => `${r}.${name}`),
    ...metrics,
    `${setOf(kind, r)} as o_set`,
  ].join(', ');
}

/** Only rows that carry one of the metrics, as a condition. */
export function carrying(kind: Kind, r: string, only: readonly string[] | null, binder: Binder): string {
  if (kind.openMetrics) return only === null ? 'true' : `${r}.metric = any(${binder.add([...only], '::text[]')})`;
  if (only === null || only.length === kind.metricNames.length) return 'true';
  return `(${only.map((name) => `${r}."${name}" is not null`).join(' or ')})`;
}

/** Expressions of the order behind `at`. */
function tieOf(kind: Kind, r: string): string[] {
  return [
    `coalesce(${r}.revision, 0)`,
    // By bytes, whatever the database collates by: what is merged with these rows elsewhere has to be in the same order.
    `coalesce(${r}.key, '') collate "C"`,
    `coalesce(${r}.seq, -9007199254740991)`,
    `coalesce(${r}.sensor, '') collate "C"`,
    `(${setOf(kind, r)}) collate "C"`,
  ];
}

/** Which metrics a reading has, as the database tells it (`o_set`), for a row that comes from elsewhere. */
export function setOfRow(kind: Kind, row: Record<string, unknown>): string {
  if (!kind.openMetrics) return kind.metricNames.map((name) => ((row[name] ?? null) === null ? '1' : '0')).join('');
  const all = row.metric_set as string | null;
  return `${row.metric},${all === null ? '' : createHash('md5').update(all).digest('hex')}`;
}

/** Order of two rows of one twin, as `orderOf` has it. */
export function compareRows(a: HistoryRow, b: HistoryRow): number {
  return (
    a.at.getTime() - b.at.getTime() ||
    (a.revision ?? 0) - (b.revision ?? 0) ||
    compareText(a.key ?? '', b.key ?? '') ||
    (a.seq ?? Number.MIN_SAFE_INTEGER) - (b.seq ?? Number.MIN_SAFE_INTEGER) ||
    compareText(a.sensor ?? '', b.sensor ?? '') ||
    compareText(a.o_set, b.o_set)
  );
}

function compareText(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** `carrying`, of a row at hand. */
export function carries(kind: Kind, only: readonly string[] | null, row: HistoryRow): boolean {
  if (kind.openMetrics) return only === null || only.includes(row.metric!);
  if (only === null || only.length === kind.metricNames.length) return true;
  return only.some((name) => (row[name] ?? null) !== null);
}

export const TIE_TYPES: readonly CursorKeyType[] = ['integer', 'text', 'integer', 'text', 'text'];

export function tieKeys(row: HistoryRow): CursorKey[] {
  return [row.revision ?? 0, row.key ?? '', row.seq ?? Number.MIN_SAFE_INTEGER, row.sensor ?? '', row.o_set];
}

/** `order by` behind a leading `at`. With `byTwin` the twin comes right after the time. */
export function orderOf(kind: Kind, r: string, descending: boolean, byTwin = false): string {
  const direction = descending ? 'desc' : 'asc';
  return [`${r}.at`, ...(byTwin ? [`${r}.twin`] : []), ...tieOf(kind, r)].map((e) => `${e} ${direction}`).join(', ');
}

/** The condition for rows behind (at, tie) of one twin, or behind (at, twin, tie) of all. `at` alone stands beside it for the index. */
export function behind(
  kind: Kind,
  r: string,
  descending: boolean,
  after: { at: number; twin?: number; tie: readonly CursorKey[] },
  binder: Binder,
): string {
  const symbol = descending ? '<' : '>';
  const at = binder.time(after.at);
  const [revision, key, seq, sensor, set] = after.tie;
  const bound = [
    ...(after.twin === undefined ? [] : [binder.add(after.twin, '::bigint')]),
    binder.add(revision, '::bigint'),
    binder.add(key, '::text'),
    binder.add(seq, '::bigint'),
    binder.add(sensor, '::text'),
    binder.add(set, '::text'),
  ];
  const expressions = [...(after.twin === undefined ? [] : [`${r}.twin`]), ...tieOf(kind, r)];
  return `${r}.at ${symbol}= ${at} and (${r}.at ${symbol} ${at} or (${expressions.join(', ')}) ${symbol} (${bound.join(', ')}))`;
}

export function historyItem(kind: Kind, only: readonly string[] | null, row: HistoryRow): HistoryItem {
  const values: Record<string, number> = {};
  if (kind.openMetrics) values[row.metric!] = row.value!;
  else {
    for (const name of only ?? kind.metricNames) {
      const value = row[name];
      if (typeof value === 'number') values[name] = value;
    }
  }
  const item: HistoryItem = {
    at: iso(row.at.getTime()),
    receivedAt: iso(row.received_at.getTime()),
    revision: row.revision,
    values,
  };
  if (typeof row.unit === 'string') item.unit = row.unit;
  if (row.sensor !== null) item.sensor = row.sensor;
  if (row.seq !== null) item.seq = row.seq;
  if (row.key !== null) item.key = row.key;
  return item;
}
