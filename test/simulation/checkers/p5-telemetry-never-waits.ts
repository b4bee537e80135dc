import type { Checker } from '../checker.ts';
import type { Cluster } from '../cluster.ts';

/** How long a reading may take from the log to its commit while nothing but a luxury is out of order, ms. */
const PATIENCE_MS = 3_000;

/** P5: while sinks or models are slow, silent or down and nothing else is wrong, telemetry goes on as ever. */
export class TelemetryNeverWaits implements Checker {
  readonly name = 'p5-telemetry-never-waits';
  readonly #cluster: Cluster;
  /** Since when nothing but the sink or the models have been out of order; null: something else is. */
  calmSince: number | null = null;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#look();
  }

  #look(): void {
    const { scheduler, log, store, trace } = this.#cluster;
    scheduler.after(250, () => this.#look());
    if (this.calmSince === null || scheduler.time - this.calmSince < PATIENCE_MS) return;
    for (const { shard, position } of store.ledger.shards()) {
      const [oldest] = log.after(shard, position, 1);
      if (!oldest) continue;
      const waitedMs = log.nowMs - oldest.appendedAt;
      if (waitedMs > PATIENCE_MS) {
        trace.fail(this.name, `shard ${shard}: a message waits for ${waitedMs} ms while only a luxury is out of order`);
      }
    }
  }
}
