import { type Clock, type Random, sleep, type TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { type Receiver, scrubbed, Undelivered } from '../notifiers/receiver.ts';
import type { Outcome } from './batch.ts';
import { type Claimed, claim, dead, failed, giveBack, sent } from './queue.ts';
import { type ReceiverSettings, secretsOf } from './receiver-settings.ts';

/**
 * Brings what waits for one receiver to it, one after the other.
 *
 *     resting ──woken──▶ delivering ──nothing is due──▶ resting
 *                            │ failed
 *                            ▼
 *                         paused ──the pause is over──▶ delivering
 *
 *  1 It has its own claim, its own connection and its own pause: another receiver does not notice that this one is slow.
 *  2 A failure pauses the receiver, longer each time; the attempt counts for the one notification alone that failed.
 *  3 A delivery takes at most the timeout of the receiver, whatever that does.
 *  4 Sent is written down after the receiver has said so: at least once, and once unless the node dies in between.
 */
export interface CourierOptions {
  settings: ReceiverSettings;
  receiver: Receiver;
  sql: Sql;
  clock: Clock;
  random: Random;
  node: string;
  /** First pause after a failure; it doubles up to `longestMs`. */
  firstPauseMs?: number;
  longestMs?: number;
  count(receiver: string, outcome: Outcome): void;
  onError(receiver: string, error: unknown): void;
}

const AT_ONCE = 8;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_MS = 300_000;
/** How long a stop waits for the delivery that is under way. */
const STOP_WITHIN_MS = 1_500;

export interface CourierState {
  state: 'resting' | 'delivering' | 'paused';
  /** Since the last success. */
  failures: number;
  /** Wall time, ms. */
  pausedUntilMs: number | null;
}

export class Courier {
  readonly #o: CourierOptions;
  readonly #secrets: readonly string[];
  #running: Promise<void> | null = null;
  #again = false;
  #stopped = false;
  #failures = 0;
  #pausedUntil = Number.NEGATIVE_INFINITY;
  #timer: TimerHandle | null = null;
  #delivery: AbortController | null = null;

  constructor(options: CourierOptions) {
    this.#o = options;
    this.#secrets = secretsOf(options.settings);
  }

  get name(): string {
    return this.#o.settings.name;
  }

  get state(): CourierState {
    const { clock } = this.#o;
    const left = this.#pausedUntil - clock.monotonic();
    const state = left > 0 ? 'paused' : this.#running === null ? 'resting' : 'delivering';
    return { state, failures: this.#failures, pausedUntilMs: left > 0 ? clock.now() + left : null };
  }

  /** Something may be due. */
  wake(): void {
    if (this.#stopped) return;
    this.#again = true;
    if (this.#running !== null || this.#o.clock.monotonic() < this.#pausedUntil) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
      if (this.#again && this.#pausedUntil <= this.#o.clock.monotonic()) this.wake();
    });
  }

  /** One delivery beside the queue, to try the receiver. Throws what it throws, without secrets. */
  async attempt(payload: Claimed['payload'], key: string): Promise<void> {
    try {
      await this.#send(payload, key, new AbortController());
    } catch (error) {
      throw new Error(this.#said(error));
    }
  }

  /** Waits a little for what is under way, then breaks it off. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    const late = this.#o.clock.after(STOP_WITHIN_MS, () => this.#delivery?.abort(new Error('the node stops')));
    // What waits for the database beyond that finds itself stopped; its claim runs out.
    await Promise.race([this.#running, sleep(this.#o.clock, STOP_WITHIN_MS + 500)]);
    late.cancel();
    this.#o.receiver.close();
  }

  async #run(): Promise<void> {
    const { sql, clock, node, settings } = this.#o;
    let troubleMs = 0;
    while (!this.#stopped) {
      this.#again = false;
      try {
        const leaseMs = AT_ONCE * (settings.timeoutMs + 1_000);
        const rows = await claim(sql, settings.name, node, AT_ONCE, clock.now(), leaseMs);
        if (rows.length === 0) return;
        if (!(await this.#deliverAll(rows))) return;
        troubleMs = 0;
      } catch (error) {
        // The database, not the receiver.
        this.#o.onError(settings.name, error);
        troubleMs = Math.min(30_000, Math.max(200, troubleMs * 2));
        await sleep(clock, troubleMs);
      }
    }
  }

  /** False when the receiver is to be left alone. */
  async #deliverAll(rows: readonly Claimed[]): Promise<boolean> {
    const left = [...rows];
    try {
      while (left.length > 0 && !this.#stopped) {
        if (!(await this.#deliver(left[0]))) {
          left.shift();
          return false;
        }
        left.shift();
      }
      return true;
    } finally {
      await giveBack(
        this.#o.sql,
        left.map((row) => row.id),
      );
    }
  }

  async #deliver(row: Claimed): Promise<boolean> {
    const { sql, clock, settings } = this.#o;
    this.#delivery = new AbortController();
    try {
      await this.#send(row.payload, row.key, this.#delivery);
    } catch (error) {
      return await this.#failed(row, error);
    } finally {
      this.#delivery = null;
    }
    this.#failures = 0;
    this.#o.count(settings.name, 'sent');
    await this.#surely(() => sent(sql, row.id, clock.now()));
    return true;
  }

  async #failed(row: Claimed, error: unknown): Promise<boolean> {
    const { sql, clock, settings } = this.#o;
    const said = this.#said(error);
    const nowMs = clock.now();
    if (this.#stopped) {
      await giveBack(sql, [row.id]);
      return false;
    }
    const forGood = error instanceof Undelivered && !error.retryable;
    const spent = row.attempts + 1 >= settings.attempts || nowMs - row.createdAtMs >= settings.giveUpAfterMs;
    if (forGood || spent) {
      this.#o.count(settings.name, 'dead');
      await this.#surely(() => dead(sql, settings.name, row, said, nowMs));
      // The receiver is there; it was this message.
      if (forGood) return true;
      this.#pause(error);
      return false;
    }
    this.#o.count(settings.name, 'failed');
    const pauseMs = this.#pause(error);
    const ownMs = this.#backoff(row.attempts);
    await this.#surely(() => failed(sql, row.id, said, nowMs + Math.max(pauseMs, ownMs)));
    return false;
  }

  #pause(error: unknown): number {
    const { clock } = this.#o;
    const askedMs = error instanceof Undelivered ? (error.retryAfterMs ?? 0) : 0;
    const pauseMs = Math.max(askedMs, this.#backoff(this.#failures));
    this.#failures++;
    this.#pausedUntil = clock.monotonic() + pauseMs;
    this.#timer?.cancel();
    this.#timer = clock.after(pauseMs + 1, () => this.wake());
    return pauseMs;
  }

  /** Exponential, with up to half of it taken off at random, so that receivers that broke down together are not met together. */
  #backoff(failures: number): number {
    const { firstPauseMs = FIRST_PAUSE_MS, longestMs = LONGEST_MS, random } = this.#o;
    return Math.min(longestMs, firstPauseMs * 2 ** Math.min(30, failures)) * (0.5 + random() / 2);
  }

  async #send(payload: Claimed['payload'], key: string, controller: AbortController): Promise<void> {
    const { clock, settings, receiver } = this.#o;
    const late = clock.after(settings.timeoutMs, () =>
      controller.abort(new Undelivered(`no answer within ${settings.timeoutMs / 1_000} s`, true)),
    );
    try {
      await receiver.send({ payload, key, nowMs: clock.now(), signal: controller.signal });
    } catch (error) {
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      late.cancel();
    }
  }

  /** What became of a delivery must be written: else it is made again. */
  async #surely(write: () => Promise<void>): Promise<void> {
    for (let pauseMs = 100; ; pauseMs = Math.min(10_000, pauseMs * 2)) {
      try {
        return await write();
      } catch (error) {
        this.#o.onError(this.name, error);
        if (this.#stopped) return;
        await sleep(this.#o.clock, pauseMs);
      }
    }
  }

  #said(error: unknown): string {
    const cause = error instanceof AggregateError ? error.errors[0] : error;
    return scrubbed(messageOf(cause) || 'no connection', this.#secrets);
  }
}
