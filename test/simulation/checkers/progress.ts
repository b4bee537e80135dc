import type { Checker } from '../checker.ts';
import { type Cluster, SHARDS } from '../cluster.ts';

/** Every shard makes progress within a bound after the faults stop. The run asks what still keeps it from rest. */
export class Progress implements Checker {
  readonly name = 'progress';
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** What is still to be done, in words; null at rest. */
  unfinished(): string | null {
    const { store, log, sink, history, nodes, workload, embedded } = this.#cluster;
    if (!workload.idle) return `${workload.outstanding} operations of clients are under way`;
    const rows = store.ledger.shards();
    for (const { name, process, host } of nodes.values()) {
      if (process.paused) return `${name} stands still`;
      for (const { shard, epoch } of host.custody.shards.values()) {
        if (rows[shard].owner !== name || rows[shard].epoch !== epoch) return `${name} still holds shard ${shard}`;
      }
    }
    for (const row of rows) {
      const { shard, owner, position } = row;
      const node = owner === null ? undefined : nodes.get(owner);
      if (node?.host.custody.shards.get(shard)?.epoch !== row.epoch)
        return `shard ${shard} is not served; the owner is ${owner}`;
      if (node.host.custody.shards.get(shard)!.inFlight) return `shard ${shard} is committing`;
      if (!embedded && log.isBehind(shard, position, row.positionId)) return `shard ${shard} has messages to fold`;
      if (sink.passed[shard] < history.events[shard].length) {
        return `shard ${shard} has events to deliver: ${sink.passed[shard]} of ${history.events[shard].length}`;
      }
    }
    return this.#overdue() ?? this.#unanswered();
  }

  /** Wake-ups that nobody has seen to. Wall clocks are right again when this is asked. */
  #overdue(): string | null {
    const now = this.#cluster.clients.clock.now();
    for (const { twinId, oracle } of this.#cluster.history.twins.values()) {
      if (oracle.wakeAt !== null && oracle.wakeAt <= now)
        return `${twinId} waits for a tick since ${oracle.wakeAt - now} ms`;
    }
    return null;
  }

  /** Twins in memory that models are to be asked about: the models answer again when this is asked. */
  #unanswered(): string | null {
    if (this.#cluster.models === null) return null;
    for (const { name, host } of this.#cluster.nodes.values()) {
      for (const shard of host.custody.shards.values()) {
        for (const { twinId } of shard.twins.values()) {
          const oracle = this.#cluster.history.twins.get(twinId)?.oracle;
          const due = oracle?.kind.predictionNames.find((prediction) => oracle.isDue(prediction));
          if (due !== undefined) return `${twinId} in ${name} is due for ${due}`;
        }
      }
    }
    return null;
  }

  /** Says what stands still. */
  fail(afterMs: number, what: string): void {
    this.#cluster.trace.fail(this.name, `${afterMs} ms after the faults stopped: ${what}`);
  }

  atRest(): void {
    const owned = new Set<number>();
    for (const { host } of this.#cluster.nodes.values())
      for (const shard of host.custody.shards.keys()) owned.add(shard);
    if (owned.size < SHARDS) this.#cluster.trace.fail(this.name, `only ${owned.size} shards are served`);
  }
}
