/**
 * Pearson correlation of series over the same buckets of time. Pairwise complete: each pair is compared where both have a
 * value, and `n` says over how many buckets.
 */
export interface Correlation {
  labels: string[];
  /** Symmetric; null where fewer than MIN_BUCKETS are shared, or one of the two does not vary over them. */
  matrix: (number | null)[][];
  n: number[][];
}

export interface Series {
  label: string;
  /** Value by start of the bucket. */
  values: ReadonlyMap<string, number>;
}

export const MIN_BUCKETS = 3;

export function correlationOf(series: readonly Series[]): Correlation {
  const matrix = series.map(() => new Array<number | null>(series.length).fill(null));
  const n = series.map(() => new Array<number>(series.length).fill(0));
  for (let i = 0; i < series.length; i++) {
    for (let j = 0; j <= i; j++) {
      const { r, count } = pearson(series[i].values, series[j].values);
      matrix[i][j] = r;
      matrix[j][i] = r;
      n[i][j] = count;
      n[j][i] = count;
    }
  }
  return { labels: series.map(({ label }) => label), matrix, n };
}

function pearson(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): { r: number | null; count: number } {
  let count = 0;
  let [meanA, meanB, squaresA, squaresB, products] = [0, 0, 0, 0, 0];
  for (const [at, x] of a) {
    const y = b.get(at);
    if (y === undefined) continue;
    // Welford's update for two: no difference of large sums.
    count++;
    const deltaA = x - meanA;
    const deltaB = y - meanB;
    meanA += deltaA / count;
    meanB += deltaB / count;
    squaresA += deltaA * (x - meanA);
    squaresB += deltaB * (y - meanB);
    products += deltaA * (y - meanB);
  }
  const scale = Math.sqrt(squaresA) * Math.sqrt(squaresB);
  const r = count < MIN_BUCKETS || !(scale > 0) ? null : Math.max(-1, Math.min(1, products / scale));
  return { r, count };
}
