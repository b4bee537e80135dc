import { SNAPSHOT_KEEP_EVERY, type Snapshot, type Summary } from '../port.ts';
import { Batch, FENCED, type Parameters } from './statement.ts';

/**
 * A replaced snapshot is kept where replay to a moment opens: far enough after the one kept before it, and where another version
 * of the kind goes on from it, because no other version would come to the same state.
 */
const KEPT = `(s.apart >= ${SNAPSHOT_KEEP_EVERY} or s.was <> s.kind_version)`;

export function snapshots(all: readonly Snapshot[], parameters: Parameters): string {
  const rows = newestOf(all);
  const batch = new Batch(parameters, rows.length)
    .int4('shard', (i) => rows[i].shard)
    .int8('twin', (i) => rows[i].twin)
    .text('twin_id', (i) => rows[i].twinId)
    .int8('revision', (i) => rows[i].revision)
    .int4('shape', (i) => rows[i].shape)
    .int4('kind_version', (i) => rows[i].kindVersion)
    .bytea('state', (i) => rows[i].state)
    .timestamp('floor_at', (i) => rows[i].floorAt)
    .timestamp('wake_at', (i) => rows[i].wakeAt)
    .timestamp('received_at', (i) => rows[i].receivedAt);
  const { columns } = batch;
  const own = batch.names.map((name) => `r."${name}"`).join(', ');
  // The one before is found by a descent of the index for each twin, and dropped by where it lies: no plan for few rows or
  // for many, and no statistics that may be missing, can make a scan of it.
  return `
snap as materialized (
  select ${own}, o.place, o.apart, o.was from ${batch.from('r')} left join lateral (
    select t.ctid as place, t.kind_version as was, t.revision, t.revision - coalesce(
      (select max(k.revision) from twin_snapshots k where k.twin = t.twin and k.revision < t.revision), 0) as apart
    from twin_snapshots t where t.twin = r.twin order by t.revision desc limit 1) o on true
  where ${FENCED} and coalesce(o.revision, 0) <= r.revision),
snap_kept as (
  update twin_snapshots t set latest = false from snap s
  where t.ctid = s.place and t.revision < s.revision and ${KEPT}),
snap_dropped as (
  delete from twin_snapshots t using snap s
  where t.ctid = s.place and t.revision < s.revision and not ${KEPT}),
snap_new as (
  insert into twin_snapshots (${columns}) select ${columns} from snap
  on conflict (twin, revision) do update set
    shape = excluded.shape, kind_version = excluded.kind_version, state = excluded.state, floor_at = excluded.floor_at,
    wake_at = excluded.wake_at, received_at = excluded.received_at, latest = true)`;
}

export function summaries(all: readonly Summary[], parameters: Parameters): string[] {
  const rows = newestOf(all);
  const known = rows.filter((row) => row.known);
  const others = known.length < rows.length ? rows.filter((row) => !row.known) : [];
  const parts: string[] = [];
  if (known.length > 0) parts.push(renewed(known, parameters));
  if (others.length > 0) parts.push(madeOrRenewed(others, parameters));
  return parts;
}

function renewed(rows: readonly Summary[], parameters: Parameters): string {
  const batch = new Batch(parameters, rows.length)
    .int4('shard', (i) => rows[i].shard)
    .int8('twin', (i) => rows[i].twin);
  changing(batch, rows);
  return `
summed as (
  update twins t set ${CHANGING.map((name) => `${name} = r.${name}`).join(', ')}
  from ${batch.from('r')} where t.twin = r.twin and r.revision >= t.revision and ${FENCED})`;
}

/** An upsert locks the row before it writes it anew: a third more work than the update of a row that is there. */
function madeOrRenewed(rows: readonly Summary[], parameters: Parameters): string {
  const batch = new Batch(parameters, rows.length)
    .int8('twin', (i) => rows[i].twin)
    .int4('shard', (i) => rows[i].shard)
    .text('twin_id', (i) => rows[i].twinId)
    .text('kind', (i) => rows[i].kind)
    .text('id', (i) => rows[i].twinId.slice(rows[i].kind.length + 1));
  changing(batch, rows);
  const { columns } = batch;
  return `
summed_new as (
  insert into twins as t (${columns}) select ${columns} from ${batch.from('r')} where ${FENCED}
  on conflict (twin) do update set ${CHANGING.map((name) => `${name} = excluded.${name}`).join(', ')}
  where excluded.revision >= t.revision)`;
}

const CHANGING = [
  'revision',
  'at',
  'received_at',
  'health',
  'online',
  'retired',
  'alerts',
  'reported',
  'attributes',
] as const;

/** The columns of CHANGING. */
function changing(batch: Batch, rows: readonly Summary[]): void {
  batch
    .int8('revision', (i) => rows[i].revision)
    .timestamp('at', (i) => rows[i].at)
    .timestamp('received_at', (i) => rows[i].receivedAt)
    .text('health', (i) => rows[i].health)
    .bool('online', (i) => rows[i].online)
    .bool('retired', (i) => rows[i].retired)
    .int4('alerts', (i) => rows[i].alerts)
    .jsonb('reported', (i) => JSON.stringify(rows[i].reported))
    .jsonb('attributes', (i) => jsonOf(rows[i].attributes));
}

/** Most twins have no attributes. */
function jsonOf(attributes: Record<string, unknown>): string {
  for (const _ in attributes) return JSON.stringify(attributes);
  return '{}';
}

/** One statement can touch a row once: of several of one twin the newest counts. */
function newestOf<T extends { twin: number; revision: number }>(rows: readonly T[]): readonly T[] {
  const newest = new Map<number, T>();
  for (const row of rows) {
    const other = newest.get(row.twin);
    if (!other || row.revision >= other.revision) newest.set(row.twin, row);
  }
  return newest.size === rows.length ? rows : [...newest.values()];
}
