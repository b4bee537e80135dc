import type { PredictionEntry } from '../../actors/protocol/entry.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Predictor } from '../../actors/protocol/prediction.ts';
import { featureReader } from '../../actors/runtime/features.ts';
import { isDue } from '../../actors/runtime/foretelling.ts';
import type { Fork } from '../../actors/runtime/fork.ts';
import { H, type PredictionPlan } from '../../actors/runtime/layout.ts';

/** What became of asking one model. */
export interface AskedModel {
  /** `name@version` of who answered last. */
  model: string | null;
  asked: number;
  answered: number;
  /** Why it was not asked any more; null while it answers. */
  failed: string | null;
}

/**
 * Asks models about a fork when they are due, as a host does about a twin: the answer is based on the state it was asked for.
 * A model that fails once is not asked again: the fork goes on without, and says so.
 */
export class Questions {
  readonly #fork: Fork;
  readonly #predictor: Predictor;
  readonly #asked = new Map<PredictionPlan, AskedModel & { at: number }>();

  constructor(fork: Fork, predictor: Predictor) {
    this.#fork = fork;
    this.#predictor = predictor;
    for (const plan of fork.state.layout.predictions)
      this.#asked.set(plan, { model: null, asked: 0, answered: 0, failed: null, at: Number.NEGATIVE_INFINITY });
  }

  /** Entries to fold, in order of the kind's models. */
  async due(receivedAt: number): Promise<PredictionEntry[]> {
    const { state, revision, at } = this.#fork;
    const entries: PredictionEntry[] = [];
    for (const [plan, asked] of this.#asked) {
      // what was refused leaves no answer: it would be asked again with every reading
      if (asked.failed !== null || !isDue(state, plan) || at - asked.at < plan.use.everyMs) continue;
      const reader = featureReader(state.kind, plan.use.inputs);
      const inputs = new Float32Array(reader.width);
      reader.read(state, inputs, 0);
      asked.at = state.n[H.AT];
      asked.asked++;
      try {
        const { predictions } = await this.#predictor.predict({ model: plan.use.model, inputs, rows: 1, at: [at] });
        const [prediction] = predictions;
        if (prediction == null) continue;
        asked.answered++;
        asked.model = prediction.model;
        entries.push({
          type: 'prediction',
          revision: 0,
          receivedAt,
          name: plan.name,
          basedOn: revision,
          prediction: { ...prediction },
        });
      } catch (error) {
        asked.failed = messageOf(error);
      }
    }
    return entries;
  }

  told(): Record<string, AskedModel> {
    return Object.fromEntries([...this.#asked].map(([{ name }, { at: _, ...asked }]) => [name, asked]));
  }
}
