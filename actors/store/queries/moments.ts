/**
 * Count, mean, spread and extremes of one metric, mergeable: what two parts of a bucket say is what the whole says.
 * Merging after Chan, Golub, LeVeque 1983; it does not subtract large sums as sum-of-squares would.
 */
export interface Moments {
  count: number;
  mean: number;
  /** Sum of squared differences from the mean. */
  m2: number;
  min: number;
  max: number;
}

/** A bucket of one metric as it is answered. */
export interface BucketStatistics {
  count: number;
  avg: number;
  min: number;
  max: number;
  /** Sample standard deviation; null for a single reading. */
  std: number | null;
}

/** Merges `part` into `into` where there is one. */
export function merged(into: Moments | undefined, part: Moments): Moments {
  if (into === undefined || into.count === 0) return part;
  if (part.count === 0) return into;
  const count = into.count + part.count;
  const delta = part.mean - into.mean;
  return {
    count,
    mean: into.mean + (delta * part.count) / count,
    m2: into.m2 + part.m2 + (delta * delta * into.count * part.count) / count,
    min: Math.min(into.min, part.min),
    max: Math.max(into.max, part.max),
  };
}

export function statistics(m: Moments): BucketStatistics {
  return {
    count: m.count,
    avg: m.mean,
    min: m.min,
    max: m.max,
    std: m.count > 1 ? Math.sqrt(Math.max(0, m.m2) / (m.count - 1)) : null,
  };
}
