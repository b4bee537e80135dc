import type { Checker, Commanded } from '../checker.ts';
import type { Cluster } from '../cluster.ts';

/** A command takes effect once for its idempotency key, and is answered only after its commit. */
export class Commands implements Checker {
  readonly name = 'commands';
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onCommand({ twinId, key, result, refused }: Commanded): void {
    const history = this.#cluster.history.twins.get(twinId);
    const revisions = history?.commands.get(key) ?? [];
    if (result) {
      if (!revisions.includes(result.revision)) {
        this.#fail(
          `${twinId}: ${key} was answered with revision ${result.revision}; committed is ${revisions.join(' ')}`,
        );
      }
      if (result.view.revision > (history?.journal.length ?? 0)) {
        this.#fail(`${twinId}: the answer to ${key} shows revision ${result.view.revision}, which has not committed`);
      }
    } else if (refused && revisions.length > 0) {
      this.#fail(`${twinId}: ${key} was refused, and folded at revision ${revisions.join(' ')}`);
    }
  }

  atRest(): void {
    for (const { twinId, commands } of this.#cluster.history.twins.values()) {
      for (const [key, revisions] of commands) {
        if (revisions.length > 1) this.#fail(`${twinId}: ${key} took effect at revisions ${revisions.join(' and ')}`);
      }
    }
  }

  #fail(message: string): void {
    this.#cluster.trace.fail(this.name, message);
  }
}
