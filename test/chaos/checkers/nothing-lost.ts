import { isPoison } from '../reading.ts';
import type { Checker } from './checker.ts';

/** P2: each acknowledged reading is in the history of its kind; a poisoned one is in the dead letters. */
export const nothingLost: Checker = {
  name: 'lost',
  twin({ asset, rows, poison }) {
    const stored = new Set(rows.map((row) => row.seq));
    const faults: string[] = [];
    for (let n = 0; n < asset.next; n++) {
      if (asset.acknowledgedAt[n] === 0) continue;
      if (isPoison(asset.index, n)) {
        if (!poison.has(n)) faults.push(`${asset.twinId}: the poisoned reading ${n} is not in the dead letters`);
      } else if (!stored.has(n)) {
        const at = new Date(asset.acknowledgedAt[n]).toISOString();
        faults.push(`${asset.twinId}: reading ${n}, acknowledged over ${asset.way} at ${at}, is not stored`);
      }
    }
    return faults;
  },
};
