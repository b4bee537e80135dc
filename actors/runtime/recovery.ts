import type { Kind } from '../protocol/kind.ts';
import { parseTwinId } from '../protocol/twin-id.ts';
import type { StoredTwin } from '../store/port.ts';
import { Activation } from './activation.ts';
import { decodeSnapshot } from './snapshot.ts';
import { newState } from './state.ts';
import type { Tunings } from './tunings.ts';
import { fold } from './turn.ts';

/**
 * What was stored of a twin, as an activation: the snapshot, and the tail folded on top. Nothing is emitted again.
 * `carried`: what is stored was left by another version of the kind than the one that has folded it now.
 */
export function activate(
  stored: StoredTwin,
  kinds: { get(kind: string): Kind },
  tunings: Tunings,
  now: number,
): { activation: Activation; carried: boolean } {
  const { kind: name } = parseTwinId(stored.twinId);
  const kind = kinds.get(name);
  let state = newState(kind, stored.twinId);
  let counts = { duplicates: 0, backfilled: 0 };
  let carried = false;
  if (stored.snapshot) {
    const { shape, kindVersion, state: bytes } = stored.snapshot;
    const restored = decodeSnapshot(kind, stored.twinId, shape, kindVersion, bytes);
    state = restored.state;
    counts = restored.counts;
    carried = restored.carried || (stored.tail.length > 0 && kindVersion !== kind.version);
  }
  tunings.share(state);
  for (const entry of stored.tail) fold(state, entry, []);
  const activation = new Activation(stored.twin, state, counts, now);
  activation.tail = stored.tail.length;
  return { activation, carried };
}
