import { randomUUID } from 'node:crypto';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { decodeCursor, encodeCursor, type Page, pageOf } from '../../actors/store/queries/page.ts';
import type { Sql } from '../../actors/store/sql.ts';

/**
 * Jobs: long work that one node does and any node can look at. The table `jobs` is the queue.
 *
 *     queued ──claimed by a node──▶ running ──▶ done | failed
 *        └────────────┬───────────────┘
 *                  cancelled
 *
 *  1  A job is claimed by one node: the row is locked while it is taken. At most one of a type and name waits or runs: an index
 *     sees to it, whoever asks at once.
 *  2  Who runs it beats; one whose beat stands still for DEAD_AFTER_S has died, and the job has failed. By the clock of the
 *     database alone, and only by who has reached it all that time (burial.ts).
 *  3  Who cannot do a job leaves it to others: it waits, and says for what. What nobody can do fails (able-nodes.ts).
 *  4  What has ended stays as it ended: a late report of a node that was thought dead changes nothing.
 */
export type JobStatus = 'queued' | 'running' | 'done' | 'failed' | 'cancelled';

export interface Job {
  id: string;
  type: string;
  name: string;
  status: JobStatus;
  /** 0 to 1. */
  progress: number;
  message: string | null;
  params: Record<string, unknown>;
  result: Record<string, unknown> | null;
  createdAt: Date;
  createdBy: string | null;
  startedAt: Date | null;
  finishedAt: Date | null;
  node: string | null;
}

const COLUMNS = `id, type, name, status, progress, message, params, result, created_at as "createdAt", created_by as "createdBy",
  started_at as "startedAt", finished_at as "finishedAt", node`;
export const DEAD_AFTER_S = 60;

/** The job of this type and name that waits or runs already, else a new one. */
export async function enqueue(
  sql: Sql,
  job: { type: string; name: string; params: Record<string, unknown>; by: string },
): Promise<Job> {
  const { type, name, params, by } = job;
  const [made] = await sql.query<Job>(
    `insert into jobs (id, type, name, params, created_by) values ($1, $2, $3, $4::jsonb, $5) on conflict do nothing returning ${COLUMNS}`,
    [randomUUID(), type, name, JSON.stringify(params), by],
  );
  if (made !== undefined) return made;
  const [there] = await sql.query<Job>(
    `select ${COLUMNS} from jobs where type = $1 and name = $2 and status in ('queued', 'running') order by created_at limit 1`,
    [type, name],
  );
  if (there === undefined) throw new TwinmeshError('conflict', `The ${type} of ${name} ended just now; ask again.`);
  return there;
}

/** The oldest job that waits becomes this node's; null where none waits. */
export async function claimJob(sql: Sql, type: string, node: string): Promise<Job | null> {
  const [job] = await sql.query<Job>(
    `update jobs set status = 'running', node = $2, started_at = now(), beat = now(), message = null
     where id = (select id from jobs where type = $1 and status = 'queued' order by created_at limit 1 for update skip locked)
     returning ${COLUMNS}`,
    [type, node],
  );
  return job ?? null;
}

export async function isWaiting(sql: Sql, type: string): Promise<boolean> {
  return (await sql.query(`select 1 from jobs where type = $1 and status = 'queued' limit 1`, [type])).length > 0;
}

/** Says on the jobs that wait what they wait for. */
export async function tellWaiting(sql: Sql, type: string, message: string): Promise<void> {
  await sql.query(
    `update jobs set message = $2 where type = $1 and status = 'queued' and message is distinct from $2`,
    [type, message.slice(0, 500)],
  );
}

/** Nobody can do what waits: it has failed. Answers the jobs. */
export async function giveUpWaiting(sql: Sql, type: string, message: string): Promise<Job[]> {
  return sql.query<Job>(
    `update jobs set status = 'failed', finished_at = now(), message = $2 where type = $1 and status = 'queued' returning ${COLUMNS}`,
    [type, message.slice(0, 2_000)],
  );
}

/** Whether the job is still this node's: it may have been cancelled, or taken for dead. */
export async function beatJob(sql: Sql, id: string, node: string, progress: number, message: string): Promise<boolean> {
  const rows = await sql.query(
    `update jobs set beat = now(), progress = $3, message = $4 where id = $1 and node = $2 and status = 'running' returning id`,
    [id, node, progress, message.slice(0, 500)],
  );
  return rows.length > 0;
}

export interface JobEnd {
  status: 'done' | 'failed';
  message: string;
  result: Record<string, unknown> | null;
  /** Whether its run is owed to MLflow (mlflow-outbox.ts). */
  toMlflow?: boolean;
}

/** False where the job is not this node's any more. */
export async function endJob(sql: Sql, id: string, node: string, end: JobEnd): Promise<boolean> {
  const { mine, ended, params } = endingJob(1, id, node, end);
  const rows = await sql.query(
    `with ${mine}, may as (select 1 as one from mine), ${ended} select id from ended`,
    params,
  );
  return rows.length > 0;
}

/**
 * The same as a part of a statement whose parameters of it count from `first`: `mine` holds the job, without a row where it is not
 * this node's any more, and `ended` ends it where `may` has a row.
 */
export function endingJob(
  first: number,
  id: string,
  node: string,
  { status, message, result, toMlflow = false }: JobEnd,
): { mine: string; ended: string; params: unknown[] } {
  const [$id, $node, $status, $message, $result, $owed] = [0, 1, 2, 3, 4, 5].map((i) => `$${first + i}`);
  return {
    mine: `mine as (select id from jobs where id = ${$id} and node = ${$node} and status = 'running' for update)`,
    ended: `ended as (
       update jobs set status = ${$status}, message = ${$message}, result = ${$result}::jsonb, finished_at = now(),
         progress = case when ${$status} = 'done' then 1 else progress end
       where id = ${$id} and exists (select from may) returning id),
     owed as (insert into mlflow_outbox (job) select id from ended where ${$owed}::boolean on conflict do nothing)`,
    params: [id, node, status, message.slice(0, 2_000), result === null ? null : JSON.stringify(result), toMlflow],
  };
}

/** Throws not_found, conflict where it has ended. */
export async function cancelJob(sql: Sql, id: string, by: string): Promise<Job> {
  const [job] = await sql.query<Job>(
    `update jobs set status = 'cancelled', finished_at = now(), message = $2 where id = $1 and status in ('queued', 'running') returning ${COLUMNS}`,
    [id, `cancelled by ${by}`],
  );
  if (job !== undefined) return job;
  const there = await jobOf(sql, id);
  throw new TwinmeshError('conflict', `The job is ${there.status} already.`);
}

/** Jobs whose node has died have failed; answers them. */
export async function buryJobs(sql: Sql): Promise<Job[]> {
  return sql.query<Job>(
    `update jobs set status = 'failed', finished_at = now(), message = 'the node ' || node || ' that ran it ended or hangs; start it again'
     where status = 'running' and beat < now() - make_interval(secs => ${DEAD_AFTER_S}) returning ${COLUMNS}`,
  );
}

/** A node that starts anew runs none of the jobs it ran before. */
export async function buryOwn(sql: Sql, type: string, node: string): Promise<void> {
  await sql.query(
    `update jobs set status = 'failed', finished_at = now(), message = 'the node ended while it ran; start it again'
     where status = 'running' and type = $1 and node = $2`,
    [type, node],
  );
}

/** Throws not_found. */
export async function jobOf(sql: Sql, id: string): Promise<Job> {
  const [job] = await sql.query<Job>(`select ${COLUMNS} from jobs where id = $1`, [id]);
  if (job === undefined) throw new TwinmeshError('not_found', `There is no job ${id}.`);
  return job;
}

export interface JobQuery {
  status?: JobStatus;
  name?: string;
  limit: number;
  cursor?: string;
}

/** Newest first. Throws bad_request for a cursor that is none. */
export async function listJobs(sql: Sql, { status, name, limit, cursor }: JobQuery): Promise<Page<Job>> {
  const scope = JSON.stringify(['jobs', status ?? null, name ?? null]);
  const [at, id] = cursor === undefined ? [null, null] : decodeCursor(cursor, scope, ['time', 'text']);
  const rows = await sql.query<Job>(
    `select ${COLUMNS} from jobs where ($1::text is null or status = $1) and ($2::text is null or name = $2)
       and ($3::timestamptz is null or (created_at, id) < ($3::timestamptz, $4::text))
     order by created_at desc, id desc limit $5`,
    [status ?? null, name ?? null, at === null ? null : new Date(at as number), id, limit + 1],
  );
  return pageOf(
    rows,
    limit,
    (row) => row,
    (row) => encodeCursor(scope, [row.createdAt.getTime(), row.id]),
  );
}
