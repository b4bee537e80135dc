import type { Kind } from '../../actors/protocol/kind.ts';
import { parseTwinId } from '../../actors/protocol/twin-id.ts';
import type { Aggregate } from '../../actors/store/queries/aggregates.ts';
import { moteIdOf } from '../sensors/mote.ts';

/** Daily aggregates, which come a row a metric, as one item a mote and day. The rows are in order of mote and day. */
export function daysOf(kind: Kind, rows: readonly Aggregate[]): Record<string, unknown>[] {
  const out: Record<string, unknown>[] = [];
  let last = '';
  for (const row of rows) {
    const key = `${row.twinId} ${row.bucket}`;
    if (key !== last) {
      out.push({
        mote_id: moteIdOf(parseTwinId(row.twinId).id),
        date: row.bucket.slice(0, 10),
        complete: row.complete,
        ...Object.fromEntries(kind.metricNames.map((name) => [name, null])),
      });
      last = key;
    }
    const { avg, min, max, std, median, record_count, null_count } = row;
    const count = record_count - null_count;
    out[out.length - 1][row.metric] = { avg, min, max, stddev: std, count, median, record_count, null_count };
  }
  return out;
}
