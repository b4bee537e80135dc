import type { TwinEvent } from '../../../actors/protocol/event.ts';
import type { ShardRow } from '../../../actors/store/port.ts';
import type { Checker } from '../checker.ts';
import { type Cluster, type Node, SHARDS, TTL_MS } from '../cluster.ts';

/**
 * Sinks get every committed event, in order of seq, and only from a node that may speak for the shard. Order and
 * completeness are seen by the consumer; here: who speaks.
 *
 * A node may speak for as long as its own beat says that nobody can have taken its place: ttl after the last one.
 */
export class Sinks implements Checker {
  readonly name = 'sinks';
  readonly #cluster: Cluster;
  readonly #owners = new Array<string>(SHARDS).fill('');
  /** When each node's beat was last written. */
  readonly #beats = new Map<string, number>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onClaimed(row: ShardRow, node: string): void {
    this.#owners[row.shard] = node;
  }

  onBeat(node: string): void {
    this.#beats.set(node, this.#cluster.scheduler.time);
  }

  onDelivery(node: Node, events: readonly TwinEvent[]): void {
    const { shard, seq } = events[0];
    const owner = this.#owners[shard];
    const silentMs = this.#cluster.scheduler.time - (this.#beats.get(node.name) ?? 0);
    if (owner !== node.name && silentMs > TTL_MS) {
      this.#cluster.trace.fail(
        this.name,
        `${node.name} delivers event ${seq} of shard ${shard}, which ${owner} has; its beat is ${Math.round(silentMs)} ms old`,
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
