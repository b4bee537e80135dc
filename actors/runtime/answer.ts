import type { Prediction } from '../protocol/prediction.ts';
import type { Activation } from './activation.ts';
import { type FoldingContext, foldEntry, Poisoned } from './folding.ts';
import type { InferenceCounters } from './host-api.ts';
import { H, type PredictionPlan } from './layout.ts';
import type { Part } from './part.ts';
import type { HostedShard } from './shard.ts';

/** What a model said of a twin, on its way into the journal. */
export interface Answer {
  readonly activation: Activation;
  readonly plan: PredictionPlan;
  /** Revision of the twin that was asked about. */
  readonly basedOn: number;
  /** When the newest reading of that state was received. */
  readonly heardAt: number;
  readonly prediction: Prediction;
}

/** Whom the outcome of folding concerns. */
export interface AskedBy {
  readonly counters: InferenceCounters;
  condemn(twinId: string, prediction: string): void;
}

/**
 * Folds what has been answered since the part before. An answer for memory that is gone is no answer. In a shard that folds a
 * reading at a time answers wait until no reading does: they would be in the way of finding out which of them is to blame.
 */
export function foldAnswers(shard: HostedShard, part: Part, context: FoldingContext, asking: AskedBy): void {
  if (shard.answers.length === 0) return;
  if (shard.mode === 'single' && (shard.current !== null || shard.inbox.length > 0 || part.judged > 0)) return;
  const { counters } = asking;
  const receivedAt = context.clock.now();
  const { answers } = shard;
  shard.answers = [];
  for (const { activation, plan, basedOn, heardAt, prediction } of answers) {
    const { state } = activation;
    activation.asking &= ~(1 << plan.index);
    if (shard.twins.get(activation.twinId) !== activation || state.n[H.RETIRED] === 1) {
      counters.dropped++;
      continue;
    }
    try {
      if (context.tunings.differs(state)) {
        const tuning = context.tunings.of(state.kind.kind);
        foldEntry(shard, part, activation, { type: 'tuning', revision: 0, receivedAt, tuning }, context);
      }
      const said = { name: plan.name, basedOn, prediction: { ...prediction } };
      const before = part.events.length;
      foldEntry(shard, part, activation, { type: 'prediction', revision: 0, receivedAt, ...said }, context);
      for (let i = before; i < part.events.length; i++) part.heardAt.set(part.events[i], heardAt);
    } catch (error) {
      asking.condemn(activation.twinId, plan.name);
      throw new Poisoned(null, activation.twinId, error);
    }
    counters.answered++;
  }
}

const MODEL = /^[a-z][a-z0-9-]{0,62}@[0-9A-Za-z.+-]{1,64}$/;
const NAME = /^[A-Za-z][A-Za-z0-9_.-]{0,62}$/;
/** No control characters, no half of a pair: a database would refuse the whole cut. */
const TEXT = /^\P{C}{1,64}$/u;
const MAX_MEMBERS = 256;
/** Shares and probabilities sum to 1, rounded as they may be. */
const OFF_SUM = 0.02;

/**
 * An answer as it may be journaled: known members only, in one order; `at` is what was asked about, whatever it says. Null
 * where it is no answer of this model, or anything in it is not finite or not of its type.
 */
export function readPrediction(raw: unknown, model: string, at: number, plan: PredictionPlan): Prediction | null {
  if (raw === null || typeof raw !== 'object' || Array.isArray(raw)) return null;
  const said = raw as Record<string, unknown>;
  if (typeof said.model !== 'string' || !MODEL.test(said.model) || !said.model.startsWith(`${model}@`)) return null;
  const prediction: Prediction = { model: said.model, at };
  for (const name of ['value', 'score', 'threshold', 'horizonMs'] as const) {
    const value = said[name];
    if (value === undefined) continue;
    if (typeof value !== 'number' || !Number.isFinite(value)) return null;
    prediction[name] = value;
  }
  for (const name of ['unit', 'class'] as const) {
    const text = said[name];
    if (text === undefined) continue;
    if (typeof text !== 'string' || !TEXT.test(text)) return null;
    prediction[name] = text;
  }
  for (const name of ['contributions', 'probabilities', 'forecast', 'forecastLo', 'forecastHi'] as const) {
    if (said[name] === undefined) continue;
    const numbers = numbersOf(said[name], !name.startsWith('forecast'));
    if (numbers === null) return null;
    prediction[name] = numbers;
  }
  if (said.interval !== undefined) {
    const interval = intervalOf(said.interval);
    if (interval === null) return null;
    prediction.interval = interval;
  }
  if (prediction.score !== undefined && !(prediction.threshold !== undefined && prediction.threshold > 0)) return null;
  const { value, score, forecast } = prediction;
  if (plan.use.anomaly !== undefined && score === undefined) return null;
  if (plan.use.maintenance !== undefined && value === undefined) return null;
  const says = value ?? score ?? forecast ?? prediction.class;
  return says === undefined ? null : prediction;
}

function intervalOf(value: unknown): [number, number] | null {
  if (!Array.isArray(value) || value.length !== 2) return null;
  const [lo, hi] = value;
  if (!Number.isFinite(lo) || !Number.isFinite(hi) || lo > hi) return null;
  return [lo, hi];
}

/** Numbers by name; `shares`: none negative, sum 1. */
function numbersOf(value: unknown, shares: boolean): Record<string, number> | null {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return null;
  const entries = Object.entries(value);
  if (entries.length === 0 || entries.length > MAX_MEMBERS) return null;
  const numbers: Record<string, number> = {};
  let sum = 0;
  for (const [name, number] of entries) {
    if (!NAME.test(name) || typeof number !== 'number' || !Number.isFinite(number)) return null;
    if (shares && number < 0) return null;
    numbers[name] = number;
    sum += number;
  }
  return shares && Math.abs(sum - 1) > OFF_SUM ? null : numbers;
}
