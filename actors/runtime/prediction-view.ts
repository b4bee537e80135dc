import type { Prediction } from '../protocol/prediction.ts';
import type { PredictionStale, PredictionView } from '../protocol/view.ts';
import { mayBeAsked } from './foretelling.ts';
import { H, P, type PredictionPlan } from './layout.ts';
import type { TwinState } from './state.ts';

/** The predictions of a twin as an operator sees them. */

/** Since when a model does not answer, ms of wall time; null while it does. */
export type FailingModels = (model: string) => number | null;

/** Since when a model that does answer has none for this twin, ms of wall time, by index of the prediction. */
export type RefusedPredictions = ReadonlyMap<number, number>;

export const INFERENCE_REMEDY =
  'Telemetry goes on without; see GET /api/v1/models for what is live and what is wrong. Due twins are asked when it is back.';

/** A copy, sharing nothing with the state. In order of the kind's models; those that the kind does not name are left out. */
export function predictionsOf(
  state: TwinState,
  failing: FailingModels | null,
  refused: RefusedPredictions | null,
): Record<string, PredictionView> {
  const views: Record<string, PredictionView> = {};
  const { predictions } = state.aside;
  if (predictions === undefined) return views;
  for (const plan of state.layout.predictions) {
    const kept = predictions[plan.name];
    if (kept !== undefined) views[plan.name] = viewOfOne(state, plan, structuredClone(kept), failing, refused);
  }
  return views;
}

function viewOfOne(
  state: TwinState,
  plan: PredictionPlan,
  kept: Record<string, unknown>,
  failing: FailingModels | null,
  refused: RefusedPredictions | null,
): PredictionView {
  const { at: _, model: id, basedOn, ...said } = kept as unknown as Prediction & { basedOn: number };
  const name = typeof id === 'string' ? id : plan.use.model;
  const split = name.lastIndexOf('@');
  const atMs = state.n[plan.offset + P.AT];
  return {
    model: split < 0 ? name : name.slice(0, split),
    version: split < 0 ? '' : name.slice(split + 1),
    at: new Date(atMs).toISOString(),
    basedOn,
    ...said,
    stale: staleOf(state, plan, atMs, failing, refused),
  };
}

function staleOf(
  state: TwinState,
  plan: PredictionPlan,
  at: number,
  failing: FailingModels | null,
  refused: RefusedPredictions | null,
): PredictionStale | null {
  const failingSince = failing?.(plan.use.model) ?? null;
  if (failingSince !== null)
    return { reason: 'inference down', since: new Date(failingSince).toISOString(), remedy: INFERENCE_REMEDY };
  const refusedSince = refused?.get(plan.index);
  if (refusedSince !== undefined)
    return {
      reason: 'refused',
      since: new Date(refusedSince).toISOString(),
      remedy:
        'The model has no answer that stands for what the twin tells now: an input that it needs is missing, or what it said is no number or out of the range of its card (GET /api/v1/models/{name}). It is asked again later.',
    };
  // where its kind does not let it be asked, the answer before is the newest there can be: `at` says of when
  if (state.n[H.AT] - at <= plan.staleAfterMs || !mayBeAsked(state, plan)) return null;
  return {
    reason: 'overdue',
    since: new Date(at + plan.staleAfterMs).toISOString(),
    remedy:
      'The model is asked less often than its kind says: see the counters of the host, and INFERENCE_MAX_PER_SECOND.',
  };
}
