import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { ModelCard } from '../card.ts';
import { Model } from '../model.ts';
import type { Evaluation, EvaluationContext, EvaluationScore } from './evaluation.ts';
import { TRAINING_FOLDER } from './training.ts';

/** What judging one version takes beside its files. `heldOutIn`: the folder whose held-out.json says on which rows. */
export interface Judging extends Pick<EvaluationContext, 'dataDir' | 'rows' | 'skip'> {
  heldOutIn: string;
}

/** Scores of the version in a folder, from its ONNX file. Throws not_found where its model has no evaluation, bad_model. */
export async function judgeFolder(
  folder: string,
  { heldOutIn, ...context }: Judging,
): Promise<{ id: string; card: ModelCard; scores: EvaluationScore[] }> {
  const model = await Model.load(folder);
  try {
    const { id, card } = model;
    const path = join(TRAINING_FOLDER, 'evaluations', `${card.name}.ts`);
    if (!existsSync(path))
      throw new TwinmeshError('not_found', `models/training/evaluations/${card.name}.ts is missing.`);
    const { default: evaluation } = (await import(path)) as { default: Evaluation };
    const heldOutPath = join(heldOutIn, 'held-out.json');
    const heldOut = existsSync(heldOutPath) ? JSON.parse(readFileSync(heldOutPath, 'utf8')) : {};
    const scores = await evaluation.evaluate({
      ...context,
      card,
      heldOut,
      run: async (inputs, rows) => {
        const tensors = await model.run(inputs, rows);
        return Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, data]));
      },
    });
    return { id, card, scores };
  } finally {
    await model.retire();
  }
}
