import type { TwinEvent } from '../../actors/protocol/event.ts';
import type { Cluster, Node } from './cluster.ts';
import { SHARDS } from './cluster.ts';

/**
 * Who receives the events of all shards, behind the network: ignores what it has passed already, and keeps a table of
 * the standing alerts that moves only to a greater revision.
 */
export class SinkConsumer {
  readonly #cluster: Cluster;
  /** Newest seq of each shard. */
  readonly passed = new Array<number>(SHARDS).fill(0);
  /** Twin and rule → what was said of its alert last. */
  readonly alerts = new Map<string, { alertId: string; standing: boolean; revision: number }>();
  /** `down`: refuses everything; `slow`: takes that many ms. */
  down = false;
  slowMs = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  async deliver(node: Node, events: readonly TwinEvent[]): Promise<void> {
    const { network, checkers, scheduler } = this.#cluster;
    const copy = structuredClone(events) as TwinEvent[];
    for (const checker of checkers) checker.onDelivery?.(node, copy);
    if (this.slowMs > 0) {
      await new Promise<void>((resolve) => scheduler.after(this.slowMs, () => node.process.run(resolve)));
    }
    await network.request(node.process, 'sink', () => this.#take(copy), 1_500);
  }

  #take(events: readonly TwinEvent[]): void {
    if (this.down) throw new Error('the receiver is down');
    const { trace, history } = this.#cluster;
    for (const event of events) {
      const passed = this.passed[event.shard];
      if (event.seq <= passed) continue;
      if (event.seq !== passed + 1) {
        trace.fail('sinks', `shard ${event.shard}: event ${event.seq} came after ${passed}`);
        return;
      }
      const committed = history.events[event.shard][event.seq - 1];
      if (committed?.eventId !== event.eventId) {
        trace.fail(
          'sinks',
          `shard ${event.shard}: event ${event.seq} is ${event.eventId}, committed is ${committed?.eventId ?? 'none'}`,
        );
        return;
      }
      this.passed[event.shard] = event.seq;
      this.#project(event);
    }
  }

  #project(event: TwinEvent): void {
    if (!event.type.startsWith('alert.')) return;
    const { alertId, rule } = event.body as { alertId: string; rule: string };
    const name = `${event.twinId} ${rule}`;
    const before = this.alerts.get(name);
    if (before && before.revision > event.revision) return;
    const standing = event.type !== 'alert.cleared' && event.type !== 'alert.resolved';
    this.alerts.set(name, { alertId, standing, revision: event.revision });
  }
}
