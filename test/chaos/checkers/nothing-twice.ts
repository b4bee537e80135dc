import { isPoison, readingOf } from '../reading.ts';
import type { Checker } from './checker.ts';

/**
 * P3: no reading is stored twice, none that nobody sent, each with the values that were sent; and the twin counts as many
 * as are stored.
 */
export const nothingTwice: Checker = {
  name: 'counted twice',
  twin({ asset, rows, views }, ledger) {
    const faults: string[] = [];
    const seen = new Set<number>();
    let folded = 0;
    for (const row of rows) {
      if (seen.has(row.seq)) faults.push(`${asset.twinId}: reading ${row.seq} is stored twice`);
      seen.add(row.seq);
      if (row.revision !== null) folded++;
      if (row.seq >= asset.next || isPoison(asset.index, row.seq)) {
        faults.push(
          `${asset.twinId}: reading ${row.seq} is stored and ${row.seq >= asset.next ? 'was never sent' : 'poisoned'}`,
        );
        continue;
      }
      const { at, values } = readingOf(asset.index, row.seq, ledger.baseMs);
      if (row.at !== at || row.n !== values.n || row.load !== values.load || row.temperature !== values.temperature) {
        faults.push(`${asset.twinId}: reading ${row.seq} is stored as ${JSON.stringify(row)}`);
      }
    }
    const last = views.at(-1);
    if (last && last.ingest.accepted !== folded) {
      faults.push(`${asset.twinId} counts ${last.ingest.accepted} readings, ${folded} were folded`);
    }
    return faults;
  },
};
