/**
 * How many requests a key, or an address without one, may make. The port is asynchronous so that a shared adapter can
 * stand in where several gateways have to count together.
 */
export interface RateLimiter {
  /** Takes one request from the budget of `who`. */
  take(who: string): RateVerdict | Promise<RateVerdict>;
  /** Looks without taking. */
  peek(who: string): RateVerdict | Promise<RateVerdict>;
}

export interface RateVerdict {
  allowed: boolean;
  remaining: number;
  /** How long to wait for the next request, 0 when allowed. */
  retryAfterMs: number;
}

/**
 * Token buckets in memory: `perMinute` is both the size of a bucket and what flows back within a minute.
 * Memory is bounded by `maxEntries`: a bucket that has refilled is forgotten first, then the one that was idle longest.
 * An attacker with more addresses than that wins back budget for addresses he gave up, which gains him nothing over
 * having the addresses.
 */
export class MemoryRateLimiter implements RateLimiter {
  readonly #perMinute: number;
  readonly #monotonic: () => number;
  readonly #maxEntries: number;
  // Insertion order is order of last use, because every take re-inserts.
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(perMinute: number, monotonic: () => number, maxEntries = 20_000) {
    this.#perMinute = perMinute;
    this.#monotonic = monotonic;
    this.#maxEntries = maxEntries;
  }

  get size(): number {
    return this.#buckets.size;
  }

  peek(who: string): RateVerdict {
    return this.#verdict(this.#tokens(who, this.#monotonic()));
  }

  take(who: string): RateVerdict {
    const now = this.#monotonic();
    const tokens = this.#tokens(who, now);
    const verdict = this.#verdict(tokens);
    this.#buckets.delete(who);
    this.#buckets.set(who, { tokens: verdict.allowed ? tokens - 1 : tokens, at: now });
    if (verdict.allowed) verdict.remaining = Math.floor(tokens - 1);
    if (this.#buckets.size > this.#maxEntries) this.#shrink(now);
    return verdict;
  }

  #tokens(who: string, now: number): number {
    const bucket = this.#buckets.get(who);
    if (!bucket) return this.#perMinute;
    return Math.min(this.#perMinute, bucket.tokens + ((now - bucket.at) * this.#perMinute) / 60_000);
  }

  #verdict(tokens: number): RateVerdict {
    if (tokens >= 1) return { allowed: true, remaining: Math.floor(tokens), retryAfterMs: 0 };
    return { allowed: false, remaining: 0, retryAfterMs: Math.ceil(((1 - tokens) * 60_000) / this.#perMinute) };
  }

  #shrink(now: number): void {
    // Oldest first: whoever was idle for a minute is full again and says nothing; then make a tenth of room.
    const target = Math.floor(this.#maxEntries * 0.9);
    for (const [who, bucket] of this.#buckets) {
      if (now - bucket.at < 60_000 && this.#buckets.size <= target) break;
      this.#buckets.delete(who);
    }
  }
}
