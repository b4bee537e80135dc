import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { type Change, listModels, promote, type Tried } from '../models/register.ts';
import type { Parts } from '../parts.ts';
import { patientSql } from './patient-sql.ts';
import { beatJob, endJob, type Job, type JobEnd } from './queue.ts';
import type { Trained, TrainingRunOptions } from './training-run.ts';

/**
 * One job of training, from the claim to its end.
 *
 *  1  It beats as long as it is worked on, also while its end waits for the database.
 *  2  What became of it is decided once, by the work alone: a database that is away for up to AWAY_MS changes nothing of it.
 */
export interface WorkOptions {
  sql: Sql;
  clock: Clock;
  logger: Parts['logger'];
  node: string;
  job: Job;
  /** Aborted from outside when the node stops or the job is cancelled; by the work when it is not this node's any more, or over. */
  abort: AbortController;
  /** MODEL_PROMOTION=better. */
  promotesBetter: boolean;
  /** Whether its run is owed to MLflow. */
  toMlflow: boolean;
  train(how: Pick<TrainingRunOptions, 'sql' | 'signal' | 'onProgress'>): Promise<Trained>;
  /** Before a version goes live. */
  tried: Tried;
  /** The register has changed. */
  onChanged(): void;
}

const BEAT_MS = 5_000;
const AWAY_MS = 3_600_000;

export async function workOn(options: WorkOptions): Promise<void> {
  const { sql, clock, logger, node, job, abort, toMlflow } = options;
  let told: [number, string] = [0, 'starting'];
  const beat = async () => {
    const isOurs = await beatJob(sql, job.id, node, ...told).catch(() => true);
    if (!isOurs) abort.abort();
  };
  let timer: TimerHandle | undefined;
  const beating = () => {
    timer = clock.after(BEAT_MS, () => void beat().finally(() => !abort.signal.aborted && beating()));
  };
  beating();
  const patient = patientSql(sql, {
    clock,
    withinMs: AWAY_MS,
    signal: abort.signal,
    onAway: (err) => logger.warn({ err }, 'the database is away; what has been trained waits for it'),
  });
  logger.info('training');
  try {
    const end = await outcomeOf(options, patient, (fraction, text) => {
      const before = told;
      told = [fraction, text];
      if (before[1] !== text) void beat();
    });
    if (!(await endJob(patient, job.id, node, { ...end, toMlflow })))
      logger.warn({ status: end.status, message: end.message }, 'the job had been ended by others');
  } catch (err) {
    logger.error({ err }, 'the end of a job could not be written');
  } finally {
    timer?.cancel();
    abort.abort();
  }
}

/** Never throws: what goes wrong is how it ended. */
async function outcomeOf(
  { job, abort, logger, promotesBetter, train, tried, onChanged }: WorkOptions,
  sql: Sql,
  onProgress: TrainingRunOptions['onProgress'],
): Promise<JobEnd> {
  try {
    const { card, folder, comparison, live } = await train({ sql, signal: abort.signal, onProgress });
    const id = `${job.name}@${card.version}`;
    const wanted = job.params.promote ?? promotesBetter;
    const mayGo = wanted === true && (comparison.better === true || live === null);
    const reason = live === null ? 'none was live' : `better than ${live} on ${comparison.judgedOn}`;
    const refusal = mayGo
      ? await whyNotLive(sql, job.name, card.version, { by: `job ${job.id}`, reason }, tried)
      : null;
    const promoted = mayGo && refusal === null;
    onChanged();
    logger.info({ version: card.version, promoted, better: comparison.better }, 'trained');
    const { scores, training, version } = card;
    return {
      status: 'done',
      message: `${id} is ${promoted ? 'live' : 'a candidate'}${refusal === null ? '' : `; it did not go live: ${refusal}`}`,
      result: { version, folder, live, promoted, better: comparison.better, comparison, scores, training },
    };
  } catch (error) {
    logger.warn({ err: error }, 'training failed');
    return { status: 'failed', message: messageOf(error), result: null };
  }
}

/** Puts it live; why it stays a candidate, null where it went. Throws nothing but what a lost database throws. */
async function whyNotLive(
  sql: Sql,
  name: string,
  version: string,
  change: Change,
  tried: Tried,
): Promise<string | null> {
  try {
    await promote(sql, name, version, change, tried);
    return null;
  } catch (error) {
    // the first of its name goes live by itself as soon as a node finds it; or the database lost the answer of what it did
    if (error instanceof TwinmeshError && error.code === 'conflict') {
      const live = (await listModels(sql, name)).find(({ status }) => status === 'live');
      if (live?.version === version) return null;
    }
    return messageOf(error);
  }
}
