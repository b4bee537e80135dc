import type { Host } from './host.ts';
import type { HostedShard } from './shard.ts';

/**
 * Gives shards up in order, a few at a time, so that each is without an owner for as short a while as can be.
 *
 *     serving ──its turn──▶ easing ──little is left to snapshot──▶ draining ──final commit──▶ released ──claimed──▶ gone
 *
 * Owns which shards are on their way out, and how many at once. Does not own the final part (closing.ts) or the release
 * (custody.ts).
 *
 * Invariants:
 *  1  At most `AT_ONCE` are on their way; those that were released and not taken yet count for a while.
 *  2  A shard answers reads until it is released, takes commands until its final part is closed, and readings until it drains.
 */
const AT_ONCE = 16;
/** Twins without a snapshot with which a shard may drain: what its final part writes while nobody serves it. */
const FEW = 16;
/** For so long a released shard counts that nobody has taken: whoever should may be gone. */
const UNTAKEN_MS = 300;

export class Drains {
  readonly #host: Host;
  /** Easing and draining, with the number of snapshots that may still be taken before it drains whatever is left. */
  readonly #moving = new Map<HostedShard, number>();
  readonly #releasing = new Set<number>();
  /** Released → when, monotonic. */
  readonly #released = new Map<number, number>();
  #all = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** How many are easing, draining or being released. */
  get size(): number {
    this.#forgetDead();
    return this.#moving.size + this.#releasing.size;
  }

  /** Whether everything is to go; from then on or no longer. */
  all(on: boolean): void {
    this.#all = on;
    if (on) this.pump();
  }

  /** Somebody else should have this shard. */
  ask(shardNumber: number): void {
    const shard = this.#host.custody.shards.get(shardNumber);
    if (!shard || shard.poisoned || this.#moving.has(shard) || !this.#hasRoom()) return;
    this.#begin(shard);
  }

  /** Brings more on their way where there is room. */
  pump(): void {
    if (!this.#all) return;
    for (const shard of this.#host.custody.shards.values()) {
      if (!this.#hasRoom()) return;
      if (!shard.poisoned && !this.#moving.has(shard)) this.#begin(shard);
    }
  }

  /** Shards that write snapshots while they go on serving. */
  *easing(): Iterable<HostedShard> {
    for (const shard of this.#moving.keys()) if (!shard.dead && !shard.draining && !shard.poisoned) yield shard;
  }

  /** So many snapshots of an easing shard are in the cut that is being closed. */
  eased(shard: HostedShard, snapshots: number): void {
    const left = (this.#moving.get(shard) ?? 0) - snapshots;
    if (shard.dirty.size <= FEW || left <= 0) this.#drain(shard);
    else this.#moving.set(shard, left);
  }

  isReleasing(shardNumber: number): boolean {
    return this.#releasing.has(shardNumber);
  }

  /** How many shards drain or are being released. */
  get draining(): number {
    let draining = this.#releasing.size;
    for (const shard of this.#moving.keys()) if (shard.draining && !shard.dead) draining++;
    return draining;
  }

  releasing(shards: readonly HostedShard[]): void {
    for (const shard of shards) {
      this.#moving.delete(shard);
      this.#releasing.add(shard.shard);
    }
  }

  /** The store has taken the release, or has failed to. */
  released(shards: readonly HostedShard[]): void {
    const now = this.#host.options.clock.monotonic();
    for (const { shard } of shards) {
      this.#releasing.delete(shard);
      if (this.#host.standing.hasSuccessors) this.#released.set(shard, now);
    }
  }

  #begin(shard: HostedShard): void {
    // what changes while it eases is written twice: an end has to be in sight
    this.#moving.set(shard, 2 * shard.dirty.size);
    if (shard.dirty.size <= FEW) this.#drain(shard);
    this.#host.signal();
  }

  #drain(shard: HostedShard): void {
    shard.draining = true;
    shard.reader?.close();
  }

  #hasRoom(): boolean {
    this.#forgetDead();
    const { clock } = this.#host.options;
    for (const [shard, at] of this.#released) {
      if (clock.monotonic() - at >= UNTAKEN_MS || this.#host.standing.isTaken(shard)) this.#released.delete(shard);
    }
    return this.#moving.size + this.#releasing.size + this.#released.size < AT_ONCE;
  }

  #forgetDead(): void {
    for (const shard of this.#moving.keys()) if (shard.dead) this.#moving.delete(shard);
  }
}
