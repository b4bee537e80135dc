/**
 * A pane: the statistics of the readings of one stretch of event time, as eight numbers in a Float64Array.
 *
 * Owns the arithmetic of adding a reading and of merging two panes. Does not own where panes lie (window.ts).
 *
 * Invariants:
 *  1  Mean and sums of squares are kept as Welford's running moments and merged by Chan's formula, so that a variance
 *     cannot go negative and nothing cancels at large offsets (Chan, Golub, LeVeque 1983).
 *  2  The result depends only on the numbers and the order of the calls: replay gives the same bits.
 */
export const PANE_SLOTS = 8;

const N = 0;
const MEAN = 1;
const M2 = 2;
const MEAN_T = 3;
const M2_T = 4;
const C_XT = 5;
const MIN = 6;
const MAX = 7;

/** Offsets within a pane, for readers. `M2` = Σ(x − mean)², `C_XT` = Σ(x − mean)(t − meanT), t in ms. */
export const PANE = { N, MEAN, M2, MEAN_T, M2_T, C_XT, MIN, MAX } as const;

export function clearPane(a: Float64Array, at: number): void {
  for (let i = 0; i < PANE_SLOTS; i++) a[at + i] = 0;
}

/** Adds value `x` at event time `t` (ms) to the pane at offset `p`. */
export function addToPane(a: Float64Array, p: number, x: number, t: number): void {
  const n = a[p] + 1;
  if (n === 1) {
    a[p] = 1;
    a[p + MEAN] = x;
    a[p + M2] = 0;
    a[p + MEAN_T] = t;
    a[p + M2_T] = 0;
    a[p + C_XT] = 0;
    a[p + MIN] = x;
    a[p + MAX] = x;
    return;
  }
  const inverse = 1 / n;
  const dx = x - a[p + MEAN];
  const dt = t - a[p + MEAN_T];
  const mean = a[p + MEAN] + dx * inverse;
  const meanT = a[p + MEAN_T] + dt * inverse;
  a[p] = n;
  a[p + MEAN] = mean;
  a[p + MEAN_T] = meanT;
  a[p + M2] += dx * (x - mean);
  a[p + M2_T] += dt * (t - meanT);
  a[p + C_XT] += dx * (t - meanT);
  if (x < a[p + MIN]) a[p + MIN] = x;
  if (x > a[p + MAX]) a[p + MAX] = x;
}

/** Merges the pane at `from` of `b` into the one at `into` of `a`. */
export function mergePane(a: Float64Array, into: number, b: Float64Array, from: number): void {
  const nb = b[from];
  if (nb === 0) return;
  const na = a[into];
  if (na === 0) {
    for (let i = 0; i < PANE_SLOTS; i++) a[into + i] = b[from + i];
    return;
  }
  const n = na + nb;
  const dx = b[from + MEAN] - a[into + MEAN];
  const dt = b[from + MEAN_T] - a[into + MEAN_T];
  const share = nb / n;
  const weight = na * share;
  a[into] = n;
  a[into + MEAN] += dx * share;
  a[into + MEAN_T] += dt * share;
  a[into + M2] += b[from + M2] + dx * dx * weight;
  a[into + M2_T] += b[from + M2_T] + dt * dt * weight;
  a[into + C_XT] += b[from + C_XT] + dx * dt * weight;
  if (b[from + MIN] < a[into + MIN]) a[into + MIN] = b[from + MIN];
  if (b[from + MAX] > a[into + MAX]) a[into + MAX] = b[from + MAX];
}
