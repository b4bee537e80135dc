import type { PredictionEntry } from '../protocol/entry.ts';
import type { Emitted, MaintenanceBody, ModelAnomalyBody } from '../protocol/event.ts';
import { severityOf } from './detectors.ts';
import { type Read, readerOf } from './features.ts';
import { H, M, P, type PredictionPlan } from './layout.ts';
import { judge, rulesFor } from './rules.ts';
import { metricOffset, type TwinState } from './state.ts';

/**
 * Predictions in the turn: what follows from the answer of a model, and whether a twin is due to ask again.
 *
 * Owns what an answer means to its twin: anomaly, recommended action, rules. Does not own asking (asking.ts).
 *
 * Invariants:
 *  1  Pure, as the turn is: replay folds the stored answer and asks nobody.
 *  2  Nothing in an answer makes a fold throw: journals hold what versions of models said that are long gone. A member that
 *     is missing or not finite is taken as not said.
 *  3  Whether a twin is due is a pure function of its state; a condition of the kind (`ModelUse.when`) that throws makes it not due.
 *  4  The event time of an answer is never after the newest reading folded.
 */
export const ACTIONS: readonly MaintenanceBody['action'][] = ['none', 'inspect', 'schedule_maintenance', 'stop'];
const PRIORITIES: readonly MaintenanceBody['priority'][] = ['low', 'medium', 'high', 'critical'];

/** An action is taken back only when the remaining life is so far above the limit that brought it. */
const HYSTERESIS = 1.05;

/** A stored answer, as it is kept beside the numbers of the twin: replaced whole, never changed. */
export interface Foretold extends Readonly<Record<string, unknown>> {
  readonly basedOn: number;
}

export function foldPrediction(state: TwinState, entry: PredictionEntry, out: Emitted[]): void {
  const { n, layout, aside } = state;
  const { prediction } = entry;
  aside.predictions ??= {};
  const foretold: Foretold = { ...prediction, basedOn: entry.basedOn };
  aside.predictions[entry.name] = foretold;
  // the kind that folds may know nothing of it any more
  const plan = layout.predictions.find(({ name }) => name === entry.name);
  if (plan === undefined) return;
  const p = plan.offset;
  const at = Math.max(0, Math.min(finite(prediction.at) ?? n[H.AT], n[H.AT]));
  n[p + P.COUNT]++;
  n[p + P.AT] = at;
  n[p + P.RECEIVED] = n[H.RECEIVED];
  const score = finite(prediction.score);
  const threshold = finite(prediction.threshold);
  const ratio = score !== null && threshold !== null && threshold > 0 ? score / threshold : null;
  if (plan.use.anomaly !== undefined && ratio !== null) foldScore(state, plan, prediction, at, ratio, out);
  if (plan.use.maintenance !== undefined) foldLife(state, plan, prediction, at, out);
  const value = ratio ?? finite(prediction.value);
  if (value === null) return;
  n[p + P.VALUE] = value;
  const judged = rulesFor(state).byPrediction.get(entry.name);
  if (judged !== undefined) for (const rule of judged) judge(state, rule, value, at, entry.receivedAt, out);
}

/** Whether enough event time has passed since the state it was last answered for, and the kind lets it be asked about this one. */
export function isDue(state: TwinState, plan: PredictionPlan): boolean {
  const { n } = state;
  const p = plan.offset;
  return isDueSince(state, plan, n[p + P.COUNT] === 0 ? Number.NEGATIVE_INFINITY : n[p + P.AT]);
}

/** The same for whoever asks another version: since a state of this event time. -Infinity: it was never asked. */
export function isDueSince(state: TwinState, plan: PredictionPlan, at: number): boolean {
  const { n } = state;
  if (n[H.RETIRED] === 1 || n[H.ACCEPTED] < plan.minReadings) return false;
  if (n[H.AT] - at < plan.use.everyMs) return false;
  for (let i = 0; i < plan.needs.length; i++) {
    const m = metricOffset(state, plan.needs[i]);
    if (m < 0 || n[m + M.COUNT] === 0) return false;
  }
  return n[H.ACCEPTED] > 0 && (plan.use.when === undefined || mayBeAsked(state, plan));
}

/** How the condition of a use is read, by its plan. */
const conditions = new WeakMap<PredictionPlan, Read>();

/**
 * Whether the kind lets the model be asked about this state (`ModelUse.when`). Read last of all: between two periods nobody
 * pays for it. A condition that throws says no more than one that is NaN.
 */
export function mayBeAsked(state: TwinState, plan: PredictionPlan): boolean {
  if (plan.use.when === undefined) return true;
  let read = conditions.get(plan);
  if (read === undefined) {
    read = readerOf(state.kind, plan.use.when);
    conditions.set(plan, read);
  }
  try {
    return read(state) > 0;
  } catch {
    return false;
  }
}

function foldScore(
  state: TwinState,
  plan: PredictionPlan,
  prediction: Record<string, unknown>,
  at: number,
  ratio: number,
  out: Emitted[],
): void {
  if (!(ratio > 1)) return;
  const { n } = state;
  const p = plan.offset;
  if (n[p + P.ANOMALY_AT] > 0 && at - n[p + P.ANOMALY_AT] < plan.cooldownMs) return;
  n[p + P.ANOMALY_AT] = at;
  n[H.ANOMALIES]++;
  n[H.LAST_ANOMALY] = Math.max(n[H.LAST_ANOMALY], at);
  const contributions = sharesOf(prediction.contributions);
  const field = largest(contributions);
  const value = field === null ? null : reported(state, field);
  const model = modelOf(plan, prediction);
  const score = prediction.score as number;
  const threshold = prediction.threshold as number;
  const share = field === null ? '' : `; ${field} has ${Math.round(contributions[field] * 100)} % of it`;
  const body: ModelAnomalyBody = {
    prediction: plan.name,
    model,
    score,
    threshold,
    field: field ?? plan.name,
    value,
    contributions,
    detector: 'model',
    severity: severityOf(ratio),
    reason: `${model} gives a score of ${round(score)}, ${round(ratio)} times its threshold of ${round(threshold)}${share}.`,
    expected: expectedOf(state, field, value),
  };
  out.push({ type: 'anomaly.detected', at, body: { ...body } });
}

/** The ordinary range of the metric, where the value lies outside it; inside, no range of this one metric is to blame. */
function expectedOf(state: TwinState, field: string | null, value: number | null): [number, number] | null {
  const normal = field === null ? undefined : state.kind.metrics[field]?.normal;
  if (normal === undefined || value === null || (value >= normal[0] && value <= normal[1])) return null;
  return [normal[0], normal[1]];
}

function foldLife(
  state: TwinState,
  plan: PredictionPlan,
  prediction: Record<string, unknown>,
  at: number,
  out: Emitted[],
): void {
  const value = finite(prediction.value);
  if (value === null) return;
  const { inspectBelowH, scheduleBelowH, stopBelowH, hoursPerUnit = 1 } = plan.use.maintenance!;
  const limits = [inspectBelowH, scheduleBelowH, stopBelowH];
  const hours = value * hoursPerUnit;
  const { n } = state;
  const before = n[plan.offset + P.ACTION];
  let action = limits.filter((limit) => hours < limit).length;
  if (action < before) {
    // level by level: each is left only beyond its own limit
    let kept = before;
    while (kept > action && hours >= limits[kept - 1] * HYSTERESIS) kept--;
    action = kept;
  }
  if (action === before) return;
  n[plan.offset + P.ACTION] = action;
  const interval = pairOf(prediction.interval);
  const body: MaintenanceBody = {
    prediction: plan.name,
    model: modelOf(plan, prediction),
    value,
    unit: typeof prediction.unit === 'string' ? prediction.unit : 'h',
    hours,
    interval,
    hoursInterval: interval === null ? null : [interval[0] * hoursPerUnit, interval[1] * hoursPerUnit],
    action: ACTIONS[action],
    priority: PRIORITIES[action],
  };
  out.push({ type: 'maintenance.predicted', at, body: { ...body } });
}

function modelOf(plan: PredictionPlan, { model }: Record<string, unknown>): string {
  return typeof model === 'string' ? model : plan.use.model;
}

function reported(state: TwinState, metric: string): number | null {
  const m = metricOffset(state, metric);
  return m >= 0 && state.n[m + M.COUNT] > 0 ? state.n[m + M.LAST] : null;
}

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function pairOf(value: unknown): [number, number] | null {
  if (!Array.isArray(value) || value.length !== 2) return null;
  const lo = finite(value[0]);
  const hi = finite(value[1]);
  return lo === null || hi === null ? null : [lo, hi];
}

function sharesOf(value: unknown): Record<string, number> {
  const shares: Record<string, number> = {};
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return shares;
  for (const [name, share] of Object.entries(value)) if (finite(share) !== null) shares[name] = share;
  return shares;
}

/** Name of the largest share, the first in order of names where several are equal; null where there is none. */
function largest(shares: Record<string, number>): string | null {
  let found: string | null = null;
  for (const name of Object.keys(shares).sort()) if (found === null || shares[name] > shares[found]) found = name;
  return found;
}

function round(x: number): number {
  return Number(x.toPrecision(4));
}
