/** Statistics as a reader would compute them by hand: two passes over everything. */
export interface Naive {
  count: number;
  avg: number;
  min: number;
  max: number;
  std: number | null;
  median: number;
}

export function naive(values: readonly number[]): Naive {
  const count = values.length;
  const avg = values.reduce((sum, v) => sum + v, 0) / count;
  const squares = values.reduce((sum, v) => sum + (v - avg) ** 2, 0);
  const sorted = [...values].sort((a, b) => a - b);
  const median = count % 2 ? sorted[(count - 1) / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
  return {
    count,
    avg,
    min: sorted[0],
    max: sorted[count - 1],
    std: count > 1 ? Math.sqrt(squares / (count - 1)) : null,
    median,
  };
}

/** Equal up to rounding of sums. */
export function near(a: number | null | undefined, b: number | null | undefined): boolean {
  if (a === null || b === null || a === undefined || b === undefined) return (a ?? null) === (b ?? null);
  return Math.abs(a - b) <= 1e-8 * Math.max(1, Math.abs(a), Math.abs(b));
}

export interface Sample {
  twin: number;
  at: number;
  values: Record<string, number>;
}

/** Values by `bucket|metric` of one twin in a span. */
export function bucketsOf(
  samples: readonly Sample[],
  twin: number,
  stepMs: number,
  from: number,
  to: number,
): Map<string, number[]> {
  const out = new Map<string, number[]>();
  for (const sample of samples) {
    if (sample.twin !== twin || sample.at < from || sample.at >= to) continue;
    for (const [metric, value] of Object.entries(sample.values)) {
      const key = `${Math.floor(sample.at / stepMs) * stepMs}|${metric}`;
      const list = out.get(key);
      if (list) list.push(value);
      else out.set(key, [value]);
    }
  }
  return out;
}
