import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
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

/** Sends what is due, one at a time; answers how many went. A run that is not taken waits longer each time, for ever. */
export async function settle(sql: Sql, mlflow: MlflowSink, onFault: (error: unknown) => void): Promise<number> {
  for (let sent = 0; ; sent++) {
    // whoever takes it puts it off first: another node that looks now does not send it too
    const [due] = await sql.query<{ job: string; attempts: number }>(
      `update mlflow_outbox set attempts = attempts + 1, next_at = now() + make_interval(secs => least($1, $2 * power(2, least(attempts, 20))) / 1000.0)
       where job = (select job from mlflow_outbox where done_at is null and next_at <= now() order by next_at limit 1 for update skip locked)
       returning job, attempts`,
      [LONGEST_MS, FIRST_MS],
    );
    if (due === undefined) return sent;
    try {
      const runId = await mlflow.write(await runOf(await jobOf(sql, due.job)));
      await sql.query(`update mlflow_outbox set done_at = now(), run_id = $2, last_error = null where job = $1`, [
        due.job,
        runId,
      ]);
    } catch (error) {
      onFault(error);
      await sql.query('update mlflow_outbox set last_error = $2 where job = $1', [
        due.job,
        messageOf(error).slice(0, 500),
      ]);
      return sent;
    }
  }
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
