import type { TwinView } from '../../../actors/protocol/view.ts';
import type { Checker } from '../checker.ts';
import type { Cluster } from '../cluster.ts';
import { oracleAt } from '../history.ts';
import { difference } from '../oracle.ts';

/** At rest every twin is, member by member, what the oracle says of its journal. */
export class Rolling implements Checker {
  readonly name = 'rolling';
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  atRest(views: ReadonlyMap<string, TwinView>): void {
    const { history, trace, kinds } = this.#cluster;
    for (const [twinId, view] of views) {
      const oracle = oracleAt(history.twins.get(twinId)!, view.revision, kinds);
      const wrong = oracle && difference(view, oracle.expected());
      if (wrong) trace.fail(this.name, `${twinId} at ${view.revision}: ${wrong}`);
    }
    for (const twinId of history.twins.keys()) if (!views.has(twinId)) trace.fail(this.name, `${twinId} is not shown`);
  }
}
