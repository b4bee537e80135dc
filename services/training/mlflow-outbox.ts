import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { MlflowRun } from '../../mixins/mlflow.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';
import { ARTIFACTS, OPTIONAL, readArtifact } from './artifacts.ts';
import { type Job, jobOf } from './queue.ts';

/**
 * Runs of training on their way to MLflow: written down in one statement with the end of the job (`endJob`), sent when MLflow takes them. Training never
 * waits for it.
 */
export interface MlflowSink {
  write(run: MlflowRun): Promise<string>;
}

const FIRST_MS = 5_000;
const LONGEST_MS = 10 * 60_000;
/** Whoever sends a run has it for so long, and renews that while it sends: a run whose node has died is another's then. */
export const LEASE_MS = 60_000;
const RENEW_MS = LEASE_MS / 3;
/** So long a run that is due is left to the node that trained it, which has its files. */
const OTHERS_AFTER_MS = 2 * 60_000;
/** So often at most: then others that have them try as well. */
const OWN_TRIES = 3;

export interface Settling {
  sql: Sql;
  clock: Clock;
  mlflow: MlflowSink;
  /** This node. */
  node: string;
  /** Where files of other nodes are; null where each has its own only. */
  objects: ObjectStore | null;
  onFault(error: unknown): void;
}

/**
 * Sends what is due, one at a time; answers how many went. A run that is not taken, or whose files are not to be had here, waits
 * longer each time. The node that trained it goes first.
 */
export async function settle({ sql, clock, mlflow, node, objects, onFault }: Settling): Promise<number> {
  for (let sent = 0; ; ) {
    const [due] = await sql.query<Due>(
      `update mlflow_outbox set attempts = attempts + 1, next_at = now() + make_interval(secs => $1)
       where job = (
         select o.job from mlflow_outbox o left join jobs j on j.id = o.job
         where o.done_at is null and o.next_at <= now() - make_interval(secs => case when j.node = $2 or o.attempts >= ${OWN_TRIES} then 0 else $3::float8 end)
         order by o.next_at limit 1 for update of o skip locked)
       returning job, attempts`,
      [LEASE_MS / 1_000, node, OTHERS_AFTER_MS / 1_000],
    );
    if (due === undefined) return sent;
    const lease = renewing(sql, clock, due);
    let isAway = false;
    try {
      const run = await runOf(await jobOf(sql, due.job), objects);
      isAway = true;
      const runId = await mlflow.write(run);
      await sql.query(`update mlflow_outbox set done_at = now(), run_id = $2, last_error = null where job = $1`, [
        due.job,
        runId,
      ]);
      sent++;
    } catch (error) {
      onFault(error);
      await sql.query(
        `update mlflow_outbox set last_error = $3, next_at = now() + make_interval(secs => $4) where job = $1 and attempts = $2`,
        [due.job, due.attempts, messageOf(error).slice(0, 500), pauseMs(due.attempts) / 1_000],
      );
      if (isAway) return sent;
    } finally {
      lease.cancel();
    }
  }
}

interface Due {
  job: string;
  /** With this one: nobody else has the run as long as the number stands. */
  attempts: number;
}

const pauseMs = (attempts: number): number => Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempts - 1, 20));

/** Keeps the run until it is cancelled. */
function renewing(sql: Sql, clock: Clock, { job, attempts }: Due): TimerHandle {
  let isOver = false;
  let timer: TimerHandle;
  const next = () => {
    timer = clock.after(RENEW_MS, async () => {
      await sql
        .query(
          `update mlflow_outbox set next_at = now() + make_interval(secs => $3) where job = $1 and attempts = $2 and done_at is null`,
          [job, attempts, LEASE_MS / 1_000],
        )
        // away: the run is written twice at worst, and is the same run in MLflow
        .catch(() => undefined);
      if (!isOver) next();
    });
  };
  next();
  return {
    cancel() {
      isOver = true;
      timer.cancel();
    },
  };
}

/** Throws unavailable where the files of what was trained are not to be had here. */
async function runOf(job: Job, objects: ObjectStore | null): Promise<MlflowRun> {
  const result = (job.result ?? {}) as {
    version?: string;
    folder?: string;
    scores?: { name: string; data: string; split: string; value: number }[];
    training?: Record<string, unknown>;
    better?: boolean | null;
  };
  const metrics: Record<string, number> = {};
  for (const { name, data, value } of result.scores ?? []) metrics[`${name} ${data}`] = value;
  const { version, folder } = result;
  let artifacts: MlflowRun['artifacts'] = [];
  if (job.status === 'done' && version !== undefined && folder !== undefined) {
    const found = (await filesIn(folder)) ?? (objects === null ? null : await filesOf(objects, job.name, version));
    if (found === null)
      throw new TwinmeshError(
        'unavailable',
        `The files of ${job.name}@${version} are not here; node ${job.node} has them in ${folder}.`,
      );
    artifacts = found;
  }
  const params: Record<string, string> = {};
  for (const [name, value] of Object.entries(result.training ?? {}))
    params[name] = typeof value === 'string' ? value : JSON.stringify(value);
  return {
    job: job.id,
    experiment: `twinmesh ${job.name}`,
    name: `${job.name}@${version ?? 'failed'}`,
    startedAt: (job.startedAt ?? job.createdAt).getTime(),
    finishedAt: (job.finishedAt ?? job.createdAt).getTime(),
    failed: job.status !== 'done',
    params,
    metrics,
    tags: {
      'twinmesh.model': job.name,
      'twinmesh.version': version ?? '',
      'twinmesh.node': job.node ?? '',
      'twinmesh.better': String(result.better ?? 'not known'),
      'twinmesh.message': job.message ?? '',
    },
    artifacts,
  };
}

/** Null where one that a version has is missing. */
async function filesIn(folder: string): Promise<MlflowRun['artifacts'] | null> {
  const files: MlflowRun['artifacts'] = [];
  for (const file of ARTIFACTS) {
    const path = join(folder, file);
    if (existsSync(path)) files.push({ path: file, bytes: await readFile(path) });
    else if (file !== OPTIONAL) return null;
  }
  return files;
}

async function filesOf(objects: ObjectStore, name: string, version: string): Promise<MlflowRun['artifacts'] | null> {
  const files: MlflowRun['artifacts'] = [];
  for (const file of ARTIFACTS) {
    const bytes = await readArtifact(objects, name, version, file);
    if (bytes !== null) files.push({ path: file, bytes });
    else if (file !== OPTIONAL) return null;
  }
  return files;
}
