import { featureNames } from '../actors/protocol/feature.ts';
import type { KindDefinition } from '../actors/protocol/kind.ts';
import type { ModelCard } from './card.ts';

/**
 * Why the kinds that ask a model cannot ask this version, or null: a kind sends numbers in the order of its own inputs, and a
 * card that means others by them, or the same in another order, would answer about something else without anybody noticing.
 */
export function misfitOf(card: ModelCard, kinds: readonly KindDefinition[]): string | null {
  for (const kind of kinds) {
    for (const { model, inputs } of Object.values(kind.models ?? {})) {
      if (model !== card.name) continue;
      if (card.kind !== kind.kind) return `The card is of the kind ${card.kind}; ${kind.kind} asks this model.`;
      const asked = featureNames(kind, inputs);
      const told = card.inputs.map(({ name }) => name);
      if (told.length !== asked.length)
        return `The card lists ${told.length} inputs, ${kind.kind} sends ${asked.length}.`;
      const i = asked.findIndex((name, k) => name !== told[k]);
      if (i >= 0) return `Input ${i} is ${told[i]} in the card; ${kind.kind} sends ${asked[i]} there.`;
    }
  }
  return null;
}
