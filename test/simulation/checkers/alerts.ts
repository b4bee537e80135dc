import type { Checker } from '../checker.ts';
import type { Cluster } from '../cluster.ts';

/** Alerts as the receiver of the events knows them, against the oracle: none missing, none brought back. */
export class Alerts implements Checker {
  readonly name = 'alerts';
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  atRest(): void {
    const { history, sink, store, trace } = this.#cluster;
    for (const { twinId, oracle, refolded } of history.twins.values()) {
      // a tail that was folded anew by another version emits nothing: what was said before still stands
      if (refolded) continue;
      const standing = new Map(oracle.expected().alerts.map(({ rule, alertId }) => [rule, alertId]));
      for (const { name } of oracle.kind.rules) {
        const known = sink.alerts.get(`${twinId} ${name}`);
        const is = known?.standing ? known.alertId : null;
        const should = standing.get(name) ?? null;
        if (is !== should) trace.fail(this.name, `${twinId} ${name}: the receiver knows ${is}, standing is ${should}`);
      }
      const rows = [...store.ledger.alerts.values()].filter((row) => row.twinId === twinId);
      const open = rows.filter((row) => row.state === 'raised' || row.state === 'acknowledged');
      if (open.length !== standing.size) {
        trace.fail(this.name, `${twinId}: ${open.length} alerts are open in the database, ${standing.size} stand`);
      }
    }
  }
}
