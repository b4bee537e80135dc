/**
 * What an asset of the harness sends as its n-th reading: everything follows from (asset, n), so that the checkers know
 * what has to be stored without having been told.
 */
export const STEP_MS = 500;
/** One in so many readings of an asset is one over which folding throws. */
const POISON_EVERY = 5_000;

export interface CounterReading {
  at: number;
  seq: number;
  values: { n: number; load: number; temperature: number; mark?: number };
}

export function readingOf(index: number, n: number, baseMs: number): CounterReading {
  const values: CounterReading['values'] = { n, load: loadOf(index, n), temperature: temperatureOf(index, n) };
  if (isPoison(index, n)) values.mark = 950;
  return { at: baseMs + n * STEP_MS, seq: n, values };
}

export function isPoison(index: number, n: number): boolean {
  return noise(index, n, 3) < 1 / POISON_EVERY;
}

/** Crosses the limit of `idle` now and then. */
function loadOf(index: number, n: number): number {
  return (n + 7 * index) % 90 < 6 ? 20 : rounded(200 + 100 * noise(index, n, 1));
}

/** Noise, a spike now and then (an anomaly), and at times long heat (an alert that holds). */
function temperatureOf(index: number, n: number): number {
  const phase = (n + 13 * index) % 400;
  const heat = phase >= 300 && phase < 315 ? 50 : 0;
  const spike = phase % 133 === 60 ? 20 : 0;
  return rounded(40 + 2 * noise(index, n, 2) + heat + spike);
}

/** 0 to 1, the same for the same arguments. */
function noise(index: number, n: number, salt: number): number {
  let x = (index * 0x9e3779b1 + n * 0x85ebca6b + salt * 0xc2b2ae35) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
