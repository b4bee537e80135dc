import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { tableOf } from './history-table.ts';
import { Binder } from './page.ts';
import type { StepResult } from './rollup.ts';

/**
 * Drops history that is older than it has to be kept, by event time and whole UTC days, in small steps.
 *
 * Invariants:
 *  T1  Nothing that recovery may fold again goes: only readings at or before the `floor_at` of the twin's newest snapshot,
 *      and entries up to its revision.
 *  T2  Readings go only when their hours and days are in the rollups, and `trimmed_to` says so before the first one goes.
 *  T3  Events stay until every sink that has a cursor in their shard has passed them.
 *  T4  Where there is an archive, a day of a twin goes only when the archive has every row of it that the statement sees, or
 *      would not keep it any longer (queries/archive.ts A2).
 */
const ROWS_A_TWIN = 2_000;

/** Readings before `cutoffMs` (a whole day) of up to `twins` twins with a key above `after`. A step as the rollups take them. */
export async function dropReadings(
  sql: Sql,
  kind: Kind,
  stepNo: number,
  cutoffMs: number,
  after: number,
  twins: number,
  archive: RetentionArchive | null = null,
): Promise<StepResult> {
  const b = new Binder();
  const table = tableOf(kind);
  const name = b.add(kind.kind, '::text');
  const covered = (m: string) =>
    `case when ${m}.settled >= t.revision then 'infinity'::timestamptz else ${m}.done_to end`;
  const [row] = await sql.query<StepResult>(
    `with fence as (
       update rollup_state set step_no = step_no + 1 where kind = ${name} and step_no = ${b.add(stepNo, '::bigint')} returning 1
     ), due as materialized (
       select t.twin, b.bound from fence cross join twins t
       join rollup_marks h on h.twin = t.twin and h.rollup = 'hourly'
       join rollup_marks d on d.twin = t.twin and d.rollup = 'daily'
       join twin_snapshots s on s.twin = t.twin and s.latest
       cross join lateral (
         select date_bin(interval '1 day', least(${b.time(cutoffMs)}, s.floor_at, ${covered('h')}, ${covered('d')}), 'epoch') as bound
       ) ${archive === null ? 'b' : `open ${archivedBound(table, name, archive, b)}`}
       where t.kind = ${name} and t.twin > ${b.add(after, '::bigint')}
         and not exists (select from rollup_dirty x where x.kind = ${name} and x.twin = t.twin and x.at < b.bound)
         and exists (select from ${table} r where r.twin = t.twin and r.at < b.bound)
       order by t.twin limit ${b.add(twins, '::int')}
     ), trimmed as (
       update rollup_marks m set trimmed_to = greatest(m.trimmed_to, due.bound) from due where m.twin = due.twin returning 1
     ), gone as (
       delete from ${table} r using (
         select due.twin, due.bound,
           (select x.at from ${table} x where x.twin = due.twin and x.at < due.bound order by x.at offset ${ROWS_A_TWIN - 1} limit 1) as upto
         from due
       ) u where r.twin = u.twin and r.at < u.bound and r.at <= coalesce(u.upto, u.bound) returning r.twin, r.at
     )${archive === null ? '' : `, ${fewer(name)}`}
     select (select count(*) from fence) > 0 as taken, (select count(*) from due) as worked, (select count(*) from gone) as rows,
       (select coalesce(max(twin), 0) from due) as last`,
    b.values,
  );
  return row;
}

/** Of an archive: days before this are not kept there, so they may go without having been written. */
export interface RetentionArchive {
  expiredBeforeMs: number;
}

/** T4: the oldest day that a twin has rows of, if it may go; null else. */
function archivedBound(table: string, name: string, archive: RetentionArchive, b: Binder): string {
  return `cross join lateral (
         select date_bin('1 day', min(r.at), 'epoch') as day from ${table} r where r.twin = t.twin and r.at < open.bound
       ) oldest
       cross join lateral (
         select case when oldest.day < ${b.time(archive.expiredBeforeMs)} or (
           select count(*) from ${table} r where r.twin = t.twin and r.at >= oldest.day and r.at < oldest.day + interval '1 day'
         ) = (select a.rows from archive_rows a where a.kind = ${name} and a.twin = t.twin and a.day = oldest.day)
         then oldest.day + interval '1 day' end as bound
       ) b`;
}

/** What is dropped is counted no more. */
function fewer(name: string): string {
  return `fewer as (
       update archive_rows a set rows = a.rows - g.rows
       from (select gone.twin, date_bin('1 day', gone.at, 'epoch') as day, count(*) as rows from gone group by 1, 2) g
       where a.kind = ${name} and a.twin = g.twin and a.day = g.day returning 1
     )`;
}

/**
 * Journal entries received before `cutoffMs`, and older snapshots that open only dropped history, of `twins` twins with a
 * key above `after`. Answers the rows dropped and where to go on, null at the end.
 */
export async function dropEntries(
  sql: Sql,
  cutoffMs: number,
  after: number,
  twins: number,
): Promise<{ rows: number; last: number | null }> {
  const b = new Binder();
  const [row] = await sql.query<{ rows: number; last: number | null }>(
    `with page as materialized (
       select t.twin, s.revision, coalesce(m.trimmed_to, 'epoch') as trimmed_to from (
         select twin from twins where twin > ${b.add(after, '::bigint')} order by twin limit ${b.add(twins, '::int')}
       ) t left join twin_snapshots s on s.twin = t.twin and s.latest left join rollup_marks m on m.twin = t.twin and m.rollup = 'daily'
     ), entries_gone as (
       delete from entries e using page p
       where e.twin = p.twin and e.revision <= p.revision and e.received_at < ${b.time(cutoffMs)} returning 1
     ), snapshots_gone as (
       delete from twin_snapshots s using page p
       where s.twin = p.twin and not s.latest and s.revision < p.revision and s.floor_at < p.trimmed_to returning 1
     )
     select (select count(*) from entries_gone) + (select count(*) from snapshots_gone) as rows, (select max(twin) from page) as last`,
    b.values,
  );
  return row;
}

/** Up to `limit` events from before `cutoffMs`; answers how many went. */
export async function dropEvents(sql: Sql, cutoffMs: number, limit: number): Promise<number> {
  const b = new Binder();
  const [row] = await sql.query<{ rows: number }>(
    `with old as materialized (
       select e.shard, e.seq from events e where e.at < ${b.time(cutoffMs)}
         and not exists (select from sink_cursors c where c.shard = e.shard and c.seq < e.seq)
       order by e.at limit ${b.add(limit, '::int')}
     ), gone as (
       delete from events e using old o where e.shard = o.shard and e.seq = o.seq returning 1
     )
     select count(*) as rows from gone`,
    b.values,
  );
  return row.rows;
}
