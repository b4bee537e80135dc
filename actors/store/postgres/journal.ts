import type { Entry } from '../../protocol/entry.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { Kind } from '../../protocol/kind.ts';
import type { Reading } from '../../protocol/reading.ts';
import { kindOf } from '../projection.ts';
import type { Sql } from '../sql.ts';

/**
 * Rows of the journal, and the entries that they are.
 *
 *  1 An entry comes back equal to the one that was journaled; values are in the order of the kind's metrics (in order
 *    of name where the metrics are open), whatever order they arrived in.
 */
export interface ReadingRow {
  twin: number;
  /** Null: backfill. */
  revision: number | null;
  receivedAt: number;
  at: number;
  key: string | null;
  seq: number | null;
  sensor: string | null;
  attributes: Reading['attributes'] | null;
  /** Open metrics: one row a metric. */
  metric?: string;
  value?: number;
  unit?: string | null;
  metricSet?: string | null;
  /** Other kinds: a column a metric, its name behind `m_`. */
  [metric: `m_${string}`]: number | null;
}

export interface EntryRow {
  twin: number;
  revision: number;
  receivedAt: number;
  type: Exclude<Entry['type'], 'reading'>;
  body: Record<string, unknown>;
}

export function msOf(column: string): string {
  return `date_part('epoch', ${column}) * 1000`;
}

/** The columns of a ReadingRow, from `<kind>_readings r`. */
export function readingColumns(kind: Kind): string {
  const values = kind.openMetrics
    ? 'r.metric, r.value, r.unit, r.metric_set as "metricSet"'
    : kind.metricNames.map((name) => `r."${name}" as "m_${name}"`).join(', ');
  return `r.twin, r.revision, ${msOf('r.received_at')} as "receivedAt", ${msOf('r.at')} as at,
    r.key, r.seq, r.sensor, r.attributes, ${values}`;
}

/** The columns of an EntryRow, from `entries e`. */
export const ENTRY_COLUMNS = `e.twin, e.revision, ${msOf('e.received_at')} as "receivedAt", e.type, e.body`;

export function entryOf(row: EntryRow): Entry {
  return { type: row.type, revision: row.revision, receivedAt: Math.round(row.receivedAt), ...row.body } as Entry;
}

/** Entries of the rows of one twin; rows of one revision are one reading. */
export function readingEntriesOf(kind: Kind, twinId: string, rows: readonly ReadingRow[]): Entry[] {
  const entries: Entry[] = [];
  const id = twinId.slice(kind.kind.length + 1);
  if (!kind.openMetrics) {
    for (const row of rows) entries.push(readingEntryOf(kind, id, row, wideValues(kind, row)));
    return entries;
  }
  const byRevision = new Map<number | null, ReadingRow[]>();
  for (const row of rows) {
    const group = byRevision.get(row.revision);
    if (group) group.push(row);
    else byRevision.set(row.revision, [row]);
  }
  for (const group of byRevision.values()) entries.push(readingEntryOf(kind, id, group[0], narrowValues(group)));
  return entries;
}

export function wideValues(kind: Kind, row: ReadingRow): Record<string, number> {
  const values: Record<string, number> = {};
  for (const name of kind.metricNames) {
    const value = row[`m_${name}`];
    if (value !== null) values[name] = value;
  }
  return values;
}

export function narrowValues(rows: ReadingRow[]): Record<string, number> {
  if (rows.length > 1) rows.sort((a, b) => (a.metric! < b.metric! ? -1 : 1));
  const values: Record<string, number> = {};
  for (const row of rows) values[row.metric!] = row.value!;
  return values;
}

function readingEntryOf(kind: Kind, id: string, row: ReadingRow, values: Record<string, number>): Entry {
  const reading: Reading = { kind: kind.kind, id, at: Math.round(row.at), values };
  if (row.key !== null) reading.key = row.key;
  if (row.seq !== null) reading.seq = row.seq;
  if (row.sensor !== null) reading.sensor = row.sensor;
  if (row.attributes !== null) reading.attributes = row.attributes;
  if (kind.openMetrics && row.unit !== null) reading.unit = row.unit;
  return { type: 'reading', revision: row.revision!, receivedAt: Math.round(row.receivedAt), reading };
}

/**
 * Entries of one twin above a revision. One statement, because two would see two moments and could leave a hole.
 * The newest snapshot at or below the revision bounds how much of the history is looked at; revisions have no holes,
 * so that `limit` entries are `limit` revisions.
 */
export async function journal(
  sql: Sql,
  kinds: ReadonlyMap<string, Kind>,
  twin: { twin: number; twinId: string },
  afterRevision: number,
  limit: number,
): Promise<Entry[]> {
  const kind = kinds.get(kindOf(twin.twinId));
  if (!kind) throw new TwinmeshError('unknown_kind', `There is no kind "${kindOf(twin.twinId)}".`);
  const empty = kind.openMetrics ? 'null, null, null, null' : kind.metricNames.map(() => 'null::float8').join(', ');
  const rows = await sql.query<ReadingRow & { type: EntryRow['type'] | null; body: Record<string, unknown> | null }>(
    `select ${readingColumns(kind)}, null as type, null::json as body from ${kind.kind}_readings r
     where r.twin = $1 and r.revision > $2 and r.revision <= $3 and r.at > coalesce((
       select s.floor_at from twin_snapshots s where s.twin = $1 and s.revision <= $2
       order by s.revision desc limit 1), '-infinity')
     union all
     select e.twin, e.revision, ${msOf('e.received_at')}, null, null, null, null, null, ${empty}, e.type, e.body
     from entries e where e.twin = $1 and e.revision > $2 and e.revision <= $3`,
    [twin.twin, afterRevision, afterRevision + limit],
  );
  const entries = readingEntriesOf(
    kind,
    twin.twinId,
    rows.filter((row) => row.type === null),
  );
  for (const row of rows) if (row.type !== null) entries.push(entryOf(row as EntryRow));
  return entries.sort(byRevision);
}

export function byRevision(a: Entry, b: Entry): number {
  return a.revision - b.revision;
}
