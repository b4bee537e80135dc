/** What a bench scenario is and says. One scenario a file in bench/scenarios/; `bench/run.ts` runs them. */
export interface Scenario {
  name: string;
  title: string;
  run(say: (line: string) => void): Promise<Figure[]>;
}

export interface Figure {
  what: string;
  value: number;
  unit: string;
  /** The ceiling measured in the same run, in the same unit. */
  ceiling?: { what: string; value: number };
  /** What is asked for: at least (rates) or at most (times, sizes). */
  atLeast?: number;
  atMost?: number;
  note?: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Value below which the share `p` of the samples lies. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];
}

export async function seconds(work: () => Promise<void> | void): Promise<number> {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
}
