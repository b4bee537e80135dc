import type { PredictAnswer, Predictor, PredictRequest } from '../../actors/protocol/prediction.ts';
import { Model } from '../../models/model.ts';
import { predictWith } from '../../models/predictor.ts';

/** One version of one model, loaded for a replay: not the one that is live, and nobody else's. */
export interface OtherModel extends Predictor {
  /** Inputs by name, in order. */
  readonly inputs: readonly string[];
  close(): Promise<void>;
}

/** Throws bad_model. */
export async function modelPredictor(
  path: string,
  { model: name, version }: { model: string; version: string },
): Promise<OtherModel> {
  const model = await Model.load(path, { name, version });
  return {
    inputs: model.card.inputs.map((input) => input.name),
    predict: (request: PredictRequest): Promise<PredictAnswer> => predictWith(model, request, { explain: false }),
    close: () => model.retire(),
  };
}
