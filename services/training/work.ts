import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { ALONG_FIRST, listModels, promote, type RegisteredVersion } from '../models/register.ts';
import type { Trial } from '../models/trial.ts';
import type { Parts } from '../parts.ts';
import { patientSql } from './patient-sql.ts';
import { beatJob, endingJob, endJob, type Job, type JobEnd } from './queue.ts';
import type { Trained, TrainingRunOptions } from './training-run.ts';

/**
 * One job of training, from the claim to its end.
 *
 *  1  It beats as long as it is worked on, also while its end waits for the database.
 *  2  What became of it is decided once, by the work alone: a database that is away for up to AWAY_MS changes nothing of it.
 *  3  Its version goes live in the very statement by which the job is done: a job that has been cancelled, or taken for dead,
 *     changes nothing of what is live, and one whose version is live cannot be cancelled any more.
 *  4  By itself a version goes live only after a node has tried it, and only in place of the one it was held against.
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
  tried(version: RegisteredVersion): Promise<Trial>;
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
    // null: it has ended, with its version live
    if (end !== null && !(await endJob(patient, job.id, node, { ...end, toMlflow })))
      logger.warn({ status: end.status, message: end.message }, 'the job had been ended by others');
  } catch (err) {
    logger.error({ err }, 'the end of a job could not be written');
  } finally {
    timer?.cancel();
    abort.abort();
  }
}

/** How it ended; null where that is written already. Never throws: what goes wrong is how it ended. */
async function outcomeOf(
  options: WorkOptions,
  sql: Sql,
  onProgress: TrainingRunOptions['onProgress'],
): Promise<JobEnd | null> {
  const { job, abort, logger, promotesBetter, train, onChanged } = options;
  try {
    const trained = await train({ sql, signal: abort.signal, onProgress });
    abort.signal.throwIfAborted();
    const { card, comparison, live } = trained;
    const wanted = job.params.promote ?? promotesBetter;
    const mayGo = wanted === true && (comparison.better === true || live === null);
    const refusal = mayGo ? await whyNotLive(options, sql, trained) : null;
    const promoted = mayGo && refusal === null;
    onChanged();
    logger.info({ version: card.version, promoted, better: comparison.better }, 'trained');
    if (promoted) return null;
    const because = refusal === null ? '' : `; it did not go live: ${refusal}`;
    return endOf(trained, false, `${job.name}@${card.version} is a candidate${because}`);
  } catch (error) {
    logger.warn({ err: error }, 'training failed');
    return { status: 'failed', message: messageOf(error), result: null };
  }
}

function endOf({ card, folder, comparison, live }: Trained, promoted: boolean, message: string): JobEnd {
  const { scores, training, version } = card;
  const result = { version, folder, live, promoted, better: comparison.better, comparison, scores, training };
  return { status: 'done', message, result };
}

/**
 * Puts it live and ends the job; why it stays a candidate, null where it went. Throws where nobody wants it any more, and what a
 * lost database throws.
 */
async function whyNotLive(
  { job, node, abort, toMlflow, tried }: WorkOptions,
  sql: Sql,
  trained: Trained,
): Promise<string | null> {
  const { card, comparison, live } = trained;
  const { name } = job;
  const { version } = card;
  const reason = live === null ? 'none was live' : `better than ${live} on ${comparison.judgedOn}`;
  let note: string | null = null;
  const checked = async (registered: RegisteredVersion) => {
    const trial = await tried(registered);
    abort.signal.throwIfAborted();
    if (!trial.checked) throw new TwinmeshError('unavailable', `${trial.note} By itself no version goes live untried.`);
    note = trial.note;
  };
  const endLive = () => endOf(trained, true, `${name}@${version} is live${note === null ? '' : `. ${note}`}`);
  const along = () => endingJob(ALONG_FIRST, job.id, node, { ...endLive(), toMlflow });
  try {
    await promote(sql, name, version, { by: `job ${job.id}`, reason, live, along }, checked);
    return null;
  } catch (error) {
    abort.signal.throwIfAborted();
    if (!(error instanceof TwinmeshError) || error.code !== 'conflict') return messageOf(error);
    const now = (await listModels(sql, name)).find(({ status }) => status === 'live')?.version;
    if (now !== version)
      return `${now === undefined ? 'none' : `${name}@${now}`} is live by now, and it was held against ${live ?? 'none'}`;
    // the first of its name goes live by itself as soon as a node finds it; or the database lost the answer of what it did
    if (!(await endJob(sql, job.id, node, { ...endLive(), toMlflow }))) abort.signal.throwIfAborted();
    return null;
  }
}
