import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { MlflowRun } from '../../mixins/mlflow.ts';
import { ARTIFACTS } from './artifacts.ts';
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

/** Sends what is due, one at a time; answers how many went. A run that is not taken waits longer each time. */
export async function settle(
  sql: Sql,
  clock: Clock,
  mlflow: MlflowSink,
  onFault: (error: unknown) => void,
): Promise<number> {
  for (let sent = 0; ; sent++) {
    const [due] = await sql.query<Due>(
      `update mlflow_outbox set attempts = attempts + 1, next_at = now() + make_interval(secs => $1)
       where job = (select job from mlflow_outbox where done_at is null and next_at <= now() order by next_at limit 1 for update skip locked)
       returning job, attempts`,
      [LEASE_MS / 1_000],
    );
    if (due === undefined) return sent;
    const lease = renewing(sql, clock, due);
    try {
      const runId = await mlflow.write(await runOf(await jobOf(sql, due.job)));
      await sql.query(`update mlflow_outbox set done_at = now(), run_id = $2, last_error = null where job = $1`, [
        due.job,
        runId,
      ]);
    } catch (error) {
      onFault(error);
      await sql.query(
        `update mlflow_outbox set last_error = $3, next_at = now() + make_interval(secs => $4) where job = $1 and attempts = $2`,
        [due.job, due.attempts, messageOf(error).slice(0, 500), pauseMs(due.attempts) / 1_000],
      );
      return sent;
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

async function runOf(job: Job): Promise<MlflowRun> {
  const result = (job.result ?? {}) as {
    version?: string;
    folder?: string;
    scores?: { name: string; data: string; split: string; value: number }[];
    training?: Record<string, unknown>;
    better?: boolean | null;
  };
  const metrics: Record<string, number> = {};
  for (const { name, data, value } of result.scores ?? []) metrics[`${name} ${data}`] = value;
  const artifacts: MlflowRun['artifacts'] = [];
  for (const file of ARTIFACTS) {
    const path = result.folder === undefined ? null : join(result.folder, file);
    if (path !== null && existsSync(path)) artifacts.push({ path: file, bytes: await readFile(path) });
  }
  const params: Record<string, string> = {};
  for (const [name, value] of Object.entries(result.training ?? {}))
    params[name] = typeof value === 'string' ? value : JSON.stringify(value);
  return {
    job: job.id,
    experiment: `twinmesh ${job.name}`,
    name: `${job.name}@${result.version ?? 'failed'}`,
    startedAt: (job.startedAt ?? job.createdAt).getTime(),
    finishedAt: (job.finishedAt ?? job.createdAt).getTime(),
    failed: job.status !== 'done',
    params,
    metrics,
    tags: {
      'twinmesh.model': job.name,
      'twinmesh.version': result.version ?? '',
      'twinmesh.node': job.node ?? '',
      'twinmesh.better': String(result.better ?? 'not known'),
      'twinmesh.message': job.message ?? '',
    },
    artifacts,
  };
}
