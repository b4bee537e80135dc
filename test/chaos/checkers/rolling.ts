import type { Checker } from './checker.ts';

/** Reported values, rolling features, alerts, health: what people were shown is what the plain oracle makes of the journal. */
export const rolling: Checker = {
  name: 'wrong twins',
  twin({ asset, oracle, journal, views }) {
    const faults = oracle.wrongViews.map((wrong) => `${asset.twinId} ${wrong}`);
    if (oracle.fault !== null) faults.push(oracle.fault);
    const beyond = views.find((view) => view.revision > journal.length);
    if (beyond)
      faults.push(`${asset.twinId} was shown at ${beyond.revision}, its journal has ${journal.length} entries`);
    return faults;
  },
};
