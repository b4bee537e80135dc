import { type Clock, systemClock } from '../../actors/protocol/clock.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { Caller } from '../gateway/caller.ts';
import { parseKey, provesHash, sha256 } from './hashing.ts';
import { findKey, touchKeys } from './store.ts';

/**
 * Verified keys, remembered for a short while: one per connection to the store, shared by every door of the node.
 *
 * Invariants:
 *  1. What is remembered is looked up by the digest of the whole presented key; no secret stays in memory.
 *  2. `forget` takes effect at once: also an answer that the store gave before, and that arrives after it, is not kept.
 *  3. On other nodes a revoked key lives at most `ttlMs` longer.
 */
export interface KeyRingOptions {
  clock?: Clock;
  ttlMs?: number;
  maxEntries?: number;
  /** How long uses are collected before `last_used_at` is written. */
  touchAfterMs?: number;
}

export class KeyRing {
  readonly #sql: Sql;
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #maxEntries: number;
  readonly #touchAfterMs: number;
  readonly #known = new Map<string, { caller: Caller; until: number }>();
  readonly #used = new Set<string>();
  #generation = 0;
  #touching = false;

  constructor(sql: Sql, options: KeyRingOptions = {}) {
    this.#sql = sql;
    this.#clock = options.clock ?? systemClock;
    this.#ttlMs = options.ttlMs ?? 30_000;
    this.#maxEntries = options.maxEntries ?? 20_000;
    this.#touchAfterMs = options.touchAfterMs ?? 5_000;
  }

  /** Whose key this is; null where it is none, wrong, or revoked. Throws store_down. */
  async authenticate(presented: string): Promise<Caller | null> {
    const parsed = parseKey(presented);
    if (!parsed) return null;
    const digest = sha256(presented).toString('base64');
    const known = this.#known.get(digest);
    if (known && known.until > this.#clock.monotonic()) return known.caller;
    // Asked again when keys were forgotten meanwhile, because the answer may be from before that.
    for (;;) {
      const generation = this.#generation;
      const found = await findKey(this.#sql, parsed.id);
      if (generation !== this.#generation) continue;
      if (!found || !provesHash(parsed.secret, found.hash)) {
        this.#known.delete(digest);
        return null;
      }
      const { hash: _, ...caller } = found;
      this.#remember(digest, Object.freeze(caller));
      return caller;
    }
  }

  /** Whether the key has been good before, and not been forgotten since; without asking the store. */
  knows(presented: string): boolean {
    return this.#known.has(sha256(presented).toString('base64'));
  }

  /** A key was revoked or rotated: nothing remembered about it counts any more. */
  forget(keyId: string): void {
    this.#generation++;
    for (const [digest, { caller }] of this.#known) if (caller.keyId === keyId) this.#known.delete(digest);
  }

  #remember(digest: string, caller: Caller): void {
    this.#known.delete(digest);
    this.#known.set(digest, { caller, until: this.#clock.monotonic() + this.#ttlMs });
    if (this.#known.size > this.#maxEntries) this.#known.delete(this.#known.keys().next().value as string);
    this.#used.add(caller.keyId);
    if (this.#touching) return;
    this.#touching = true;
    this.#clock.after(this.#touchAfterMs, () => void this.flush());
  }

  /** Writes when keys were last used. Never throws: it is a luxury, and the next use tries again. */
  async flush(): Promise<void> {
    this.#touching = false;
    if (this.#used.size === 0) return;
    const ids = [...this.#used];
    this.#used.clear();
    await touchKeys(this.#sql, ids, new Date(this.#clock.now())).catch(() => undefined);
  }
}

const rings = new WeakMap<Sql, KeyRing>();

/** The key ring of a connection; the same one for every door. */
export function keyRing(sql: Sql): KeyRing {
  let ring = rings.get(sql);
  if (!ring) {
    ring = new KeyRing(sql);
    rings.set(sql, ring);
  }
  return ring;
}

/** Whose key this is; null where it is none, wrong, or revoked. Throws store_down. */
export function authenticateKey(sql: Sql, presented: string): Promise<Caller | null> {
  return keyRing(sql).authenticate(presented);
}
