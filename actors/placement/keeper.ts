import type { Clock, TimerHandle } from '../protocol/clock.ts';
import type { Claim, ShardRow, Store } from '../store/port.ts';
import { Membership } from './membership.ts';
import { wantedOwner } from './rendezvous.ts';

/**
 * Keeps this node's place in the mesh: beats, watches the others' beats, and brings ownership to what rendezvous hashing
 * wants: claims what nobody living owns, gives up what somebody else should have.
 *
 * A round beats and settles, every ttl/4. A look settles only, as soon as somebody says that something has changed.
 *
 * Owns when to claim and to drain. Does not own what a shard is: the `Tenant` recovers and drains.
 *
 * Invariants:
 *  1  The database is the arbiter: a claim is a compare-and-set on what was read.
 *  2  Ownership is read before beats, so that an owner seen there has beaten before.
 *  3  `serving` is false once our own beat may have stood still for ttl less a margin, counted from when it was sent. Looks
 *     change nothing in that.
 *  4  After such a silence others may have claimed what we hold, or their claim may be on its way: before `serving` is true
 *     again, every shard is claimed anew.
 *  5  A node gets no more shards while many that it should have lie free: what moves is what is taken.
 */
export interface Tenant {
  /** Epoch under which this node holds the shard, or undefined. */
  epochOf(shard: number): number | undefined;
  /** Shards that are being recovered, drained or claimed anew: left alone. */
  isBusy(shard: number): boolean;
  /** The claim succeeded: recover the shards and serve them. */
  take(rows: readonly ShardRow[]): void;
  /** Somebody else should have it: give it up in order, when its turn comes. Asked again in every round until then. */
  drain(shard: number): void;
  /** Where we hold it or are recovering it: somebody else may have it, or be about to. Claim it under the next epoch before serving it. */
  renew(shard: number): void;
  /** Somebody else has it already. */
  drop(shard: number, why: string): void;
  /** These were ours by name only and are free now. */
  freed(shards: readonly { shard: number; epoch: number }[]): void;
  /** Ownership and membership have been read and settled. */
  settled(): void;
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
  /** When the next round is due, monotonic. */
  #roundDueAt = 0;
  #nudged = false;

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

  /** Living nodes that want shards, in order of name. */
  living(): string[] {
    return this.#membership.living().filter((name) => !(this.#retreating && name === this.#o.node));
  }

  /** First round; throws where the store does not answer at all. */
  async start(): Promise<void> {
    await this.#round();
    this.#roundDueAt = this.#o.clock.monotonic() + this.#o.ttlMs / 4;
    this.#schedule();
  }

  /** No more claims: everything is to be given up. Resolves when the others can know it, or the store has failed to take it. */
  async retreat(): Promise<void> {
    this.#retreating = true;
    await this.#running;
    this.#roundDueAt = 0;
    this.#tick();
    await this.#running;
  }

  /** Takes its share again. */
  async resume(): Promise<void> {
    this.#retreating = false;
    await this.#running;
    this.#roundDueAt = 0;
    this.#tick();
    await this.#running;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
    await this.#o.store.removeNode(this.#o.node).catch(this.#o.onError);
  }

  /** Looks again soon: something has changed. As often as one likes: nudges that come together are one look. */
  nudge(): void {
    if (this.#nudged || this.#stopped) return;
    this.#nudged = true;
    if (!this.#running) this.#schedule();
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer?.cancel();
    const untilRoundMs = Math.max(0, this.#roundDueAt - this.#o.clock.monotonic());
    this.#timer = this.#o.clock.after(this.#nudged ? Math.min(NUDGE_MS, untilRoundMs) : untilRoundMs, () =>
      this.#tick(),
    );
  }

  #tick(): void {
    if (this.#running || this.#stopped) return;
    this.#nudged = false;
    const round = !this.serving || this.#o.clock.monotonic() >= this.#roundDueAt;
    this.#running = (round ? this.#round() : this.#look(null, false))
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
        if (round) this.#roundDueAt = this.#o.clock.monotonic() + this.#o.ttlMs / 4;
        this.#schedule();
      });
  }

  async #round(): Promise<void> {
    const { store, node, clock } = this.#o;
    const sentAt = clock.monotonic();
    await store.beat(node, this.#retreating);
    await this.#look(sentAt, !this.serving);
  }

  async #look(beatSentAt: number | null, silent: boolean): Promise<void> {
    const { store, clock, tenant } = this.#o;
    this.#rows = await store.shards();
    const askedAt = clock.monotonic();
    this.#membership.observe(await store.nodes(), askedAt);
    if (this.#stopped) return;
    await this.#settle(beatSentAt, silent && this.#membership.hasOthers);
    tenant.settled();
  }

  async #settle(beatSentAt: number | null, doubted: boolean): Promise<void> {
    const { tenant, node, store } = this.#o;
    const living = this.living();
    const claims: Claim[] = [];
    const strays: { shard: number; epoch: number }[] = [];
    const wanted = this.#rows.map(({ shard }) => wantedOwner(shard, living));
    /** How many shards lie free that a node should have. */
    const lying = new Map<string | null, number>();
    for (const [i, { owner }] of this.#rows.entries())
      if (owner === null) lying.set(wanted[i], (lying.get(wanted[i]) ?? 0) + 1);
    for (const [i, row] of this.#rows.entries()) {
      const held = tenant.epochOf(row.shard);
      if (held !== undefined && (row.epoch > held || (row.epoch === held && row.owner !== node))) {
        tenant.drop(row.shard, `epoch ${row.epoch} belongs to ${row.owner ?? 'nobody'}`);
        continue;
      }
      if (doubted) tenant.renew(row.shard);
      if (tenant.isBusy(row.shard) || (doubted && held !== undefined)) continue;
      if (held !== undefined) {
        const elsewhere = wanted[i] !== node && wanted[i] !== null;
        if (elsewhere && (lying.get(wanted[i]) ?? 0) < LYING_AT_ONCE) tenant.drain(row.shard);
        continue;
      }
      if (wanted[i] !== node || this.#retreating) {
        // ours by name only (an earlier life of this node, an answer that was lost): nobody else may claim it from the living
        if (row.owner === node) strays.push({ shard: row.shard, epoch: row.epoch });
        continue;
      }
      const free = row.owner === null || row.owner === node || !this.#membership.isAlive(row.owner);
      if (free) claims.push({ shard: row.shard, owner: row.owner, epoch: row.epoch });
    }
    if (beatSentAt !== null) this.#lastBeatSentAt = beatSentAt;
    if (strays.length > 0) {
      await store.release(node, strays);
      tenant.freed(strays);
    }
    for (let i = 0; i < claims.length; i += this.#o.claimAtOnce) {
      if (this.#stopped || this.#retreating) return;
      const rows = await store.claim(node, claims.slice(i, i + this.#o.claimAtOnce));
      if (rows.length === 0) continue;
      const claimed = new Map(rows.map((row) => [row.shard, row]));
      this.#rows = this.#rows.map((row) => claimed.get(row.shard) ?? row);
      tenant.take(rows);
    }
  }
}

const MARGIN = 0.25;
const NUDGE_MS = 5;
/** So many shards may lie free for a node that others still hold shards for. */
const LYING_AT_ONCE = 16;
