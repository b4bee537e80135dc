import { type Clock, LATE, systemClock, within } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
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
 *  3. On other nodes a revoked key lives at most `ttlMs` longer, and at most `graceMs` while the store does not answer:
 *     whoever was let in can go on looking, also at what an outage looks like.
 */
export interface KeyRingOptions {
  clock?: Clock;
  ttlMs?: number;
  /** How long a key that was good counts without the store. Default 10 minutes. */
  graceMs?: number;
  maxEntries?: number;
  /** How long uses are collected before `last_used_at` is written. */
  touchAfterMs?: number;
}

interface Known {
  caller: Caller;
  /** Until then the store is not asked. */
  until: number;
  /** When the store last said that it is good. */
  provenAt: number;
}

/** How long the store may take over a key that was good before, over another one, and when it is asked again after that. */
const PATIENCE_MS = { known: 1_000, unknown: 5_000, again: 5_000 };

export class KeyRing {
  readonly #sql: Sql;
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #graceMs: number;
  readonly #maxEntries: number;
  readonly #touchAfterMs: number;
  readonly #known = new Map<string, Known>();
  readonly #used = new Set<string>();
  #generation = 0;
  #touching = false;

  constructor(sql: Sql, options: KeyRingOptions = {}) {
    this.#sql = sql;
    this.#clock = options.clock ?? systemClock;
    this.#ttlMs = options.ttlMs ?? 30_000;
    this.#graceMs = options.graceMs ?? 600_000;
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
      const found = await this.#find(parsed.id, digest);
      if (generation !== this.#generation) continue;
      if (found === 'trusted') return known!.caller;
      if (!found || !provesHash(parsed.secret, found.hash)) {
        this.#known.delete(digest);
        return null;
      }
      const { hash: _, ...caller } = found;
      this.#remember(digest, Object.freeze(caller));
      return caller;
    }
  }

  /** The key as the store has it; `trusted` where the store does not answer and the key was good until lately. */
  async #find(id: string, digest: string): Promise<Awaited<ReturnType<typeof findKey>> | 'trusted'> {
    const patienceMs = PATIENCE_MS[this.#known.has(digest) ? 'known' : 'unknown'];
    let failure: unknown;
    try {
      const found = await within(this.#clock, findKey(this.#sql, id), patienceMs);
      if (found !== LATE) return found;
      failure = new TwinmeshError('store_down', `The key could not be looked up within ${patienceMs} ms.`);
    } catch (error) {
      failure = error;
    }
    const now = this.#clock.monotonic();
    // Not one that has been forgotten meanwhile.
    const known = this.#known.get(digest);
    if (known === undefined || now - known.provenAt >= this.#graceMs) throw failure;
    known.until = now + PATIENCE_MS.again;
    return 'trusted';
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
    const now = this.#clock.monotonic();
    this.#known.delete(digest);
    this.#known.set(digest, { caller, until: now + this.#ttlMs, provenAt: now });
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
