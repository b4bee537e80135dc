import type { Checker } from './checker.ts';

/** The journal of a twin is revisions 1, 2, 3, … without a hole or a double, as far as the twin says that it has come. */
export const order: Checker = {
  name: 'order violations',
  twin({ asset, twin, journal, views }) {
    const faults: string[] = [];
    let expected = 1;
    for (const { revision } of journal) {
      if (revision !== expected) faults.push(`${asset.twinId}: revision ${revision} follows ${expected - 1}`);
      expected = revision + 1;
    }
    const revision = twin?.revision ?? 0;
    if (revision !== expected - 1)
      faults.push(`${asset.twinId} is listed at ${revision}, its journal ends at ${expected - 1}`);
    for (let i = 1; i < views.length; i++) {
      if (views[i].revision < views[i - 1].revision)
        faults.push(`${asset.twinId} was shown at ${views[i - 1].revision} and later at ${views[i].revision}`);
    }
    return faults;
  },
};
