import type { Prediction } from '../actors/protocol/prediction.ts';
import type { ModelCard } from './card.ts';
import type { Model } from './model.ts';
import type { Tensors } from './onnx.ts';

/**
 * From numbers to predictions: pure. An answer that is not finite, outside the range the card states, or no distribution where
 * it has to be one, is none: null, and the reason is counted.
 */
export const REFUSALS = ['missing_input', 'not_finite', 'out_of_range', 'contributions', 'no_class'] as const;
export type Refusal = (typeof REFUSALS)[number];

/** A distribution may be off by so much: it has been rounded to float32, or exported from one that was. */
const OFF = 0.01;

/** So far outside its range, as a share of the range's larger end, a float32 may lie that meant the end: exp(log(500)) is 500.00006. */
const ROUNDING = 1e-6;

/** What row `i` says, or why it says nothing. `at` of the answer is left to the caller. */
export function answerOf(model: Model, tensors: Tensors, i: number): Omit<Prediction, 'at'> | Refusal {
  const { card } = model;
  switch (card.type) {
    case 'regression':
    case 'probability':
      return numberOf(model, tensors, i);
    case 'anomaly':
      return scoreOf(model, tensors, i);
    case 'classification':
    case 'cluster':
      return classOf(model, tensors, i);
    case 'forecast':
      return forecastOf(model, tensors, i);
  }
}

/** Why a row of inputs cannot be asked about, or null. */
export function rowRefusal(card: ModelCard, inputs: Float32Array, i: number): Refusal | null {
  const width = card.inputs.length;
  for (let k = 0; k < width; k++) {
    const x = inputs[i * width + k];
    if (Number.isFinite(x)) continue;
    if (!Number.isNaN(x)) return 'not_finite';
    if (card.inputs[k].missing === 'required') return 'missing_input';
  }
  return null;
}

/** `x` within the range that the card states; null where it lies outside by more than rounding. */
function inRange(card: ModelCard, x: number): number | null {
  const range = card.output.range ?? (card.type === 'probability' ? [0, 1] : null);
  if (range === null) return x;
  const [lo, hi] = range;
  const slack = ROUNDING * Math.max(Math.abs(lo), Math.abs(hi));
  return x >= lo - slack && x <= hi + slack ? Math.min(hi, Math.max(lo, x)) : null;
}

function numberOf({ card, id }: Model, { value, lo, hi, contributions }: Tensors, i: number) {
  if (!Number.isFinite(value.data[i])) return 'not_finite';
  const x = inRange(card, value.data[i]);
  if (x === null) return 'out_of_range';
  const said: Omit<Prediction, 'at'> = { model: id, value: x };
  if (card.output.unit !== undefined) said.unit = card.output.unit;
  if (lo !== undefined && hi !== undefined) {
    const [from, to] = [lo.data[i], hi.data[i]];
    if (!Number.isFinite(from) || !Number.isFinite(to)) return 'not_finite';
    const [a, b] = [inRange(card, from) ?? from, inRange(card, to) ?? to];
    // The ends are models of their own, which may cross the value: it lies in its interval nevertheless.
    said.interval = [Math.min(a, b, x), Math.max(a, b, x)];
  }
  return contributions === undefined ? said : withShares(card, said, contributions, i);
}

function scoreOf({ card, id }: Model, { score, contributions }: Tensors, i: number) {
  if (!Number.isFinite(score.data[i])) return 'not_finite';
  const x = inRange(card, score.data[i]);
  if (x === null) return 'out_of_range';
  const said: Omit<Prediction, 'at'> = { model: id, score: x, threshold: card.output.threshold };
  return contributions === undefined ? said : withShares(card, said, contributions, i);
}

function withShares(card: ModelCard, said: Omit<Prediction, 'at'>, { data, width }: Tensors[string], i: number) {
  const shares = distribution(card.output.groups ?? [], data.subarray(i * width, (i + 1) * width));
  if (shares === null) return 'contributions';
  said.contributions = shares;
  return said;
}

function classOf({ card, id }: Model, tensors: Tensors, i: number) {
  const classes = card.output.classes ?? [];
  if (tensors.probabilities === undefined) {
    const index = tensors.class.data[i];
    if (!Number.isFinite(index)) return 'not_finite';
    if (!Number.isInteger(index) || index < 0 || index >= classes.length) return 'no_class';
    return { model: id, class: classes[index] };
  }
  const { data, width } = tensors.probabilities;
  const row = data.subarray(i * width, (i + 1) * width);
  if (!row.every((p) => Number.isFinite(p))) return 'not_finite';
  const probabilities = distribution(classes, row);
  if (probabilities === null) return 'out_of_range';
  const best = row.indexOf(Math.max(...row));
  return { model: id, class: classes[best], probabilities };
}

function forecastOf({ card, id }: Model, tensors: Tensors, i: number) {
  const { data, width } = tensors.forecast;
  const { lo, hi } = tensors;
  const said = { model: id, horizonMs: card.output.horizonMs, forecast: {} as Record<string, number> };
  const span = { forecastLo: {} as Record<string, number>, forecastHi: {} as Record<string, number> };
  for (let k = 0; k < width; k++) {
    const name = (card.output.metrics as string[])[k];
    if (!Number.isFinite(data[i * width + k])) return 'not_finite';
    const x = inRange(card, data[i * width + k]);
    if (x === null) return 'out_of_range';
    said.forecast[name] = x;
    if (lo === undefined || hi === undefined) continue;
    const [a, b] = [lo.data[i * width + k], hi.data[i * width + k]];
    if (!Number.isFinite(a) || !Number.isFinite(b)) return 'not_finite';
    span.forecastLo[name] = Math.min(a, b, x);
    span.forecastHi[name] = Math.max(a, b, x);
  }
  return lo === undefined || hi === undefined ? said : { ...said, ...span };
}

/** Names with their shares, none negative, sum 1; null where they are too far from that. */
function distribution(names: readonly string[], values: Float32Array): Record<string, number> | null {
  let sum = 0;
  for (const value of values) {
    if (!(value >= -OFF)) return null;
    sum += Math.max(0, value);
  }
  if (!(Math.abs(sum - 1) <= OFF)) return null;
  return Object.fromEntries(names.map((name, k) => [name, Math.max(0, values[k]) / sum]));
}
