import type { Cut } from '../../../actors/store/port.ts';
import type { Checker } from '../checker.ts';
import type { Cluster } from '../cluster.ts';
import { identityText } from '../history.ts';
import { valuesText } from '../workload.ts';

/**
 * P3: nothing counts twice. That no revision and no identity is stored twice is seen by the history as it takes a cut;
 * here: that each stored reading is one that was sent, with values that were sent, and that state and position moved together.
 */
export class NothingTwice implements Checker {
  readonly name = 'p3-nothing-twice';
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onCommitted(cut: Cut, landed: ReadonlySet<number>): void {
    const { history, workload } = this.#cluster;
    for (const row of cut.readings) {
      if (!landed.has(row.shard)) continue;
      const twinId = history.byKey(row.twin)?.twinId;
      const identity = identityText(row.at, row);
      const sent = workload.sent.get(`${twinId} ${identity}`);
      if (!sent) this.#fail(`${twinId}: ${identity} was stored but never sent`);
      else if (!sent.variants.includes(valuesText(row.values))) {
        this.#fail(`${twinId}: ${identity} was stored with ${valuesText(row.values)}, which nobody sent`);
      }
    }
  }

  /** What people see is what is stored. */
  atRest(): void {
    for (const { twinId, journal, oracle } of this.#cluster.history.twins.values()) {
      const readings = journal.filter((entry) => entry.type === 'reading').length;
      if (readings !== oracle.accepted) this.#fail(`${twinId} counts ${oracle.accepted} of ${readings} readings`);
    }
  }

  #fail(message: string): void {
    this.#cluster.trace.fail(this.name, message);
  }
}
