import type { Kind } from '../../actors/protocol/kind.ts';
import type { ArchivedFile, ArchiveRow } from '../../actors/store/queries/archive.ts';
import { type Moments, merged, statistics } from '../../actors/store/queries/moments.ts';

/** `_metrics/summary.json` of a day: what its files hold, for whoever reads the archive without us. */
export class DaySummary {
  readonly #kind: Kind;
  readonly #metrics = new Map<string, Moments>();

  constructor(kind: Kind) {
    this.#kind = kind;
  }

  add(row: ArchiveRow): void {
    if (this.#kind.openMetrics) this.#take(row.metric!, row.value!);
    else
      for (const name of this.#kind.metricNames) {
        const value = row[name];
        if (typeof value === 'number') this.#take(name, value);
      }
  }

  /** Takes in what an earlier summary says; one that cannot be understood counts as none. */
  merge(earlier: unknown): void {
    const { metrics } = (earlier ?? {}) as { metrics?: unknown };
    if (typeof metrics !== 'object' || metrics === null) return;
    for (const [name, value] of Object.entries(metrics as Record<string, Record<string, unknown> | null>)) {
      const { count, avg, min, max, std } = value ?? {};
      const numbers = [count, avg, min, max, std ?? 0];
      if (!numbers.every((each) => typeof each === 'number' && Number.isFinite(each))) continue;
      const [n, mean, lo, hi, spread] = numbers as number[];
      const part: Moments = { count: n, mean, m2: spread * spread * Math.max(0, n - 1), min: lo, max: hi };
      this.#metrics.set(name, merged(this.#metrics.get(name), part));
    }
  }

  text(day: number, files: readonly Omit<ArchivedFile, 'kind' | 'day'>[]): string {
    const metrics = [...this.#metrics.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
    return `${JSON.stringify(
      {
        kind: this.#kind.kind,
        day: new Date(day).toISOString().slice(0, 10),
        rows: files.reduce((sum, file) => sum + file.rows, 0),
        files: files.map(({ key, rows, bytes, sha256, late }) => ({ key, rows, bytes, sha256, late })),
        metrics: Object.fromEntries(metrics.map(([name, moments]) => [name, statistics(moments)])),
      },
      null,
      1,
    )}\n`;
  }

  #take(name: string, value: number): void {
    // Welford: one value more.
    const found = this.#metrics.get(name);
    if (found === undefined) {
      this.#metrics.set(name, { count: 1, mean: value, m2: 0, min: value, max: value });
      return;
    }
    found.count++;
    const delta = value - found.mean;
    found.mean += delta / found.count;
    found.m2 += delta * (value - found.mean);
    if (value < found.min) found.min = value;
    if (value > found.max) found.max = value;
  }
}
