import { msOf } from '../postgres/journal.ts';
import { prepared } from '../postgres/statement.ts';
import type { Sql } from '../sql.ts';
import type { StoredSnapshot } from './journal-snapshots.ts';

/** Twins whose history is folded again, many at a time: which they are, and the snapshots they begin and go on with. */
export interface RescoredTwin {
  twin: number;
  twinId: string;
  /** Of its summary: about how far its journal goes. */
  revision: number;
  /** The newest snapshot taken by the beginning. */
  before: StoredSnapshot | null;
}

interface SnapshotColumns {
  sRevision: number | null;
  shape: number;
  kindVersion: number;
  state: Uint8Array;
  floorAt: number;
  receivedAt: number;
}

const SNAPSHOT = `s.revision as "sRevision", s.shape, s.kind_version as "kindVersion", s.state, ${msOf('s.floor_at')} as "floorAt",
  ${msOf('s.received_at')} as "receivedAt"`;

const PAGE = `
  select t.twin, t.twin_id as "twinId", t.revision, ${SNAPSHOT}
  from (select t.* from twins t where t.kind = $1 and ($2::text[] is null or t.twin_id = any($2)) and t.twin > $3
    order by t.twin limit $4) t left join lateral (
    select s.* from twin_snapshots s where s.twin = t.twin and s.received_at <= $5::timestamptz
    order by s.revision desc limit 1) s on true order by t.twin`;

const ABOVE = `
  select k.twin, ${SNAPSHOT} from unnest($1::int8[], $2::int8[]) as k(twin, revision) cross join lateral (
    select s.* from twin_snapshots s where s.twin = k.twin and s.revision > k.revision order by s.revision limit 1) s`;

export const twinsToRescore = {
  async count(sql: Sql, kind: string, ids: readonly string[] | undefined): Promise<number> {
    const text = 'select count(*) as n from twins t where t.kind = $1 and ($2::text[] is null or t.twin_id = any($2))';
    const [row] = await sql.query<{ n: number }>(text, [kind, ids ?? null]);
    return row.n;
  },

  /** Twins of a kind with a key above `after`, in order of their keys. */
  async page(
    sql: Sql,
    kind: string,
    { from, after, limit, ids }: { from: number; after: number; limit: number; ids: readonly string[] | undefined },
  ): Promise<RescoredTwin[]> {
    const rows = await sql.query<{ twin: number; twinId: string; revision: number } & SnapshotColumns>(
      PAGE,
      [kind, ids ?? null, after, limit, new Date(from)],
      prepared(PAGE),
    );
    return rows.map((row) => ({
      twin: row.twin,
      twinId: row.twinId,
      revision: row.revision,
      before: row.sRevision === null ? null : snapshotOf(row),
    }));
  },

  /** The first snapshot above a revision of each twin, where there is one. */
  async above(sql: Sql, wanted: readonly { twin: number; revision: number }[]): Promise<Map<number, StoredSnapshot>> {
    const rows = await sql.query<{ twin: number } & SnapshotColumns>(
      ABOVE,
      [wanted.map(({ twin }) => twin), wanted.map(({ revision }) => revision)],
      prepared(ABOVE),
    );
    return new Map(rows.map((row) => [row.twin, snapshotOf(row)]));
  },
};

function snapshotOf(row: SnapshotColumns): StoredSnapshot {
  return {
    revision: row.sRevision as number,
    shape: row.shape,
    kindVersion: row.kindVersion,
    state: row.state,
    floorAt: Math.round(row.floorAt),
    receivedAt: Math.round(row.receivedAt),
  };
}
