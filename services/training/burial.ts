import type { Clock } from '../../actors/protocol/clock.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { buryJobs, DEAD_AFTER_S, type Job } from './queue.ts';

/**
 * Buries jobs whose node has died. Only who has reached the database at every look for as long as a beat may stand still: where
 * it was away nobody could beat, and those that run are given the time to do it.
 */
const DEAD_AFTER_MS = DEAD_AFTER_S * 1_000;
/** Looks further apart say nothing about what was between them. */
const MAX_GAP_MS = DEAD_AFTER_MS / 2;

export class Burial {
  readonly #clock: Clock;
  /** Monotonic: since when every look has reached the database, and the last that did. */
  #since = Number.POSITIVE_INFINITY;
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** One look, to be made more often than each half of a minute; answers the jobs that have failed by it. Throws SqlError. */
  async look(sql: Sql): Promise<Job[]> {
    try {
      await sql.query('select 1');
    } catch (error) {
      this.#since = Number.POSITIVE_INFINITY;
      throw error;
    }
    const now = this.#clock.monotonic();
    if (this.#since > now || now - this.#lastAt > MAX_GAP_MS) this.#since = now;
    this.#lastAt = now;
    return now - this.#since < DEAD_AFTER_MS ? [] : buryJobs(sql);
  }
}
