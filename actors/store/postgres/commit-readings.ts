import type { Kind } from '../../protocol/kind.ts';
import { CommitAborted, type JournalReading } from '../port.ts';
import { Batch, FENCED, type Parameters } from './statement.ts';

/** The journal's readings: one insert a kind. Columns that are null throughout are left out. */
export function readings(
  rows: readonly JournalReading[],
  kinds: ReadonlyMap<string, Kind>,
  parameters: Parameters,
): string[] {
  const byKind = new Map<string, JournalReading[]>();
  for (const row of rows) {
    const of = byKind.get(row.kind);
    if (of) of.push(row);
    else byKind.set(row.kind, [row]);
  }
  const parts: string[] = [];
  // In order of name, so that the same kinds make the same text.
  for (const name of [...byKind.keys()].sort()) {
    const kind = kinds.get(name);
    if (!kind) throw new CommitAborted(`The store was not opened with the kind "${name}".`);
    parts.push(
      kind.openMetrics ? narrow(kind, byKind.get(name)!, parameters) : wide(kind, byKind.get(name)!, parameters),
    );
  }
  return parts;
}

function wide(kind: Kind, rows: readonly JournalReading[], parameters: Parameters): string {
  const batch = common(new Batch(parameters, rows.length), rows);
  for (const metric of kind.metricNames) batch.optional('float8', metric, (i) => rows[i].values[metric] ?? null);
  return insert(kind, batch);
}

/** One row a metric. A backfilled reading of several metrics carries their set, because no revision holds its rows together. */
function narrow(kind: Kind, rows: readonly JournalReading[], parameters: Parameters): string {
  const flat: JournalReading[] = [];
  const metrics: string[] = [];
  const sets: (string | null)[] = [];
  for (const row of rows) {
    const names = Object.keys(row.values).sort();
    const set = row.revision === null && names.length > 1 ? names.join(',') : null;
    for (const name of names) {
      flat.push(row);
      metrics.push(name);
      sets.push(set);
    }
  }
  const batch = common(new Batch(parameters, flat.length), flat)
    .text('metric', (i) => metrics[i])
    .float8('value', (i) => flat[i].values[metrics[i]])
    .optional('text', 'unit', (i) => flat[i].unit)
    .optional('text', 'metric_set', (i) => sets[i]);
  return insert(kind, batch);
}

function common(batch: Batch, rows: readonly JournalReading[]): Batch {
  return batch
    .int4('shard', (i) => rows[i].shard)
    .int8('twin', (i) => rows[i].twin)
    .timestamp('at', (i) => rows[i].at)
    .timestamp('received_at', (i) => rows[i].receivedAt)
    .optional('int8', 'revision', (i) => rows[i].revision)
    .optional('text', 'key', (i) => rows[i].key)
    .optional('int8', 'seq', (i) => rows[i].seq)
    .optional('text', 'sensor', (i) => rows[i].sensor)
    .optional('json', 'attributes', (i) => (rows[i].attributes === null ? null : JSON.stringify(rows[i].attributes)));
}

function insert(kind: Kind, batch: Batch): string {
  const { columns } = batch;
  return `
readings_${kind.kind} as (
  insert into ${kind.kind}_readings (${columns})
  select ${columns} from ${batch.from('r')} where ${FENCED})`;
}
