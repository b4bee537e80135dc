import type { Cut, ShardRow } from '../../../actors/store/port.ts';
import type { Checker } from '../checker.ts';
import { type Cluster, SHARDS } from '../cluster.ts';

/**
 * P1: for any shard at most one node can commit at a time. Counted here, not read from the fence: who claimed last under
 * which epoch, and how many commits have landed.
 */
export class OneWriter implements Checker {
  readonly name = 'p1-one-writer';
  readonly #cluster: Cluster;
  readonly #shards = Array.from({ length: SHARDS }, () => ({
    writer: '',
    epoch: 0,
    commits: 0,
    position: 0,
    /** Whether the position has moved under the epoch of now. */
    moved: false,
  }));

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onClaimed(row: ShardRow, node: string): void {
    const shard = this.#shards[row.shard];
    if (row.epoch !== shard.epoch + 1) this.#fail(row.shard, `epoch ${row.epoch} was claimed after ${shard.epoch}`);
    shard.writer = node;
    shard.epoch = row.epoch;
    shard.moved = false;
  }

  onCommitted(cut: Cut, landed: ReadonlySet<number>): void {
    for (const part of cut.shards) {
      if (!landed.has(part.shard)) continue;
      const shard = this.#shards[part.shard];
      if (cut.node !== shard.writer || part.epoch !== shard.epoch) {
        this.#fail(
          part.shard,
          `${cut.node} committed under epoch ${part.epoch}; ${shard.writer} has it under ${shard.epoch}`,
        );
      }
      if (part.commitNo !== shard.commits) {
        this.#fail(part.shard, `a commit made on top of ${part.commitNo} landed after ${shard.commits}`);
      }
      shard.commits++;
      // only a log that went back lets a position go back, and only for the next who claims
      if (part.position < shard.position && (shard.moved || this.#cluster.log.generation === 0)) {
        this.#fail(part.shard, `the position went from ${shard.position} to ${part.position}`);
      }
      if (part.position !== shard.position) shard.moved = true;
      shard.position = part.position;
    }
  }

  #fail(shard: number, message: string): void {
    this.#cluster.trace.fail(this.name, `shard ${shard}: ${message}`);
  }
}
