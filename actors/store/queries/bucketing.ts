import type { Kind } from '../../protocol/kind.ts';
import { tableOf } from './history-table.ts';
import { ROLLUPS, type Rollup } from './rolled.ts';

/** Columns of the rollups, in the order in which `bucketRows` selects them. */
export const ROLLUP_COLUMNS = [
  'twin',
  'bucket',
  'metric',
  'avg',
  'min',
  'max',
  'std',
  'median',
  'record_count',
  'null_count',
];

export function stepInterval(rollup: Rollup): string {
  return `interval '${ROLLUPS[rollup]} milliseconds'`;
}

/**
 * A select of the rollup rows of each (twin, lo, hi) in `work`, which is a from item with the alias `w`. Metrics are
 * names of the kind, checked by `defineTwin`; those of open kinds are limited by `condition`, over `r`.
 *
 * A grouped lateral query is one range of the index a row of work, whatever the planner believes about their number; as
 * a join it would read the whole table for a handful of twins.
 */
export function bucketRows(
  kind: Kind,
  rollup: Rollup,
  work: string,
  metrics?: readonly string[],
  condition = 'true',
): string {
  const of = (v: string) =>
    `avg(${v}), min(${v}), max(${v}), stddev_samp(${v}), percentile_cont(0.5) within group (order by ${v})`;
  const bucket = `date_bin(${stepInterval(rollup)}, r.at, 'epoch')`;
  const from = `from ${tableOf(kind)} r where r.twin = w.twin and r.at >= w.lo and r.at < w.hi and ${condition}`;
  if (kind.openMetrics) {
    const columns = ROLLUP_COLUMNS.slice(1).join(', ');
    return `select w.twin, x.* from ${work} cross join lateral (
      select ${bucket}, r.metric, ${of('r.value')}, count(*), 0::bigint ${from} group by 1, 2
    ) x(${columns})`;
  }
  const names = metrics ?? kind.metricNames;
  return `select w.twin, x.bucket, y.metric, y.avg, y.min, y.max, y.std, y.median, x.records as record_count, x.records - y.n as null_count
    from ${work} cross join lateral (
      select ${bucket}, count(*), ${names.map((m) => `${of(`r."${m}"`)}, count(r."${m}")`).join(', ')} ${from} group by 1
    ) x(bucket, records, ${names.map((_, i) => `a${i}, l${i}, h${i}, s${i}, m${i}, n${i}`).join(', ')})
    cross join lateral (values ${names.map((m, i) => `('${m}', a${i}, l${i}, h${i}, s${i}, m${i}, n${i})`).join(', ')})
      as y(metric, avg, min, max, std, median, n)`;
}
