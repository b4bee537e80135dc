import type { Sql } from '../sql.ts';
import { Binder } from './page.ts';

/**
 * Drops what is on record of work that has ended: jobs with their runs for MLflow, and rescorings with what they found.
 *
 * Invariants:
 *  E1  What waits or runs stays, however old it is.
 *  E2  A job and its run go in one statement: no run is owed of a job that nobody knows any more.
 */

/** Up to `limit` jobs that ended before `cutoffMs`; answers how many went, and how many of their runs MLflow had not taken. */
export async function dropJobs(sql: Sql, cutoffMs: number, limit: number): Promise<{ rows: number; owed: number }> {
  const b = new Binder();
  const cutoff = b.time(cutoffMs);
  const [row] = await sql.query<{ rows: number; owed: number }>(
    `with old as materialized (
       select id from jobs where created_at < ${cutoff} and finished_at < ${cutoff} and status in ('done', 'failed', 'cancelled')
       order by created_at limit ${b.add(limit, '::int')}
     ), runs as (
       delete from mlflow_outbox o using old where o.job = old.id returning o.done_at
     ), gone as (
       delete from jobs j using old where j.id = old.id returning 1
     )
     select (select count(*) from gone) as rows, (select count(*) from runs where done_at is null) as owed`,
    b.values,
  );
  return row;
}

/**
 * Up to `limit` differences of the oldest rescoring that told nothing since `cutoffMs`, and itself once it has no more; answers
 * the rows dropped. One that is stored as running and silent for so long has lost its node.
 */
export async function dropRescores(sql: Sql, cutoffMs: number, limit: number): Promise<number> {
  const b = new Binder();
  const cutoff = b.time(cutoffMs);
  const most = b.add(limit, '::int');
  const [row] = await sql.query<{ rows: number }>(
    `with old as materialized (
       select id from rescores where started_at < ${cutoff} and beat < ${cutoff} order by started_at limit 1
     ), differences as materialized (
       select d.rescore, d.n from rescore_differences d join old on d.rescore = old.id order by d.n limit ${most}
     ), found as (
       delete from rescore_differences d using differences x where d.rescore = x.rescore and d.n = x.n returning 1
     ), gone as (
       delete from rescores r using old where r.id = old.id and (select count(*) from differences) < ${most} returning 1
     )
     select (select count(*) from found) + (select count(*) from gone) as rows`,
    b.values,
  );
  return row.rows;
}
