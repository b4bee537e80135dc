import type { Entry, ReadingEntry } from '../../protocol/entry.ts';
import type { Kind } from '../../protocol/kind.ts';
import type { Reading } from '../../protocol/reading.ts';
import { int8Column, timestampColumn } from '../column.ts';
import { readFloat8, readInt8, readTexts, readTimestamps } from '../column-reader.ts';
import { byRevision } from '../postgres/journal.ts';
import { prepared } from '../postgres/statement.ts';
import type { Sql } from '../sql.ts';

/**
 * Stretches of journals, of many twins at once, for replay: what lies between a snapshot and the next.
 *
 *  1 One statement, which sees one moment: a stretch has no hole that was not there.
 *  2 An entry comes back equal to the one that was journaled (postgres/journal.ts).
 *  3 Only the stretch is looked at: history is indexed by (twin, at, revision), so a stretch says between which event times
 *    its readings lie. The snapshot below it says so with `floor_at`, the one above it with its newest reading.
 */
export interface Segment {
  twin: number;
  /** Without its kind. */
  id: string;
  /** Entries above this revision, */
  after: number;
  /** up to this one. */
  upto: number;
  /** No reading of it has an event time at or below this, ms; -Infinity where that is not known. */
  floorAt: number;
  /** None lies above this, ms; Infinity where that is not known. */
  newestAt: number;
}

/** The newest revision there can be: for stretches that end where the journal ends. */
export const NEWEST = Number.MAX_SAFE_INTEGER;

/** Entries of each stretch of twins of one kind, in order of revision. What has been dropped by retention is missing. Throws SqlError. */
export async function readSegments(sql: Sql, kind: Kind, segments: readonly Segment[]): Promise<Entry[][]> {
  const entries: Entry[][] = segments.map(() => []);
  if (segments.length === 0) return entries;
  const text = statementOf(kind);
  const rows = segments.length;
  const [row] = await sql.query<Record<string, Uint8Array | null>>(
    text,
    [
      int8Column(rows, (i) => i),
      int8Column(rows, (i) => segments[i].twin),
      int8Column(rows, (i) => segments[i].after),
      int8Column(rows, (i) => segments[i].upto),
      timestampColumn(rows, (i) => segments[i].floorAt),
      timestampColumn(rows, (i) => segments[i].newestAt),
    ],
    prepared(text, false),
  );
  if (kind.openMetrics) takeNarrow(kind, segments, row, entries);
  else takeWide(kind, segments, row, entries);
  takeOthers(row, entries);
  for (const stretch of entries) stretch.sort(byRevision);
  return entries;
}

const statements = new WeakMap<Kind, string>();

function statementOf(kind: Kind): string {
  let text = statements.get(kind);
  if (text === undefined) {
    text = makeStatement(kind);
    statements.set(kind, text);
  }
  return text;
}

function makeStatement(kind: Kind): string {
  const values = kind.openMetrics ? ['metric', 'value', 'unit'] : kind.metricNames.map((name) => `"${name}"`);
  const columns = ['revision', 'at', 'received_at', 'key', 'seq', 'sensor', ...values];
  const sent = (alias: string, column: string, name: string) => `array_send(array_agg(${alias}.${column})) as ${name}`;
  const wide = kind.openMetrics ? [] : kind.metricNames.map((name, i) => sent('r', `"${name}"`, `m${i}`));
  const narrow = kind.openMetrics ? ['metric', 'value', 'unit'].map((name) => sent('r', name, `r_${name}`)) : [];
  const named = ['s', 'revision', 'at', 'received_at', 'key', 'seq', 'sensor'].map((name) =>
    sent('r', name, `r_${name}`),
  );
  // `offset 0` keeps the lateral as it is: one descent of the index for each stretch.
  return `
    with s as materialized (
      select * from unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::timestamptz[], $6::timestamptz[])
        as s(s, twin, after, upto, floor_at, newest_at)),
    r as materialized (
      select s.s, r.* from s cross join lateral (
        select ${columns.map((column) => `r.${column}`).join(', ')}, r.attributes::text as attributes
        from ${kind.kind}_readings r
        where r.twin = s.twin and r.at > s.floor_at and r.at <= s.newest_at and r.revision > s.after and r.revision <= s.upto
        offset 0) r),
    e as materialized (
      select s.s, e.* from s cross join lateral (
        select e.revision, e.received_at, e.type, e.body::text as body from entries e
        where e.twin = s.twin and e.revision > s.after and e.revision <= s.upto offset 0) e)
    select * from (
      select ${[...named, sent('r', 'attributes', 'r_attributes'), ...wide, ...narrow].join(', ')} from r) r cross join (
      select ${['s', 'revision', 'received_at', 'type', 'body'].map((name) => sent('e', name, `e_${name}`)).join(', ')} from e) e`;
}

type Columns = Record<string, Uint8Array | null>;

/** What a reading has beside its values. */
interface Common {
  of: Float64Array;
  revision: Float64Array;
  at: Float64Array;
  receivedAt: Float64Array;
  key: (string | null)[] | null;
  seq: Float64Array;
  sensor: (string | null)[] | null;
  attributes: (string | null)[] | null;
}

function commonOf(row: Columns): Common {
  return {
    of: readInt8(row.r_s),
    revision: readInt8(row.r_revision),
    at: readTimestamps(row.r_at),
    receivedAt: readTimestamps(row.r_received_at),
    key: readTexts(row.r_key),
    seq: readInt8(row.r_seq),
    sensor: readTexts(row.r_sensor),
    attributes: readTexts(row.r_attributes),
  };
}

function entryAt(kind: Kind, id: string, c: Common, i: number, values: Record<string, number>): ReadingEntry {
  const reading: Reading = { kind: kind.kind, id, at: c.at[i], values };
  const key = c.key?.[i] ?? null;
  const sensor = c.sensor?.[i] ?? null;
  const attributes = c.attributes?.[i] ?? null;
  if (key !== null) reading.key = key;
  if (!Number.isNaN(c.seq[i])) reading.seq = c.seq[i];
  if (sensor !== null) reading.sensor = sensor;
  if (attributes !== null) reading.attributes = JSON.parse(attributes);
  return { type: 'reading', revision: c.revision[i], receivedAt: c.receivedAt[i], reading };
}

function takeWide(kind: Kind, segments: readonly Segment[], row: Columns, into: Entry[][]): void {
  const c = commonOf(row);
  const names = kind.metricNames;
  const metrics = names.map((_, m) => readFloat8(row[`m${m}`]));
  for (let i = 0; i < c.of.length; i++) {
    const values: Record<string, number> = {};
    for (let m = 0; m < names.length; m++) {
      const value = metrics[m][i];
      if (!Number.isNaN(value)) values[names[m]] = value;
    }
    const s = c.of[i];
    into[s].push(entryAt(kind, segments[s].id, c, i, values));
  }
}

/** Rows of one revision are one reading. */
function takeNarrow(kind: Kind, segments: readonly Segment[], row: Columns, into: Entry[][]): void {
  const c = commonOf(row);
  const metric = readTexts(row.r_metric);
  const value = readFloat8(row.r_value);
  const unit = readTexts(row.r_unit);
  const byStretch = segments.map(() => new Map<number, number[]>());
  for (let i = 0; i < c.of.length; i++) {
    const rows = byStretch[c.of[i]].get(c.revision[i]);
    if (rows) rows.push(i);
    else byStretch[c.of[i]].set(c.revision[i], [i]);
  }
  byStretch.forEach((readings, s) => {
    for (const rows of readings.values()) {
      const named = rows.map((i) => [metric![i] as string, value[i]] as const).sort(([a], [b]) => (a < b ? -1 : 1));
      const entry = entryAt(kind, segments[s].id, c, rows[0], Object.fromEntries(named));
      const its = unit?.[rows[0]] ?? null;
      if (its !== null) entry.reading.unit = its;
      into[s].push(entry);
    }
  });
}

function takeOthers(row: Columns, into: Entry[][]): void {
  const of = readInt8(row.e_s);
  const revision = readInt8(row.e_revision);
  const receivedAt = readTimestamps(row.e_received_at);
  const type = readTexts(row.e_type);
  const body = readTexts(row.e_body);
  for (let i = 0; i < of.length; i++) {
    const what = body?.[i] ?? '{}';
    into[of[i]].push({
      type: type![i],
      revision: revision[i],
      receivedAt: receivedAt[i],
      ...(JSON.parse(what) as object),
    } as Entry);
  }
}
