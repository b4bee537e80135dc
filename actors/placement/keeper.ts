import type { Clock, TimerHandle } from '../protocol/clock.ts';
import type { Claim, ShardRow, Store } from '../store/port.ts';
import { Membership } from './membership.ts';
import { wantedOwner } from './rendezvous.ts';

/**
 * Keeps this node's place in the mesh: beats, watches the others' beats, and brings ownership to what rendezvous hashing
 * wants: claims what nobody living owns, gives up what somebody else should have.
 *
 * Owns when to claim and to drain. Does not own what a shard is: the `Tenant` recovers and drains.
 *
 * Invariants:
 *  1  The database is the arbiter: a claim is a compare-and-set on what was read.
 *  2  Ownership is read before beats, so that an owner seen there has beaten before.
 *  3  `serving` is false once our own beat may have stood still for ttl less a margin, counted from when it was sent.
 *  4  After such a silence others may have claimed what we hold, or their claim may be on its way: before `serving` is true
 *     again, every shard is claimed anew.
 */
export interface Tenant {
  /** Epoch under which this node holds the shard, or undefined. */
  epochOf(shard: number): number | undefined;
  /** Shards that are being recovered, drained or claimed anew: left alone. */
  isBusy(shard: number): boolean;
  /** The claim succeeded: recover the shards and serve them. */
  take(rows: readonly ShardRow[]): void;
  /** Somebody else should have it: finish, snapshot, commit, release. */
  drain(shard: number): void;
  /** Where we hold it or are recovering it: somebody else may have it, or be about to. Claim it under the next epoch before serving it. */
  renew(shard: number): void;
  /** Somebody else has it already. */
  drop(shard: number, why: string): void;
}

export interface KeeperOptions {
  node: string;
  store: Pick<Store, 'beat' | 'nodes' | 'removeNode' | 'shards' | 'claim' | 'release'>;
  clock: Clock;
  ttlMs: number;
  tenant: Tenant;
  /** How many shards one claim takes at most: a cold start must not pull everything into one node at once. */
  claimAtOnce: number;
  onError(error: unknown): void;
}

export class Keeper {
  readonly #o: KeeperOptions;
  readonly #membership: Membership;
  #timer: TimerHandle | null = null;
  #lastBeatSentAt = Number.NEGATIVE_INFINITY;
  #failingSince: number | null = null;
  #stopped = false;
  #retreating = false;
  #rows: readonly ShardRow[] = [];
  #running: Promise<void> | null = null;

  constructor(options: KeeperOptions) {
    this.#o = options;
    this.#membership = new Membership({ clock: options.clock, ttlMs: options.ttlMs, self: options.node });
  }

  /** Whether reads and commands may be answered: others cannot have declared us dead yet. */
  get serving(): boolean {
    return this.#o.clock.monotonic() - this.#lastBeatSentAt < this.#o.ttlMs * (1 - MARGIN);
  }

  /** Wall time since when the store does not answer; null while it does. */
  get failingSince(): number | null {
    return this.#failingSince;
  }

  /** Ownership as last read. */
  get rows(): readonly ShardRow[] {
    return this.#rows;
  }

  living(): string[] {
    return this.#membership.living();
  }

  /** First round; throws where the store does not answer at all. */
  async start(): Promise<void> {
    await this.#round();
    this.#schedule();
  }

  /** No more claims: everything is to be given up. */
  retreat(): void {
    this.#retreating = true;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
    await this.#o.store.removeNode(this.#o.node).catch(this.#o.onError);
  }

  /** Looks again soon: something has changed. */
  nudge(): void {
    if (this.#stopped) return;
    this.#timer?.cancel();
    this.#timer = this.#o.clock.after(NUDGE_MS, () => this.#tick());
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer?.cancel();
    this.#timer = this.#o.clock.after(this.#o.ttlMs / 4, () => this.#tick());
  }

  #tick(): void {
    if (this.#running) return;
    this.#running = this.#round()
      .then(
        () => {
          this.#failingSince = null;
        },
        (error) => {
          this.#failingSince ??= this.#o.clock.now();
          this.#o.onError(error);
        },
      )
      .finally(() => {
        this.#running = null;
        this.#schedule();
      });
  }

  async #round(): Promise<void> {
    const { store, node, clock } = this.#o;
    const sentAt = clock.monotonic();
    await store.beat(node);
    const silent = !this.serving;
    this.#rows = await store.shards();
    const askedAt = clock.monotonic();
    this.#membership.observe(await store.nodes(), askedAt);
    if (this.#stopped) return;
    await this.#settle(sentAt, silent && this.#membership.hasOthers);
  }

  async #settle(beatSentAt: number, doubted: boolean): Promise<void> {
    const { tenant, node, store } = this.#o;
    const living = this.#membership.living().filter((name) => !(this.#retreating && name === node));
    const claims: Claim[] = [];
    const strays: { shard: number; epoch: number }[] = [];
    for (const row of this.#rows) {
      const held = tenant.epochOf(row.shard);
      if (held !== undefined && (row.epoch > held || (row.epoch === held && row.owner !== node))) {
        tenant.drop(row.shard, `epoch ${row.epoch} belongs to ${row.owner ?? 'nobody'}`);
        continue;
      }
      if (doubted) tenant.renew(row.shard);
      if (tenant.isBusy(row.shard) || (doubted && held !== undefined)) continue;
      const wanted = wantedOwner(row.shard, living);
      if (held !== undefined) {
        if (wanted !== node && wanted !== null) tenant.drain(row.shard);
        continue;
      }
      if (wanted !== node || this.#retreating) {
        // ours by name only (an earlier life of this node, an answer that was lost): nobody else may claim it from the living
        if (row.owner === node) strays.push({ shard: row.shard, epoch: row.epoch });
        continue;
      }
      const free = row.owner === null || row.owner === node || !this.#membership.isAlive(row.owner);
      if (free) claims.push({ shard: row.shard, owner: row.owner, epoch: row.epoch });
    }
    this.#lastBeatSentAt = beatSentAt;
    if (strays.length > 0) await store.release(node, strays);
    for (let i = 0; i < claims.length; i += this.#o.claimAtOnce) {
      if (this.#stopped || this.#retreating) return;
      const rows = await store.claim(node, claims.slice(i, i + this.#o.claimAtOnce));
      if (rows.length > 0) tenant.take(rows);
    }
  }
}

const MARGIN = 0.25;
const NUDGE_MS = 10;
