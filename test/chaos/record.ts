import type { Fault } from './fault.ts';

/** What became of one fault. */
export interface Injected {
  fault: Fault;
  /** A few words: which node, how long. */
  detail: string;
  means: string | null;
  /** From its beginning to its end, ms. */
  lastedMs: number;
  /** From its beginning until every shard had committed anew; null: not before it ended, or never. */
  recoveredMs: number | null;
  /** From its end until every shard had committed anew; null: not within the limit. */
  settledMs: number | null;
  /** Shards that had not, when the limit was over. */
  standStill: number[];
  /** Shards that committed while it lasted, where they had to; null where that is not asked. */
  movedMeanwhile: number | null;
  /** It could not be done, and why. */
  failed: string | null;
}

/** A line of the table. */
export interface Row {
  fault: string;
  target: string;
  means: string;
  times: number;
  failed: number;
  stuck: number;
  recovered: number[];
  settled: number[];
}

export function tableOf(injected: readonly Injected[]): Row[] {
  const rows = new Map<string, Row>();
  for (const { fault, means, recoveredMs, settledMs, failed } of injected) {
    const key = `${fault.target} ${fault.name}`;
    const row = rows.get(key) ?? {
      fault: fault.name,
      target: fault.target,
      means: means ?? '',
      times: 0,
      failed: 0,
      stuck: 0,
      recovered: [],
      settled: [],
    };
    rows.set(key, row);
    if (failed !== null) {
      row.failed++;
      continue;
    }
    row.times++;
    if (settledMs === null) row.stuck++;
    else row.settled.push(settledMs);
    if (recoveredMs !== null) row.recovered.push(recoveredMs);
  }
  return [...rows.values()].sort((a, b) => (`${a.target} ${a.fault}` < `${b.target} ${b.fault}` ? -1 : 1));
}

/** The value that a share of the others does not exceed (nearest rank). */
export function quantile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

export function seconds(ms: number | null): string {
  return ms === null ? '–' : (ms / 1000).toFixed(1);
}

export function markdownOf(rows: readonly Row[]): string {
  const head =
    '| target | fault | by | times | recovered, s (p50 / max) | after its end, s (p50 / max) | outcome |\n| --- | --- | --- | ---: | ---: | ---: | --- |\n';
  const lines = rows.map((row) => {
    const span = (values: number[]) => `${seconds(quantile(values, 0.5))} / ${seconds(quantile(values, 1))}`;
    const outcome = [
      ...(row.stuck > 0 ? [`${row.stuck} without progress`] : []),
      ...(row.failed > 0 ? [`${row.failed} could not be done`] : []),
    ];
    const cells = [
      row.target,
      row.fault,
      row.means,
      row.times,
      span(row.recovered),
      span(row.settled),
      outcome.length > 0 ? outcome.join(', ') : 'held',
    ];
    return `| ${cells.join(' | ')} |\n`;
  });
  return head + lines.join('');
}
