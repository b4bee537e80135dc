import { type Clock, sleep } from '../../protocol/clock.ts';
import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { dropJobs, dropRescores } from './ended-work.ts';
import { dropEntries, dropEvents, dropReadings, type RetentionArchive } from './retention.ts';
import type { Rollup } from './rolled.ts';
import { closeBuckets, mend, openRollups, type StepResult, settle, stepNoOf } from './rollup.ts';
import { DAY_MS, floorTo, MINUTE_MS } from './span.ts';

/**
 * One round of rollups, and of retention where it is set: goes on until nothing is left, the round is ended from
 * outside, or another node turns out to do it.
 *
 * Invariants:
 *  H1  Steps grow and shrink so that each takes about STEP_GOAL_MS, and as long as a step took nothing is asked of the
 *      database after it: a checkpoint waits for one step at most.
 *  H2  A round that ends half way leaves nothing to clean up; the next goes on (rollup.ts U1).
 */
export interface RoundOptions {
  latenessMs: number;
  /** A twin without a reading for so long gets its open buckets written. Default 15 minutes. */
  quietAfterMs?: number;
  signal?: AbortSignal;
}

export interface Round {
  /** False: ended early, by the signal or because another node took a step. */
  complete: boolean;
  steps: number;
  rows: number;
}

const STEP_GOAL_MS = 50;
const MOST_A_STEP = 512;

/** Brings the rollups of one kind up to date. */
export async function rollUp(sql: Sql, clock: Clock, kind: Kind, options: RoundOptions): Promise<Round> {
  const round: Round = { complete: false, steps: 0, rows: 0 };
  const pace = new Pace(clock, round, options.signal);
  const quietSinceMs = clock.now() - (options.quietAfterMs ?? 15 * MINUTE_MS);
  pace.stepNo = await openRollups(sql, kind, options.latenessMs);
  const rollups: Rollup[] = ['hourly', 'daily'];
  // Mended days leave the list, so each step starts from the front again.
  if (!(await pace.run((stepNo, _after, size) => mend(sql, kind, stepNo, size), 'front'))) return round;
  for (const rollup of rollups) {
    if (!(await pace.run((stepNo, after, size) => closeBuckets(sql, kind, rollup, stepNo, after, size), 'rounds')))
      return round;
  }
  for (const rollup of rollups) {
    if (
      !(await pace.run((stepNo, after, size) => settle(sql, kind, rollup, stepNo, after, size, quietSinceMs), 'once'))
    )
      return round;
  }
  round.complete = true;
  return round;
}

/** Drops readings of one kind that are older than `keepMs`, after its rollups are complete; with an archive what it has. */
export async function retain(
  sql: Sql,
  clock: Clock,
  kind: Kind,
  options: { keepMs: number; archive?: RetentionArchive | null; signal?: AbortSignal },
): Promise<Round> {
  const round: Round = { complete: false, steps: 0, rows: 0 };
  const cutoffMs = floorTo(clock.now() - options.keepMs, DAY_MS);
  if (cutoffMs <= 0) return { ...round, complete: true };
  const pace = new Pace(clock, round, options.signal);
  pace.stepNo = await stepNoOf(sql, kind);
  round.complete = await pace.run(
    (stepNo, after, size) => dropReadings(sql, kind, stepNo, cutoffMs, after, size, options.archive),
    'rounds',
  );
  return round;
}

/** Drops events, journal entries and snapshots that are older than `keepMs`, of all kinds. */
export async function retainJournal(
  sql: Sql,
  clock: Clock,
  options: { keepMs: number; signal?: AbortSignal },
): Promise<Round> {
  const round: Round = { complete: false, steps: 0, rows: 0 };
  const cutoffMs = floorTo(clock.now() - options.keepMs, DAY_MS);
  if (cutoffMs <= 0) return { ...round, complete: true };
  const batch = 1_000;
  for (let gone = batch; gone === batch; ) {
    if (options.signal?.aborted) return round;
    gone = await dropEvents(sql, cutoffMs, batch);
    round.steps++;
    round.rows += gone;
    await sleep(clock, 5);
  }
  for (let after: number | null = 0; after !== null; ) {
    if (options.signal?.aborted) return round;
    const step: { rows: number; last: number | null } = await dropEntries(sql, cutoffMs, after, 200);
    round.steps++;
    round.rows += step.rows;
    after = step.last;
    await sleep(clock, 5);
  }
  round.complete = true;
  return round;
}

/** Drops what is on record of jobs and rescorings that ended longer ago than `keepMs`; `owed` runs that MLflow never took. */
export async function retainEnded(
  sql: Sql,
  clock: Clock,
  options: { keepMs: number; signal?: AbortSignal },
): Promise<Round & { owed: number }> {
  const round = { complete: false, steps: 0, rows: 0, owed: 0 };
  const cutoffMs = clock.now() - options.keepMs;
  const drops = [
    () => dropJobs(sql, cutoffMs, 500),
    async () => ({ rows: await dropRescores(sql, cutoffMs, 2_000), owed: 0 }),
  ];
  for (const drop of drops) {
    for (let gone = 1; gone > 0; ) {
      if (options.signal?.aborted) return round;
      const { rows, owed } = await drop();
      gone = rows;
      round.steps++;
      round.rows += rows;
      round.owed += owed;
      await sleep(clock, 5);
    }
  }
  round.complete = true;
  return round;
}

type Step = (stepNo: number, after: number, size: number) => Promise<StepResult>;
/** `front`: what is done leaves the list. `once`: by twin, to the end. `rounds`: by twin, again until nothing is left. */
type Walk = 'front' | 'once' | 'rounds';

class Pace {
  stepNo = 0;
  readonly #clock: Clock;
  readonly #round: Round;
  readonly #signal: AbortSignal | undefined;

  constructor(clock: Clock, round: Round, signal: AbortSignal | undefined) {
    this.#clock = clock;
    this.#round = round;
    this.#signal = signal;
  }

  /** Answers false where the round has to end. */
  async run(step: Step, walk: Walk): Promise<boolean> {
    let size = 4;
    let after = 0;
    let worked = 0;
    while (!this.#signal?.aborted) {
      const startedAt = this.#clock.monotonic();
      const result = await step(this.stepNo, after, size);
      const tookMs = this.#clock.monotonic() - startedAt;
      if (!result.taken) return false;
      this.stepNo++;
      this.#round.steps++;
      this.#round.rows += result.rows;
      worked += result.worked;
      if (result.worked < size) {
        if (walk !== 'rounds' || worked === 0) return true;
        after = 0;
        worked = 0;
      } else if (walk !== 'front') {
        after = result.last;
      }
      if (tookMs > 2 * STEP_GOAL_MS) size = Math.max(1, size >> 1);
      else if (tookMs < STEP_GOAL_MS / 2) size = Math.min(MOST_A_STEP, size * 2);
      await sleep(this.#clock, Math.min(tookMs, 1_000));
    }
    return false;
  }
}
