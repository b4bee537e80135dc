import type { Kind } from '../../protocol/kind.ts';
import { msOf } from '../postgres/journal.ts';
import { prepared } from '../postgres/statement.ts';
import type { Sql } from '../sql.ts';

/** Stored snapshots of a twin: where replay begins, and where the stretch of history behind it ends. Times in ms. */
export interface StoredSnapshot {
  revision: number;
  shape: number;
  kindVersion: number;
  state: Uint8Array;
  /** No entry above it has an event time at or below this. */
  floorAt: number;
  /** When it was taken, by the clock of its host. */
  receivedAt: number;
}

/** Where a snapshot lies, without what it holds. */
export interface SnapshotPlace {
  revision: number;
  floorAt: number;
  receivedAt: number;
}

const COLUMNS = `s.revision, s.shape, s.kind_version as "kindVersion", s.state, ${msOf('s.floor_at')} as "floorAt",
  ${msOf('s.received_at')} as "receivedAt"`;

const NEWEST_BEFORE = `
  select ${COLUMNS} from twin_snapshots s where s.twin = $1 and s.received_at <= $2::timestamptz order by s.revision desc limit 1`;

const NEXT_ABOVE = `
  select ${COLUMNS} from twin_snapshots s where s.twin = $1 and s.revision > $2 order by s.revision limit 1`;

const PLACES = `
  select s.revision, ${msOf('s.floor_at')} as "floorAt", ${msOf('s.received_at')} as "receivedAt"
  from twin_snapshots s where s.twin = $1 order by s.revision`;

/** The newest snapshot taken by this time; null where there is none. */
export async function snapshotBefore(sql: Sql, twin: number, at: number): Promise<StoredSnapshot | null> {
  const [row] = await sql.query<StoredSnapshot>(NEWEST_BEFORE, [twin, new Date(at)], prepared(NEWEST_BEFORE));
  return row === undefined ? null : rounded(row);
}

/** The first snapshot above a revision; null where there is none. */
export async function snapshotAbove(sql: Sql, twin: number, revision: number): Promise<StoredSnapshot | null> {
  const [row] = await sql.query<StoredSnapshot>(NEXT_ABOVE, [twin, revision], prepared(NEXT_ABOVE));
  return row === undefined ? null : rounded(row);
}

/** Where all snapshots of a twin lie, oldest first. */
export async function snapshotPlaces(sql: Sql, twin: number): Promise<SnapshotPlace[]> {
  const rows = await sql.query<SnapshotPlace>(PLACES, [twin], prepared(PLACES));
  return rows.map(rounded);
}

/** How many entries of (after, upto] are there. */
export async function entriesBetween(
  sql: Sql,
  kind: Kind,
  twin: number,
  stretch: { after: number; upto: number; floorAt: number },
): Promise<number> {
  const text = `
    select (select count(distinct r.revision) from ${kind.kind}_readings r
            where r.twin = $1 and r.revision > $2 and r.revision <= $3 and r.at > $4::timestamptz)
         + (select count(*) from entries e where e.twin = $1 and e.revision > $2 and e.revision <= $3) as n`;
  const floor = Number.isFinite(stretch.floorAt) ? new Date(stretch.floorAt) : '-infinity';
  const [row] = await sql.query<{ n: number }>(text, [twin, stretch.after, stretch.upto, floor], prepared(text));
  return row.n;
}

function rounded<Place extends SnapshotPlace>(row: Place): Place {
  return { ...row, floorAt: Math.round(row.floorAt), receivedAt: Math.round(row.receivedAt) };
}
