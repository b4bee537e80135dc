import type { Clock } from '../protocol/clock.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import type { Kind } from '../protocol/kind.ts';
import { parseTwinId, shardOf, type TwinId } from '../protocol/twin-id.ts';
import type { Stale, TwinView } from '../protocol/view.ts';
import type { Store } from '../store/port.ts';
import type { Activation } from './activation.ts';
import type { FailingModels } from './prediction-view.ts';
import { activate } from './recovery.ts';
import type { Tunings } from './tunings.ts';
import { viewOf } from './view.ts';

/**
 * Reads for those who would rather see something old than nothing: the last committed state, and why it may be old. For
 * twins of other nodes, and of our own while they cannot be vouched for.
 */
export interface StaleReadContext {
  store: Pick<Store, 'loadTwins'>;
  kinds: { get(kind: string): Kind };
  tunings: Tunings;
  clock: Clock;
  shards: number;
}

/** `resident`: the twin as this node has it in memory, or null. Throws not_found, store_down, unknown_kind, bad_id. */
export async function lastCommitted(
  context: StaleReadContext,
  twinId: TwinId,
  resident: Activation | null,
  stale: Stale | null,
  failing: FailingModels | null = null,
): Promise<TwinView> {
  const { store, kinds, tunings, clock, shards } = context;
  kinds.get(parseTwinId(twinId).kind);
  const reason: Stale = stale ?? {
    reason: 'not owner',
    since: new Date(clock.now()).toISOString(),
    remedy: 'This is the last committed state as this node reads it; the owner of the twin answers what is newer.',
  };
  // memory that waits for a commit is not committed: the store says what is
  if (resident !== null && resident.part === null)
    return viewOf(resident.state, resident.counts, reason, failing, resident.refused);
  const [stored] = await store.loadTwins(shardOf(twinId, shards), [twinId]);
  if (stored === undefined) throw new TwinmeshError('not_found', `There is no twin ${twinId}.`);
  const { activation } = activate(stored, kinds, tunings, clock.monotonic());
  return viewOf(activation.state, activation.counts, reason, failing);
}
