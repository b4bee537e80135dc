import type { Entry } from '../../protocol/entry.ts';
import type { TwinEvent } from '../../protocol/event.ts';
import type { Cursor, Cut, JournalEntry, ShardDeadLetter } from '../port.ts';
import { type AlertChange, alertChanges, anomalies, kindOf } from '../projection.ts';
import { Batch, FENCED, type Parameters } from './statement.ts';

/** What is rare beside readings: entries, events and what follows from them, dead letters, cursors. */
export function happenings(cut: Cut, parameters: Parameters): string[] {
  const parts: string[] = [];
  if (cut.entries.length > 0) parts.push(entries(cut.entries, parameters));
  if (cut.events.length > 0) {
    parts.push(events(cut.events, parameters));
    const changes = alertChanges(cut.events);
    const raised = changes.filter((change) => change.raised);
    const changed = changes.filter((change) => !change.raised);
    if (raised.length > 0) parts.push(raisedAlerts(raised, parameters));
    if (changed.length > 0) parts.push(changedAlerts(changed, parameters));
    const anomalous = anomalyRows(cut.events, parameters);
    if (anomalous) parts.push(anomalous);
  }
  if (cut.deadLetters.length > 0) parts.push(deadLetters(cut.deadLetters, parameters));
  if (cut.cursors.length > 0) parts.push(cursors(cut.cursors, parameters));
  return parts;
}

/** The part of an entry that its columns do not hold, as JSON text: `json` keeps the order of keys, which replay may depend on. */
export function bodyOf(entry: Exclude<Entry, { type: 'reading' }>): string {
  switch (entry.type) {
    case 'command':
      return JSON.stringify({ command: entry.command });
    case 'tick':
      return '{}';
    case 'tuning':
      return JSON.stringify({ tuning: entry.tuning });
    case 'prediction':
      return JSON.stringify({ name: entry.name, basedOn: entry.basedOn, prediction: entry.prediction });
  }
}

function entries(rows: readonly JournalEntry[], parameters: Parameters): string {
  const batch = new Batch(parameters, rows.length)
    .int8('twin', (i) => rows[i].twin)
    .int8('revision', (i) => rows[i].entry.revision)
    .int4('shard', (i) => rows[i].shard)
    .text('type', (i) => rows[i].entry.type)
    .timestamp('received_at', (i) => rows[i].entry.receivedAt)
    .json('body', (i) => bodyOf(rows[i].entry));
  return insert('entries', batch);
}

function events(rows: readonly TwinEvent[], parameters: Parameters): string {
  const batch = new Batch(parameters, rows.length)
    .int4('shard', (i) => rows[i].shard)
    .int8('seq', (i) => rows[i].seq)
    .text('event_id', (i) => rows[i].eventId)
    .int8('twin', (i) => rows[i].twin)
    .text('twin_id', (i) => rows[i].twinId)
    .text('kind', (i) => kindOf(rows[i].twinId))
    .int8('revision', (i) => rows[i].revision)
    .text('type', (i) => rows[i].type)
    .timestamp('at', (i) => rows[i].at)
    .timestamp('received_at', (i) => rows[i].receivedAt)
    .jsonb('body', (i) => JSON.stringify(rows[i].body));
  return insert('events', batch);
}

function alertBatch(changes: readonly AlertChange[], parameters: Parameters): Batch {
  const row = (i: number) => changes[i].row;
  return new Batch(parameters, changes.length)
    .text('alert_id', (i) => row(i).alertId)
    .text('twin_id', (i) => row(i).twinId)
    .text('kind', (i) => row(i).kind)
    .text('alert_type', (i) => row(i).alertType)
    .text('severity', (i) => row(i).severity)
    .text('message', (i) => row(i).message)
    .text('state', (i) => row(i).state)
    .timestamp('raised_at', (i) => row(i).raisedAt)
    .bool('acknowledged', (i) => row(i).acknowledged)
    .text('acknowledged_by', (i) => row(i).acknowledgedBy)
    .timestamp('acknowledged_at', (i) => row(i).acknowledgedAt)
    .timestamp('resolved_at', (i) => row(i).resolvedAt)
    .timestamp('silenced_until', (i) => row(i).silencedUntil)
    .text('note', (i) => row(i).note)
    .int8('revision', (i) => row(i).revision);
}

function raisedAlerts(changes: readonly AlertChange[], parameters: Parameters): string {
  const batch = alertBatch(changes, parameters);
  const { columns, names } = batch;
  batch.int4('shard', (i) => changes[i].shard);
  const renewed = names.filter((name) => name !== 'shard' && name !== 'alert_id');
  return `
alerts_raised as (
  insert into alerts as t (${columns}) select ${columns} from ${batch.from('r')} where ${FENCED}
  on conflict (alert_id) do update set ${renewed.map((name) => `${name} = excluded.${name}`).join(', ')}
  where excluded.revision > t.revision)`;
}

function changedAlerts(changes: readonly AlertChange[], parameters: Parameters): string {
  const batch = alertBatch(changes, parameters).int4('shard', (i) => changes[i].shard);
  return `
alerts_changed as (
  update alerts t set
    state = coalesce(r.state, t.state), acknowledged = t.acknowledged or r.acknowledged,
    acknowledged_by = case when r.acknowledged then r.acknowledged_by else t.acknowledged_by end,
    acknowledged_at = coalesce(r.acknowledged_at, t.acknowledged_at), resolved_at = coalesce(r.resolved_at, t.resolved_at),
    silenced_until = coalesce(r.silenced_until, t.silenced_until), note = coalesce(r.note, t.note), revision = r.revision
  from ${batch.from('r')} where t.alert_id = r.alert_id and r.revision > t.revision and ${FENCED})`;
}

function anomalyRows(all: readonly TwinEvent[], parameters: Parameters): string | null {
  const rows = anomalies(all);
  if (rows.length === 0) return null;
  const batch = new Batch(parameters, rows.length)
    .text('anomaly_id', (i) => rows[i].anomalyId)
    .text('twin_id', (i) => rows[i].twinId)
    .text('kind', (i) => rows[i].kind)
    .timestamp('at', (i) => rows[i].at)
    .text('field', (i) => rows[i].field)
    .float8('value', (i) => rows[i].value)
    .text('model', (i) => rows[i].model ?? null)
    .jsonb('contributions', (i) => (rows[i].contributions ? JSON.stringify(rows[i].contributions) : null))
    .float8('expected_lo', (i) => rows[i].expected?.[0] ?? null)
    .float8('expected_hi', (i) => rows[i].expected?.[1] ?? null)
    .float8('score', (i) => rows[i].score)
    .float8('threshold', (i) => rows[i].threshold)
    .text('detector', (i) => rows[i].detector)
    .text('severity', (i) => rows[i].severity)
    .text('reason', (i) => rows[i].reason)
    .int8('revision', (i) => rows[i].revision);
  const { columns } = batch;
  batch.int4('shard', (i) => rows[i].shard);
  return `
anomalies_new as (
  insert into anomaly_events (${columns}) select ${columns} from ${batch.from('r')} where ${FENCED}
  on conflict (anomaly_id) do nothing)`;
}

function deadLetters(rows: readonly ShardDeadLetter[], parameters: Parameters): string {
  const batch = new Batch(parameters, rows.length)
    .timestamp('received_at', (i) => rows[i].receivedAt)
    .text('source', (i) => rows[i].source)
    .text('code', (i) => rows[i].code)
    .text('message', (i) => rows[i].message)
    .text('twin_id', (i) => rows[i].twinId)
    .text('payload', (i) => rows[i].payload);
  const { columns } = batch;
  batch.int4('shard', (i) => rows[i].shard);
  return insert('dead_letters', batch, columns);
}

function cursors(all: readonly Cursor[], parameters: Parameters): string {
  const furthest = new Map<string, Cursor>();
  for (const row of all) {
    const name = `${row.shard} ${row.sink}`;
    const other = furthest.get(name);
    if (!other || row.seq > other.seq) furthest.set(name, row);
  }
  const rows = [...furthest.values()];
  const batch = new Batch(parameters, rows.length)
    .text('sink', (i) => rows[i].sink)
    .int4('shard', (i) => rows[i].shard)
    .int8('seq', (i) => rows[i].seq);
  return `
cursors as (
  insert into sink_cursors as t (sink, shard, seq) select sink, shard, seq from ${batch.from('r')} where ${FENCED}
  on conflict (sink, shard) do update set seq = excluded.seq where excluded.seq > t.seq)`;
}

function insert(table: string, batch: Batch, columns = batch.columns): string {
  return `
${table}_new as (
  insert into ${table} (${columns}) select ${columns} from ${batch.from('r')} where ${FENCED})`;
}
