import type { LogPosition } from '../log/port.ts';
import type { Ownership } from '../placement/directory.ts';
import { Keeper } from '../placement/keeper.ts';
import { sleep } from '../protocol/clock.ts';
import { Drains } from './drains.ts';
import type { Host } from './host.ts';

/**
 * Where this node stands among the others: what it owns and should own, whether it wants anything at all, and what it
 * tells and is told of that.
 *
 * Owns the keeper and the drains. Does not own the shards (custody.ts).
 */
const LOOK_MS = 5;

export class Standing {
  readonly drains: Drains;
  readonly #host: Host;
  readonly #keeper: Keeper;

  constructor(host: Host) {
    this.#host = host;
    this.drains = new Drains(host);
    const { node, store, clock, ttlMs, claimAtOnce } = host.options;
    const { custody } = host;
    this.#keeper = new Keeper({
      node,
      store,
      clock,
      ttlMs,
      claimAtOnce,
      tenant: {
        epochOf: (shard) => custody.epochOf(shard),
        isBusy: (shard) =>
          custody.busy.has(shard) || custody.refused.has(shard) || custody.shards.get(shard)?.draining === true,
        take: (rows) => custody.take(rows),
        drain: (shard) => this.drains.ask(shard),
        renew: (shard) => custody.renew(shard),
        drop: (shard, why) => custody.drop(shard, why),
        freed: (given) => this.released(given),
        settled: () => this.#settled(),
      },
      onError: (error) => host.staleness.storeFailed(error),
    });
  }

  start(): Promise<void> {
    return this.#keeper.start();
  }

  stop(): Promise<void> {
    return this.#keeper.stop();
  }

  nudge(): void {
    this.#keeper.nudge();
  }

  /** Gives up all shards in order, while `goOn`, and wants none from now on. */
  async retreat(goOn: () => boolean): Promise<void> {
    await this.#keeper.retreat();
    if (goOn()) this.drains.all(true);
    const { shards, busy } = this.#host.custody;
    while ((shards.size > 0 || busy.size > 0) && goOn()) {
      await sleep(this.#host.options.clock, LOOK_MS);
      this.drains.pump();
    }
  }

  /** Wants its share again. */
  resume(): Promise<void> {
    this.drains.all(false);
    return this.#keeper.resume();
  }

  /** Whether reads and commands may be answered: others cannot have declared us dead yet. */
  get serving(): boolean {
    return this.#keeper.serving;
  }

  /** Whether somebody else is there who takes what is released here. */
  get hasSuccessors(): boolean {
    return this.#keeper.living().some((node) => node !== this.#host.options.node);
  }

  /** What one node does for all, the living one with the lowest name does. */
  get isFirst(): boolean {
    return this.serving && this.#keeper.living()[0] === this.#host.options.node;
  }

  living(): string[] {
    return this.#keeper.living();
  }

  ownership(): Ownership[] {
    return this.#keeper.rows.map(({ shard, owner, epoch }) => ({ shard, owner, epoch }));
  }

  /** Of all shards, as last read. */
  committedPositions(): readonly LogPosition[] {
    return this.#keeper.rows;
  }

  /** Whether another node has the shard, as last read. */
  isTaken(shard: number): boolean {
    const owner = this.#keeper.rows[shard]?.owner ?? null;
    return owner !== null && owner !== this.#host.options.node;
  }

  released(given: readonly { shard: number; epoch: number }[]): void {
    const { onMoved } = this.#host.options;
    if (onMoved)
      this.#host.tell(
        onMoved,
        given.map(({ shard, epoch }) => ({ shard, epoch, owner: null })),
      );
    // whether somebody has taken them decides when the next ones go
    this.#keeper.nudge();
  }

  owned(shard: number, epoch: number): void {
    const { node, onMoved } = this.#host.options;
    if (onMoved) this.#host.tell(onMoved, [{ shard, epoch, owner: node }]);
  }

  #settled(): void {
    this.#host.staleness.storeAnswered();
    this.drains.pump();
    const { onOwnership } = this.#host.options;
    if (onOwnership) this.#host.tell((rows) => onOwnership(rows, this.living()), this.ownership());
  }
}
