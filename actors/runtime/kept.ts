import type { Stale, TwinView } from '../protocol/view.ts';
import type { Activation } from './activation.ts';
import type { FailingModels } from './prediction-view.ts';
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
  return { n: copyOf(state.n), aside: kept, counts: { ...counts } };
}

/** Arrays of copies that are not needed any more, by length: thousands a second, made anew, would keep the collector busy. */
const spare = new Map<number, Float64Array[]>();
const SPARE_BYTES = 16 * 2 ** 20;
let spareBytes = 0;

function copyOf(n: Float64Array): Float64Array {
  const found = spare.get(n.length)?.pop();
  if (found === undefined) return n.slice();
  spareBytes -= found.byteLength;
  found.set(n);
  return found;
}

/** Nobody looks at the copy again: views are made of its numbers and never hold the array. */
export function giveBack({ n }: Kept): void {
  if (spareBytes + n.byteLength > SPARE_BYTES) return;
  spareBytes += n.byteLength;
  const arrays = spare.get(n.length);
  if (arrays === undefined) spare.set(n.length, [n]);
  else arrays.push(n);
}

/** The committed view of a twin whose changes have not landed yet; null where nothing was kept of it. */
export function keptView(
  shard: HostedShard,
  activation: Activation,
  stale: Stale,
  failing: FailingModels,
): TwinView | null {
  // changed by the cut on its way and again by the one behind it: committed is what was before the first
  const part = shard.inFlight?.touched.has(activation) ? shard.inFlight : activation.part;
  const kept = part?.before.get(activation);
  if (kept === undefined) return null;
  const before = { ...activation.state, n: kept.n, aside: kept.aside, rules: null };
  return viewOf(before, kept.counts, stale, failing, activation.refused);
}
