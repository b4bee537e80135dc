import { TwinmeshError } from '../actors/protocol/errors.ts';
import type { Prediction, PredictRequest } from '../actors/protocol/prediction.ts';
import { answerOf, type Refusal, rowRefusal } from './answers.ts';
import type { Model } from './model.ts';
import { sharesByOcclusion } from './occlusion.ts';

/** Rows of a request through one loaded model. */
export interface Answered {
  predictions: (Prediction | null)[];
  /** Rows that have no prediction, by reason. */
  refused: Map<Refusal, number>;
}

export interface PredictOptions {
  /** Whether contributions that cost extra runs are computed. Default: yes. */
  explain?: boolean;
}

/** Throws bad_request where the inputs are not rows × width, bad_model where the graph fails. */
export async function predictWith(
  model: Model,
  { inputs, rows, at }: Pick<PredictRequest, 'inputs' | 'rows' | 'at'>,
  { explain = true }: PredictOptions = {},
): Promise<Answered> {
  const { card } = model;
  const width = card.inputs.length;
  if (!Number.isInteger(rows) || rows < 1 || inputs.length !== rows * width || at.length !== rows)
    throw new TwinmeshError(
      'bad_request',
      `${model.id} takes rows of ${width} inputs with a time each; got ${inputs.length} values and ${at.length} times for ${rows} rows.`,
    );
  return model.holding(async () => {
    const tensors = await model.run(inputs, rows);
    const how = card.output.explain;
    const shares =
      explain && how?.method === 'occlusion' ? await sharesByOcclusion(model, how, inputs, rows, tensors) : null;
    const refused = new Map<Refusal, number>();
    const predictions = at.map((time, i) => {
      const said = rowRefusal(card, inputs, i) ?? answerOf(model, tensors, i);
      if (typeof said === 'string') {
        refused.set(said, (refused.get(said) ?? 0) + 1);
        return null;
      }
      const prediction: Prediction = { ...said, at: time };
      const row = shares?.[i];
      if (row) prediction.contributions = row;
      return prediction;
    });
    return { predictions, refused };
  });
}
