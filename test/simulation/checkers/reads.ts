import type { Checker, Read } from '../checker.ts';
import type { Cluster } from '../cluster.ts';
import { oracleAt, type TwinHistory } from '../history.ts';
import { difference } from '../oracle.ts';

/**
 * A read shows a committed state, whole; not an older one than had committed when it was asked for; and so never an
 * older one than the same client saw before.
 */
export class Reads implements Checker {
  readonly name = 'reads';
  readonly #cluster: Cluster;
  readonly #seen = new Map<string, number>();
  #answered = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onRead({ client, twinId, view, askedAt, node }: Read): void {
    const history = this.#cluster.history.twins.get(twinId);
    const revision = view?.revision ?? 0;
    const committed = history?.journal.length ?? 0;
    if (revision > committed) {
      this.#fail(`${node.name} shows ${twinId} at ${revision}; committed is ${committed}`);
      return;
    }
    if (view && revision === 0) {
      this.#fail(`${node.name} shows ${twinId}, of which nothing has been stored`);
      return;
    }
    const before = history ? revisionAt(history, askedAt) : 0;
    if (revision < before) {
      this.#fail(`${node.name} shows ${twinId} at ${revision}; ${before} had committed when it was asked for`);
      return;
    }
    const name = `${client} ${twinId}`;
    const seen = this.#seen.get(name) ?? 0;
    if (client >= 0 && revision < seen) this.#fail(`client ${client} sees ${twinId} at ${revision} after ${seen}`);
    this.#seen.set(name, revision);
    if (!view || !history) return;
    const current = revision === committed;
    // to fold a journal anew for each read that has been overtaken would take most of the run
    if (!current && ++this.#answered % 4 !== 0) return;
    const oracle = oracleAt(history, revision, node.kinds);
    const wrong = oracle && difference(view, oracle.expected());
    if (wrong) this.#fail(`${node.name} shows ${twinId} at ${revision}: ${wrong}`);
  }

  #fail(message: string): void {
    this.#cluster.trace.fail(this.name, message);
  }
}

function revisionAt({ committedAt }: TwinHistory, time: number): number {
  let revision = committedAt.length - 1;
  while (revision > 0 && committedAt[revision] > time) revision--;
  return revision;
}
