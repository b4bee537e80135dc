import type { Outcome } from '../../../actors/protocol/reading.ts';
import type { Checker } from '../checker.ts';
import type { Cluster } from '../cluster.ts';
import type { Sent } from '../workload.ts';

/**
 * P2: what was acknowledged is stored: folded, kept as backfill, or known already under its identity. Excused are only
 * readings that vanished with the log before their commit, readings of retired twins, and those that cannot be folded or
 * stored, which have to lie in the dead letters.
 */
export class NothingLost implements Checker {
  readonly name = 'p2-nothing-lost';
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Where the acknowledgement waits for the commit, it has to be there already. */
  onAcknowledged(sent: Sent, outcome: Outcome | null): void {
    if (outcome !== 'accepted' && outcome !== 'backfill' && outcome !== 'duplicate') return;
    if (!this.#isStored(sent)) this.#fail(sent, `was acknowledged as ${outcome} but is not stored`);
  }

  atRest(): void {
    const { workload, history, store } = this.#cluster;
    const buried = new Set(
      store.ledger.deadLetters.map(({ twinId, payload }) => `${twinId} ${JSON.parse(payload).at}`),
    );
    for (const sent of workload.sent.values()) {
      if (!sent.acknowledged || this.#isStored(sent)) continue;
      const retired = history.twins
        .get(sent.twinId)
        ?.journal.some((entry) => entry.type === 'command' && entry.command.name === 'retire');
      if (sent.vanished || retired) continue;
      if (!sent.bad) this.#fail(sent, 'was acknowledged but is not stored');
      else if (!buried.has(`${sent.twinId} ${new Date(sent.at).toISOString()}`)) {
        this.#fail(sent, 'cannot be folded and is not in the dead letters');
      }
    }
  }

  #isStored(sent: Sent): boolean {
    return this.#cluster.history.twins.get(sent.twinId)?.identities.has(sent.identity) ?? false;
  }

  #fail(sent: Sent, message: string): void {
    this.#cluster.trace.fail(this.name, `${sent.twinId}: the reading ${sent.identity} ${message}`);
  }
}
