import type { Kind } from '../../protocol/kind.ts';
import { type Snapshot, type StoredTwin, TWIN_KEYS_PER_SHARD } from '../port.ts';
import { kindOf } from '../projection.ts';
import type { Sql } from '../sql.ts';
import {
  byRevision,
  ENTRY_COLUMNS,
  type EntryRow,
  entryOf,
  msOf,
  type ReadingRow,
  readingColumns,
  readingEntriesOf,
} from './journal.ts';
import { prepared } from './statement.ts';

/**
 * Recovery: the snapshots of twins and the entries above them.
 *
 *  1 Only who has claimed the shard recovers it, so that no commit lands between the queries.
 *  2 The tail of a twin is read by (twin, at > floor_at), which the one index of the history serves.
 */
interface Base {
  twin: number;
  twinId: string;
  shard: number;
}

interface SnapshotRow {
  twin: number;
  twinId: string;
  shard: number;
  revision: number;
  shape: number;
  kindVersion: number;
  state: string;
  floorAt: number;
  wakeAt: number | null;
  receivedAt: number;
}

// Statements are shaped so that each twin is one descent of an index: `lateral` with a limit or `offset 0`. Right after
// bulk writes the planner knows little of the tables, and its joins would scan them.

/** Twins `b` of a statement: their keys and what their snapshot covers, 0 and -infinity without one. */
function covered(twins: string): string {
  return `
  select t.twin, t.kind, coalesce(s.revision, 0) as revision, coalesce(s.floor_at, '-infinity') as floor_at
  from ${twins} left join lateral (
    select s.revision, s.floor_at from twin_snapshots s where s.twin = t.twin and s.latest order by s.revision desc limit 1) s on true`;
}

/** The twins of shard $1; of the keys $1. */
const OF_SHARD = '(select t.twin, t.kind from twins t where t.shard = $1) t';
const OF_KEYS = `(select t.* from unnest($1::int8[]) as k(twin) cross join lateral (
    select t.twin, t.kind from twins t where t.twin = k.twin limit 1) t) t`;

const TWINS_BY_ID = `
  select t.* from unnest($2::text[]) as k(id) cross join lateral (
    select t.twin, t.twin_id as "twinId", t.shard from twins t where t.twin_id = k.id limit 1) t
  where t.shard = any($1::int[]) order by t.twin`;

const TWINS_BY_KEY = `
  select t.* from unnest($1::int8[]) as k(twin) cross join lateral (
    select t.twin, t.twin_id as "twinId", t.shard from twins t where t.twin = k.twin limit 1) t order by t.twin`;

/** No row: every entry of the shard is covered by a snapshot. */
const KINDS_WITH_TAIL = `
  select distinct t.kind from shards s join twins t on t.shard = s.shard
  where s.shard = $1 and s.snapshot_floor <> s.commit_no`;

const LATEST_SNAPSHOTS = `
  select s.twin, s.twin_id as "twinId", s.shard, s.revision, s.shape, s.kind_version as "kindVersion",
    encode(s.state, 'base64') as state, ${msOf('s.floor_at')} as "floorAt", ${msOf('s.wake_at')} as "wakeAt",
    ${msOf('s.received_at')} as "receivedAt"
  from unnest($1::int8[]) as k(twin) cross join lateral (
    select * from twin_snapshots s where s.twin = k.twin and s.latest order by s.revision desc limit 1) s`;

const HIGHEST = 'select max(twin) as highest from twins where twin >= $1::int8 and twin < $2::int8';

export async function highestTwin(sql: Sql, shard: number): Promise<number> {
  const first = shard * TWIN_KEYS_PER_SHARD;
  const [row] = await sql.query<{ highest: number | null }>(
    HIGHEST,
    [first, first + TWIN_KEYS_PER_SHARD],
    prepared(HIGHEST),
  );
  return row.highest ?? 0;
}

/** Twins of several shards at once: a round of four statements whatever their number. */
export async function loadTwinsOf(
  sql: Sql,
  kinds: ReadonlyMap<string, Kind>,
  shards: readonly number[],
  twinIds: readonly string[],
): Promise<StoredTwin[]> {
  const twins = await sql.query<Base>(TWINS_BY_ID, [shards, twinIds], prepared(TWINS_BY_ID));
  if (twins.length === 0) return [];
  const keys = twins.map((row) => row.twin);
  const tails = await tailsOf(sql, kindsOf(twins, kinds), OF_KEYS, [keys]);
  return await assemble(sql, kinds, twins, tails);
}

export async function loadTail(sql: Sql, kinds: ReadonlyMap<string, Kind>, shard: number): Promise<StoredTwin[]> {
  const present = await sql.query<{ kind: string }>(KINDS_WITH_TAIL, [shard], prepared(KINDS_WITH_TAIL));
  if (present.length === 0) return [];
  const known = present.map(({ kind }) => kinds.get(kind)).filter((kind) => kind !== undefined);
  const tails = await tailsOf(sql, known, OF_SHARD, [shard]);
  const twins = await sql.query<Base>(
    TWINS_BY_KEY,
    [[...new Set([...tails.readings.keys(), ...tails.entries.keys()])]],
    prepared(TWINS_BY_KEY),
  );
  return await assemble(sql, kinds, twins, tails);
}

/** Entries above the snapshots of these twins, by twin key. */
async function tailsOf(sql: Sql, kinds: readonly Kind[], of: string, params: readonly unknown[]): Promise<Tails> {
  const tails: Tails = { readings: new Map(), entries: new Map() };
  for (const kind of kinds) {
    // `offset 0` keeps the lateral as it is: one descent of the index for each twin.
    const text = `
      with b as materialized (${covered(of)} where t.kind = '${kind.kind}')
       select r.* from b cross join lateral (
         select ${readingColumns(kind)} from ${kind.kind}_readings r
         where r.twin = b.twin and r.at > b.floor_at and r.revision > b.revision offset 0) r`;
    group(tails.readings, await sql.query<ReadingRow>(text, params, prepared(text)));
  }
  const text = `
    with b as materialized (${covered(of)})
     select e.* from b cross join lateral (
       select ${ENTRY_COLUMNS} from entries e where e.twin = b.twin and e.revision > b.revision offset 0) e`;
  group(tails.entries, await sql.query<EntryRow>(text, params, prepared(text)));
  return tails;
}

interface Tails {
  readings: Map<number, ReadingRow[]>;
  entries: Map<number, EntryRow[]>;
}

function group<Row extends { twin: number }>(into: Map<number, Row[]>, rows: readonly Row[]): void {
  for (const row of rows) {
    const of = into.get(row.twin);
    if (of) of.push(row);
    else into.set(row.twin, [row]);
  }
}

async function assemble(
  sql: Sql,
  kinds: ReadonlyMap<string, Kind>,
  twins: readonly Base[],
  tails: Tails,
): Promise<StoredTwin[]> {
  const snapshots = new Map<number, Snapshot>();
  if (twins.length > 0) {
    const keys = twins.map((row) => row.twin);
    const rows = await sql.query<SnapshotRow>(LATEST_SNAPSHOTS, [keys], prepared(LATEST_SNAPSHOTS));
    for (const row of rows) snapshots.set(row.twin, snapshotOf(row));
  }
  return twins.flatMap(({ twin, twinId, shard }) => {
    const kind = kinds.get(kindOf(twinId));
    // A twin of a kind that this program does not have cannot be folded, and half of it must not be.
    if (!kind) return [];
    const tail = readingEntriesOf(kind, twinId, tails.readings.get(twin) ?? []);
    for (const row of tails.entries.get(twin) ?? []) tail.push(entryOf(row));
    return { twin, twinId, shard, snapshot: snapshots.get(twin) ?? null, tail: tail.sort(byRevision) };
  });
}

function kindsOf(twins: readonly Base[], kinds: ReadonlyMap<string, Kind>): Kind[] {
  const names = new Set(twins.map(({ twinId }) => kindOf(twinId)));
  return [...names].map((name) => kinds.get(name)).filter((kind) => kind !== undefined);
}

function snapshotOf(row: SnapshotRow): Snapshot {
  return {
    shard: row.shard,
    twin: row.twin,
    twinId: row.twinId,
    revision: row.revision,
    shape: row.shape,
    kindVersion: row.kindVersion,
    state: bytesOf(row.state),
    floorAt: Math.round(row.floorAt),
    wakeAt: row.wakeAt === null ? null : Math.round(row.wakeAt),
    receivedAt: Math.round(row.receivedAt),
  };
}

/** A plain array of its own, not a slice of Buffer's pool: states are kept and viewed as other types. */
function bytesOf(base64: string): Uint8Array {
  const buffer = Buffer.from(base64, 'base64');
  return new Uint8Array(buffer);
}
