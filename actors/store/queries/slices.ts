import type { Clock } from '../../protocol/clock.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import { floorTo, type Span } from './span.ts';

const SLICE_GOAL_MS = 50;
const DEADLINE_MS = 30_000;

/** When a query that reads in slices has to be done, on the monotonic clock. */
export function deadlineOf(clock: Clock): number {
  return clock.monotonic() + DEADLINE_MS;
}

/**
 * Reads a span in slices that take about SLICE_GOAL_MS each, because on an embedded database a checkpoint waits for the
 * statement in front of it. Slices end at multiples of `unitMs`. Throws `deadline_exceeded`.
 */
export async function inSlices(
  clock: Clock,
  span: Span,
  options: { firstMs: number; unitMs: number; deadline: number },
  read: (slice: Span) => Promise<void>,
): Promise<void> {
  const { unitMs, deadline } = options;
  let sliceMs = options.firstMs;
  for (let from = span.from; from < span.to; ) {
    const to = Math.min(span.to, Math.max(floorTo(from + sliceMs, unitMs), floorTo(from, unitMs) + unitMs));
    const startedAt = clock.monotonic();
    if (startedAt > deadline) throw tooLong();
    await read({ from, to });
    const tookMs = clock.monotonic() - startedAt;
    from = to;
    if (tookMs > SLICE_GOAL_MS) sliceMs = Math.max(unitMs, Math.floor(sliceMs / 2));
    else if (tookMs < SLICE_GOAL_MS / 4) sliceMs *= 4;
  }
}

export function tooLong(): TwinmeshError {
  const message = 'The history asked for takes too long to read; ask for a shorter span.';
  return new TwinmeshError('deadline_exceeded', message);
}
