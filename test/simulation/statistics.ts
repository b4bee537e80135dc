/** Statistics by their textbook formulas over a whole list, twice through: nothing running, nothing merged. */
export interface Reading {
  at: number;
  value: number;
}

export interface WindowStatistics {
  count: number;
  mean: number | null;
  std: number | null;
  min: number | null;
  max: number | null;
  last: number | null;
  slope: number | null;
  /** Undefined where the values before the newest do not differ: rounding alone would decide. */
  z: number | null | undefined;
  ewma?: number;
}

export function statisticsOf(readings: readonly Reading[], last: number): WindowStatistics {
  const count = readings.length;
  if (count === 0) return { count, mean: null, std: null, min: null, max: null, last: null, slope: null, z: null };
  const values = readings.map(({ value }) => value);
  const mean = meanOf(values);
  const meanAt = meanOf(readings.map(({ at }) => at));
  let covariance = 0;
  let spreadAt = 0;
  for (const { at, value } of readings) {
    covariance += (at - meanAt) * (value - mean);
    spreadAt += (at - meanAt) ** 2;
  }
  const without = values.slice();
  without.splice(without.lastIndexOf(last), 1);
  const stdWithout = without.length > 1 ? stdOf(without) : 0;
  return {
    count,
    mean,
    std: count > 1 ? stdOf(values) : null,
    min: Math.min(...values),
    max: Math.max(...values),
    last,
    slope: count > 1 && spreadAt > 0 ? (covariance / spreadAt) * 1000 : null,
    z: without.length < 2 ? null : stdWithout > 1e-4 ? (last - meanOf(without)) / stdWithout : undefined,
  };
}

function meanOf(values: readonly number[]): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

function stdOf(values: readonly number[]): number {
  const mean = meanOf(values);
  let sum = 0;
  for (const value of values) sum += (value - mean) ** 2;
  return Math.sqrt(sum / (values.length - 1));
}
