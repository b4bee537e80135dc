import type { Entry } from '../protocol/entry.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import type { Reading } from '../protocol/reading.ts';
import type { Cut, JournalReading, Snapshot, Summary } from './port.ts';

/**
 * Copies as a wire would make them. Readings are the hot path and flat, so they are copied by hand; what holds
 * documents goes through JSON, as it does on its way to a database.
 */
export function copyJson<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

/** Values in the order in which the tables give them back: of the kind's metrics, or of names where they are open. */
export function copyValues(kind: Kind | undefined, values: Record<string, number>): Record<string, number> {
  const copy: Record<string, number> = {};
  for (const name of kind && !kind.openMetrics ? kind.metricNames : Object.keys(values).sort()) {
    const value = values[name];
    if (value !== undefined) copy[name] = value;
  }
  return copy;
}

export function copyReading(kind: Kind | undefined, row: JournalReading): JournalReading {
  return {
    shard: row.shard,
    twin: row.twin,
    kind: row.kind,
    revision: row.revision,
    at: row.at,
    receivedAt: row.receivedAt,
    key: row.key,
    seq: row.seq,
    sensor: row.sensor,
    attributes: row.attributes === null ? null : { ...row.attributes },
    unit: kind?.openMetrics ? row.unit : null,
    values: copyValues(kind, row.values),
  };
}

export function copyEntry(entry: Entry): Entry {
  if (entry.type === 'tick') return { type: 'tick', revision: entry.revision, receivedAt: entry.receivedAt };
  if (entry.type !== 'reading') return copyJson(entry);
  const { reading } = entry;
  const copy: Reading = { ...reading, values: { ...reading.values } };
  if (reading.attributes) copy.attributes = { ...reading.attributes };
  return { type: 'reading', revision: entry.revision, receivedAt: entry.receivedAt, reading: copy };
}

export function copyEvent(event: TwinEvent): TwinEvent {
  return { ...event, body: copyJson(event.body) };
}

export function copySnapshot(snapshot: Snapshot): Snapshot {
  return { ...snapshot, state: new Uint8Array(snapshot.state) };
}

export function copySummary(summary: Summary): Summary {
  return { ...summary, reported: { ...summary.reported }, attributes: { ...summary.attributes } };
}

export function copyCut(cut: Cut, kinds: ReadonlyMap<string, Kind>): Cut {
  return {
    node: cut.node,
    shards: cut.shards.map((row) => ({ ...row })),
    readings: cut.readings.map((row) => copyReading(kinds.get(row.kind), row)),
    entries: cut.entries.map((row) => ({ ...row, entry: copyEntry(row.entry) as typeof row.entry })),
    events: cut.events.map(copyEvent),
    snapshots: cut.snapshots.map(copySnapshot),
    summaries: cut.summaries.map(copySummary),
    deadLetters: cut.deadLetters.map((row) => ({ ...row })),
    cursors: cut.cursors.map((row) => ({ ...row })),
  };
}
