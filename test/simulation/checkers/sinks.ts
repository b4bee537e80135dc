import type { TwinEvent } from '../../../actors/protocol/event.ts';
import type { ShardRow } from '../../../actors/store/port.ts';
import type { Checker } from '../checker.ts';
import { type Cluster, type Node, SHARDS, TTL_MS } from '../cluster.ts';

/**
 * Sinks get every committed event, in order of seq, and only from a node that may speak for the shard. Order and
 * completeness are seen by the consumer; here: who speaks.
 *
 * A node may speak late for as long as it cannot know: at most ttl after another one has claimed the shard.
 */
export class Sinks implements Checker {
  readonly name = 'sinks';
  readonly #cluster: Cluster;
  readonly #claimed = Array.from({ length: SHARDS }, () => ({ node: '', epoch: 0, at: 0 }));

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onClaimed(row: ShardRow, node: string): void {
    this.#claimed[row.shard] = { node, epoch: row.epoch, at: this.#cluster.scheduler.time };
  }

  onDelivery(node: Node, events: readonly TwinEvent[]): void {
    const { shard, seq } = events[0];
    const { node: owner, at } = this.#claimed[shard];
    const lateMs = this.#cluster.scheduler.time - at;
    if (owner !== node.name && lateMs > TTL_MS) {
      this.#cluster.trace.fail(
        this.name,
        `${node.name} delivers event ${seq} of shard ${shard}, which ${owner} claimed ${Math.round(lateMs)} ms ago`,
      );
    }
  }

  atRest(): void {
    const { history, sink, trace } = this.#cluster;
    for (let shard = 0; shard < SHARDS; shard++) {
      if (sink.passed[shard] !== history.events[shard].length) {
        trace.fail(this.name, `shard ${shard}: ${sink.passed[shard]} of ${history.events[shard].length} events came`);
      }
    }
  }
}
