import type { CardInput } from './card.ts';

/**
 * Drift of what a model is asked against what it was trained on: the population stability index of each input,
 * PSI = Σ (observed − expected) · ln(observed ÷ expected) over the bins of the card's reference (Siddiqi, Credit Risk Scorecards,
 * 2006; commonly read: below 0.1 none, 0.1 to 0.25 some, above 0.25 much).
 *
 * Pure. A missing value is counted apart and is in no bin.
 */
export interface InputCounts {
  /** Values by bin of the reference; empty where the card has none for the input. */
  bins: number[];
  missing: number;
}

/** Below so many values the index says more about chance than about drift. */
export const LEAST_VALUES = 500;
/** A bin that is empty on one side counts as if it held this share. */
const LEAST_SHARE = 1e-4;

/** Index of the bin: bin 0 lies below the first edge, the last from the last edge on. */
export function binOf(edges: readonly number[], value: number): number {
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (value < edges[middle]) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Null where too little was seen to say. `shares` sum to 1 and have a member a bin. */
export function stabilityIndex(shares: readonly number[], bins: readonly number[]): number | null {
  const seen = bins.reduce((sum, n) => sum + n, 0);
  if (seen < LEAST_VALUES || shares.length !== bins.length) return null;
  let index = 0;
  for (let i = 0; i < bins.length; i++) {
    const observed = Math.max(LEAST_SHARE, bins[i] / seen);
    const expected = Math.max(LEAST_SHARE, shares[i]);
    index += (observed - expected) * Math.log(observed / expected);
  }
  return index;
}

/** Counts what one version of a model is asked. */
export class InputCounter {
  readonly #inputs: readonly CardInput[];
  #counts: InputCounts[];
  #rows = 0;

  constructor(inputs: readonly CardInput[]) {
    this.#inputs = inputs;
    this.#counts = empty(inputs);
  }

  /** At most `most` rows of the call, evenly spread: a large call says what a small one does. */
  observe(inputs: Float32Array, rows: number, most = 64): void {
    const width = this.#inputs.length;
    const step = Math.max(1, Math.ceil(rows / most));
    for (let row = 0; row < rows; row += step) {
      this.#rows++;
      for (let i = 0; i < width; i++) {
        const value = inputs[row * width + i];
        const counts = this.#counts[i];
        const edges = this.#inputs[i].reference?.edges;
        if (!Number.isFinite(value)) counts.missing++;
        else if (edges !== undefined) counts.bins[Math.min(counts.bins.length - 1, binOf(edges, value))]++;
      }
    }
  }

  /** What was counted since it was last taken; null where nothing was. */
  take(): { rows: number; counts: InputCounts[] } | null {
    if (this.#rows === 0) return null;
    const taken = { rows: this.#rows, counts: this.#counts };
    this.#rows = 0;
    this.#counts = empty(this.#inputs);
    return taken;
  }
}

function empty(inputs: readonly CardInput[]): InputCounts[] {
  return inputs.map(({ reference }) => ({
    bins: new Array<number>(reference?.shares.length ?? 0).fill(0),
    missing: 0,
  }));
}

/** Member by member; what one side lacks is nothing. */
export function addCounts(into: InputCounts[], more: readonly InputCounts[]): InputCounts[] {
  return more.map(({ bins, missing }, i) => ({
    bins: bins.map((n, b) => n + (into[i]?.bins[b] ?? 0)),
    missing: missing + (into[i]?.missing ?? 0),
  }));
}
