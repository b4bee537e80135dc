import { type Clock, within } from '../../actors/protocol/clock.ts';

/**
 * One look at the store that several gauges share. A scrape waits for at most one, and not for long; without it the last
 * one stands, and while a store that hangs has not answered it is not asked again.
 */
export interface GlanceOptions<T> {
  clock: Clock;
  look(): Promise<T>;
  onFailure(): void;
  /** How long one look serves. */
  keepMs: number;
}

/** A scrape that waits for the store loses every other metric just when they are needed. */
const PATIENCE_MS = 500;

export function glance<T>({ clock, look, onFailure, keepMs }: GlanceOptions<T>): () => Promise<T | null> {
  let last: T | null = null;
  let looking: Promise<void> | null = null;
  let waited: Promise<unknown> = Promise.resolve();
  let lookedAt = Number.NEGATIVE_INFINITY;
  return async () => {
    if (looking === null && clock.monotonic() - lookedAt >= keepMs) {
      lookedAt = clock.monotonic();
      looking = look()
        .then((seen) => {
          last = seen;
        }, onFailure)
        .finally(() => {
          looking = null;
        });
      waited = within(clock, looking, PATIENCE_MS);
    }
    await waited;
    return last;
  };
}
