import type { Clock } from '../../actors/protocol/clock.ts';

/**
 * Whether this node can train and, where it cannot, whether another one can. A node that cannot leaves jobs to the others; what
 * nobody can do fails, with the reason of a node that was there.
 *
 * Invariants:
 *  1  Jobs are given up only when no node that runs them could for `patienceMs` without a break: one that restarts keeps them.
 *  2  A node that does not answer may be able: it is no reason to give jobs up.
 */
export interface AbleNodesOptions {
  clock: Clock;
  /** Why this node cannot train; null where it can. */
  why(): Promise<string | null>;
  /** The same of every other node that takes jobs; null where it can or does not answer. */
  askOthers(): Promise<(string | null)[]>;
  /** 0 where there are no other nodes and never will be. */
  patienceMs: number;
}

/** Python may be installed meanwhile. */
const LOOK_AGAIN_MS = 60_000;
const ASK_AGAIN_MS = 5_000;

export class AbleNodes {
  readonly #options: AbleNodesOptions;
  #own: { why: Promise<string | null>; at: number } | null = null;
  #nobodySince: number | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(options: AbleNodesOptions) {
    this.#options = options;
  }

  /** Why this node cannot train; null where it can, which is looked at once. */
  async why(): Promise<string | null> {
    const now = this.#options.clock.monotonic();
    if (this.#own === null || now - this.#own.at >= LOOK_AGAIN_MS) this.#own = { why: this.#options.why(), at: now };
    const why = await this.#own.why;
    if (why === null) this.#own.at = Number.POSITIVE_INFINITY;
    return why;
  }

  /**
   * Jobs wait that this node cannot do. `wait`: another may, or it was not asked again yet. `nobody`: no node can, but one may
   * come back. `give up`: none came.
   */
  async judge(): Promise<'wait' | 'nobody' | 'give up'> {
    const { clock, askOthers, patienceMs } = this.#options;
    if (clock.monotonic() - this.#askedAt < ASK_AGAIN_MS) return 'wait';
    this.#askedAt = clock.monotonic();
    const others = await askOthers();
    if (others.includes(null)) {
      this.#nobodySince = null;
      return 'wait';
    }
    this.#nobodySince ??= clock.monotonic();
    return clock.monotonic() - this.#nobodySince >= patienceMs ? 'give up' : 'nobody';
  }

  /** No job waits: the next one gets the whole patience. */
  nothingWaits(): void {
    this.#nobodySince = null;
  }
}
