import { seededRandom } from '../actors/protocol/clock.ts';
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

/** Standard normal quantile of 0.99. */
const Z_99 = 2.326;
/** From so many assets on no bin is empty by chance, and the index times their number is distributed as χ². */
const MANY_ASSETS = 300;
const DRAWS = 1_000;
const REMEMBERED = 5_000;
/** Fleets that are drawn; between them the smaller one stands for the others: not every asset more is drawn anew for each input. */
const DRAWN = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 250];
const chances = new Map<string, number>();

/**
 * What the index reaches by chance in one of a hundred fleets of so many assets, drawn from the very population of the reference.
 * Readings of one asset are alike: each asset is one draw, however many rows it brings. Of many, the χ² quantile of the bins' degrees of
 * freedom over their number (Yurdakul, Statistical Properties of Population Stability Index, 2018; quantile by Wilson and
 * Hilferty); of few, whose bins are empty by chance, drawn, always the same way.
 */
export function chanceIndex(shares: readonly number[], assets: number): number {
  if (assets >= MANY_ASSETS) {
    const freedom = Math.max(1, shares.length - 1);
    const spread = 2 / (9 * freedom);
    return (freedom * (1 - spread + Z_99 * Math.sqrt(spread)) ** 3) / assets;
  }
  const drawn = DRAWN.findLast((n) => n <= assets) ?? 1;
  const key = `${drawn} ${shares.map((share) => share.toFixed(3)).join()}`;
  let chance = chances.get(key);
  if (chance === undefined) {
    chance = drawnIndex(shares, drawn);
    if (chances.size >= REMEMBERED) chances.clear();
    chances.set(key, chance);
  }
  return chance;
}

function drawnIndex(shares: readonly number[], assets: number): number {
  const random = seededRandom(1);
  const drawn: number[] = [];
  for (let draw = 0; draw < DRAWS; draw++) {
    const bins = shares.map(() => 0);
    for (let asset = 0; asset < assets; asset++) {
      let left = random();
      let bin = 0;
      while (bin < shares.length - 1 && left >= shares[bin]) left -= shares[bin++];
      bins[bin] += LEAST_VALUES;
    }
    drawn.push(stabilityIndex(shares, bins) ?? 0);
  }
  return drawn.sort((a, b) => a - b)[Math.floor(0.99 * DRAWS)];
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
