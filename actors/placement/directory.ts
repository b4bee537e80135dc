import { type Clock, sleep, type TimerHandle } from '../protocol/clock.ts';
import { shardOf, type TwinId } from '../protocol/twin-id.ts';

/**
 * Who owns which shard, as far as this node knows: what callers are routed by.
 *
 * It may be wrong, and is never asked whether somebody may write: the fence decides that. A wrong entry costs a caller one
 * `not_owner` and another look.
 *
 * Invariants:
 *  1  An entry is replaced only by one of a higher epoch, or by the release of its own: news may overtake each other.
 *  2  An entry that was known before a look began, and that the look finds at a lower epoch, belongs to a database that is no
 *     more (it was restored from a backup): the look wins.
 *  3  Whoever doubts shares one look at the database with all others who doubt, and looks follow each other at a distance.
 */
export interface Ownership {
  shard: number;
  owner: string | null;
  epoch: number;
}

export interface DirectoryOptions {
  shards: number;
  /** Ownership as the database has it. */
  look(): Promise<readonly Ownership[]>;
  clock: Clock;
  /** How often the database is asked although nobody doubts. */
  everyMs: number;
  onError(error: unknown): void;
}

/** Least time from the end of a look to the beginning of the next. */
const APART_MS = 25;

export class Directory {
  readonly #options: DirectoryOptions;
  readonly #entries = new Map<number, Ownership & { learntAt: number }>();
  /** Looks that have begun. */
  #looks = 0;
  readonly #waiting = new Map<number, Set<() => void>>();
  #looking: Promise<void> | null = null;
  #timer: TimerHandle | null = null;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.after(this.#options.everyMs, () => {
      void this.doubt().finally(() => this.start());
    });
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const waiters of this.#waiting.values()) for (const wake of waiters) wake();
    this.#waiting.clear();
  }

  shardOf(twinId: TwinId): number {
    return shardOf(twinId, this.#options.shards);
  }

  /** The node that owns the shard, null where nobody does or nothing is known. */
  ownerOf(shard: number): string | null {
    return this.#entries.get(shard)?.owner ?? null;
  }

  /** How many shards each node owns, as far as it is known. */
  counts(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { owner } of this.#entries.values()) if (owner !== null) counts.set(owner, (counts.get(owner) ?? 0) + 1);
    return counts;
  }

  /** What a look or a node says. */
  observe(rows: Iterable<Ownership>): void {
    for (const row of rows) {
      const known = this.#entries.get(row.shard);
      if (known !== undefined && (row.epoch < known.epoch || (row.epoch === known.epoch && known.owner === null)))
        continue;
      this.#learn(row);
    }
  }

  /** Looks at the database, together with whoever else doubts now. Never rejects. */
  doubt(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** Resolves when the entry of the shard changes, at the latest after `ms`. */
  change(shard: number, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const waiters = this.#waiting.get(shard) ?? new Set();
      this.#waiting.set(shard, waiters);
      const wake = (): void => {
        timer.cancel();
        waiters.delete(wake);
        if (waiters.size === 0 && this.#waiting.get(shard) === waiters) this.#waiting.delete(shard);
        resolve();
      };
      const timer = this.#options.clock.after(ms, wake);
      waiters.add(wake);
    });
  }

  async #look(): Promise<void> {
    const { clock, look, onError } = this.#options;
    const waitMs = this.#lookedAt + APART_MS - clock.monotonic();
    if (waitMs > 0) await sleep(clock, waitMs);
    const began = ++this.#looks;
    try {
      const rows = await look();
      this.observe(rows);
      for (const row of rows) {
        const known = this.#entries.get(row.shard);
        if (known !== undefined && row.epoch < known.epoch && known.learntAt < began) this.#learn(row);
      }
    } catch (error) {
      onError(error);
    }
    this.#lookedAt = clock.monotonic();
  }

  #learn({ shard, owner, epoch }: Ownership): void {
    const known = this.#entries.get(shard);
    if (known?.owner === owner && known.epoch === epoch) return;
    this.#entries.set(shard, { shard, owner, epoch, learntAt: this.#looks });
    this.#wake(shard);
  }

  #wake(shard: number): void {
    for (const wake of [...(this.#waiting.get(shard) ?? [])]) wake();
  }
}
