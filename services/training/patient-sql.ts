import { type Clock, sleep } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';

/**
 * The database for work whose end must not be lost because it is away just then: what it did not answer is sent again until it
 * does. A statement whose connection broke may have landed the first time, so each has to bear to be done twice.
 */
export interface Patience {
  clock: Clock;
  /** How long a statement is sent again; then it throws what the database said. */
  withinMs: number;
  /** Nobody waits any more: what fails from now on throws at once. */
  signal: AbortSignal;
  /** The first time that a statement has to be sent again. */
  onAway(error: TwinmeshError): void;
}

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 2_000;

export function patientSql(sql: Sql, { clock, withinMs, signal, onAway }: Patience): Sql {
  return {
    exec: (text) => sql.exec(text),
    close: () => sql.close(),
    async query(...asked) {
      const until = clock.monotonic() + withinMs;
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * pauseMs)) {
        try {
          return await sql.query(...asked);
        } catch (error) {
          const isAway = error instanceof TwinmeshError && error.code === 'store_down';
          if (!isAway || signal.aborted || clock.monotonic() >= until) throw error;
          if (pauseMs === FIRST_PAUSE_MS) onAway(error);
          await sleep(clock, pauseMs);
        }
      }
    },
  };
}
