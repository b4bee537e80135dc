import { type Clock, sleep } from '../../actors/protocol/clock.ts';
import type { Timed } from './timeline.ts';
import type { Speech } from './wire-message.ts';

/** Whoever carries a message; resolves once it is on its way and throws when nothing more can be. */
export interface Carrier {
  send(topic: string, payload: string): Promise<void>;
}

export interface PlayOptions {
  speech: Speech;
  carrier: Carrier;
  clock: Clock;
  /** Event time runs so many times as fast as the clock; 0: as fast as the carrier takes it. */
  speed: number;
  signal: AbortSignal;
}

export interface Played {
  sent: number;
  /** Readings that no message can carry, by reason. */
  unsaid: Record<string, number>;
  twins: Set<string>;
  /** Event time of the first that was sent, which the pace counts from, of the earliest and of the latest. */
  firstMs: number | null;
  earliestMs: number | null;
  lastMs: number | null;
  /** False when it was told to stop. */
  whole: boolean;
}

const SLEEP_AT_MOST_MS = 500;

/**
 * Plays readings as their devices would send them: each when its event time has come, on a clock that runs `speed` times as
 * fast from the first reading on. A carrier that is slower sets the pace; what is overdue is sent at once.
 */
export async function play(readings: AsyncIterable<Timed>, options: PlayOptions, played: Played): Promise<void> {
  const { speech, carrier, clock, speed, signal } = options;
  const startedAt = clock.monotonic();
  for await (const { raw, ms } of readings) {
    if (signal.aborted) {
      played.whole = false;
      return;
    }
    const message = speech.say(raw);
    if (message === null) {
      const why = Number.isNaN(ms) ? 'bad_time' : 'bad_id';
      played.unsaid[why] = (played.unsaid[why] ?? 0) + 1;
      continue;
    }
    played.firstMs ??= ms;
    if (speed > 0) {
      const dueAt = startedAt + (ms - played.firstMs) / speed;
      for (;;) {
        const leftMs = dueAt - clock.monotonic();
        if (leftMs <= 0 || signal.aborted) break;
        await sleepFor(clock, Math.min(SLEEP_AT_MOST_MS, leftMs));
      }
      if (signal.aborted) {
        played.whole = false;
        return;
      }
    }
    await carrier.send(message.topic, message.payload);
    played.sent++;
    played.earliestMs = Math.min(played.earliestMs ?? ms, ms);
    played.lastMs = Math.max(played.lastMs ?? ms, ms);
    played.twins.add(String(raw.id));
  }
}

export function notPlayed(): Played {
  return { sent: 0, unsaid: {}, twins: new Set(), firstMs: null, earliestMs: null, lastMs: null, whole: true };
}

/** Waiting is what a player does: unlike other timers this one keeps the process alive. */
async function sleepFor(clock: Clock, ms: number): Promise<void> {
  const alive = setInterval(() => undefined, 60_000);
  try {
    await sleep(clock, ms);
  } finally {
    clearInterval(alive);
  }
}
