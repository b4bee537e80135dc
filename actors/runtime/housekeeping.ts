import type { TimerHandle } from '../protocol/clock.ts';
import { messageOf } from '../protocol/errors.ts';
import type { Host } from './host.ts';

/** What nobody asks for but time: ticks and questions that are due, wakes of passive twins, twins to put away, cuts that are owed, a log to trim. */
const WAKES_AT_ONCE = 500;
const WAKE_PAGES = 10;
const TRIM_EVERY_MS = 60_000;

export class Housekeeping {
  readonly #host: Host;
  #timer: TimerHandle | null = null;
  #stopped = false;
  #lastWakePoll = Number.NEGATIVE_INFINITY;
  #lastSweep = Number.NEGATIVE_INFINITY;
  #polling = false;
  #lastTrim = Number.NEGATIVE_INFINITY;
  #trimming = false;
  #wakesSkipped = 0;

  constructor(host: Host) {
    this.#host = host;
  }

  start(): void {
    this.#round();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #round(): void {
    if (this.#stopped) return;
    const { clock, housekeepingMs } = this.#host.options;
    const now = clock.now();
    let work = false;
    for (const activation of this.#host.wakes.due(now)) {
      const shard = this.#host.custody.ownerOf(activation);
      if (shard === null) continue;
      shard.ticks.push(activation);
      work = true;
    }
    this.#host.asking.round();
    const monotonic = clock.monotonic();
    if (monotonic - this.#lastWakePoll >= 1_000 && !this.#polling) {
      this.#lastWakePoll = monotonic;
      void this.#pollWakes(now);
    }
    if (monotonic - this.#lastSweep >= 1_000) {
      this.#lastSweep = monotonic;
      this.#host.checkpoint.closing.sweep();
      this.#host.asking.sweep();
      if (this.#host.wakes.size > 1_000 && this.#host.wakes.size > 2 * this.#host.status().twins.resident) {
        this.#host.wakes.retain((activation) => this.#host.custody.ownerOf(activation) !== null);
      }
    }
    if (monotonic - this.#lastTrim >= TRIM_EVERY_MS && !this.#trimming && this.#host.standing.isFirst) {
      this.#lastTrim = monotonic;
      void this.#trim();
    }
    if (work || this.#host.checkpoint.closing.due()) this.#host.signal();
    this.#timer = clock.after(housekeepingMs, () => this.#round());
  }

  async #trim(): Promise<void> {
    const { log, logger, logReserveMessages } = this.#host.options;
    this.#trimming = true;
    try {
      await log.trim?.(this.#host.standing.committedPositions(), logReserveMessages);
    } catch (error) {
      logger.warn({ error: messageOf(error) }, 'the log was not trimmed; it will be tried again');
    } finally {
      this.#trimming = false;
    }
  }

  /** Passive twins that want to be told the time. */
  async #pollWakes(now: number): Promise<void> {
    this.#polling = true;
    try {
      // resident twins stand in the answer too, with wakes they have outlived: page past them, or they hide the passive
      for (let page = 0; page < WAKE_PAGES; page++) {
        const due = await this.#host.options.store.dueWakes(
          [...this.#host.custody.shards.keys()],
          now,
          WAKES_AT_ONCE,
          this.#wakesSkipped,
        );
        for (const { shard: number, twinId } of due) {
          const shard = this.#host.custody.shards.get(number);
          if (!shard || shard.twins.has(twinId)) continue;
          shard.wakes.add(twinId);
          this.#host.signal();
        }
        this.#wakesSkipped = due.length < WAKES_AT_ONCE ? 0 : this.#wakesSkipped + due.length;
        if (this.#wakesSkipped === 0) break;
      }
    } catch (error) {
      this.#host.staleness.storeFailed(error);
    } finally {
      this.#polling = false;
    }
  }
}
