import type { PredictionEntry } from '../../../actors/protocol/entry.ts';
import type { Cut } from '../../../actors/store/port.ts';
import type { Checker } from '../checker.ts';
import type { Cluster } from '../cluster.ts';
import type { Seen, TwinHistory } from '../history.ts';
import { oddityOf, wearOf } from '../model.ts';

/**
 * What is journaled of a model is what it says of the state that the entry names: asked about once, in order, no more often
 * than the kind wants it.
 */
export class Predictions implements Checker {
  readonly name = 'predictions';
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onCommitted(cut: Cut, landed: ReadonlySet<number>): void {
    for (const { shard, twin, entry } of cut.entries) {
      const history = this.#cluster.history.byKey(twin);
      if (!landed.has(shard) || !history || entry.type !== 'prediction') continue;
      const wrong = this.#wrong(history, entry);
      if (wrong) this.#cluster.trace.fail(this.name, `${history.twinId} at ${entry.revision}: ${entry.name} ${wrong}`);
    }
  }

  #wrong(history: TwinHistory, { name, basedOn, revision, prediction }: PredictionEntry): string | null {
    if (basedOn >= revision) return `is based on ${basedOn}, which comes after it`;
    const then = history.seen[basedOn] as Seen | undefined;
    if (then === undefined) return `is based on ${basedOn}, which nobody has seen`;
    if (prediction.at !== then.at) return `is of ${prediction.at}, though ${basedOn} was of ${then.at}`;
    const should =
      name === 'oddity'
        ? oddityOf(then.temperature!, then.load!).score
        : wearOf(name === 'strain' ? then.load! : then.temperature!);
    const is = name === 'oddity' ? prediction.score : prediction.value;
    if (is !== should) return `says ${is} of revision ${basedOn}, of which the model says ${should}`;
    const before = history.journal.findLast(
      (e): e is PredictionEntry => e.type === 'prediction' && e.name === name && e.revision < revision,
    );
    if (before === undefined) return null;
    if (before.basedOn >= basedOn) return `is based on ${basedOn}, the one before it on ${before.basedOn}`;
    const everyMs = history.oracle.kind.models![name].everyMs;
    const passedMs = (prediction.at as number) - (before.prediction.at as number);
    return passedMs < everyMs ? `comes ${passedMs} ms after the one before it, not ${everyMs}` : null;
  }
}
