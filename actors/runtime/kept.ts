import type { Stale, TwinView } from '../protocol/view.ts';
import type { Activation } from './activation.ts';
import type { HostedShard } from './shard.ts';
import type { Aside } from './state.ts';
import { type IngestCounts, viewOf } from './view.ts';

/**
 * A twin as it was before a part changed it: what is committed of it as long as that part has not landed. Only what a view
 * shows; what the fold replaces whole is shared.
 */
export interface Kept {
  readonly n: Float64Array;
  readonly aside: Aside;
  readonly counts: IngestCounts;
}

export function keptOf({ state, counts }: Activation): Kept {
  const { aside } = state;
  const kept: Aside = { ...aside, attributes: { ...aside.attributes } };
  delete kept.commands;
  if (aside.metrics) kept.metrics = [...aside.metrics];
  if (aside.units) kept.units = { ...aside.units };
  if (aside.acknowledged) kept.acknowledged = { ...aside.acknowledged };
  if (aside.predictions) kept.predictions = { ...aside.predictions };
  return { n: state.n.slice(), aside: kept, counts: { ...counts } };
}

/** The committed view of a twin whose changes have not landed yet; null where nothing was kept of it. */
export function keptView(shard: HostedShard, activation: Activation, stale: Stale): TwinView | null {
  // changed by the cut on its way and again by the one behind it: committed is what was before the first
  const part = shard.inFlight?.touched.has(activation) ? shard.inFlight : activation.part;
  const kept = part?.before.get(activation);
  if (kept === undefined) return null;
  return viewOf({ ...activation.state, n: kept.n, aside: kept.aside, rules: null }, kept.counts, stale);
}
