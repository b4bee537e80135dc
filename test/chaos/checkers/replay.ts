import { decodeSnapshot, encodeSnapshot } from '../../../actors/runtime/snapshot.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import counter from '../kinds/counter.ts';
import type { Checker } from './checker.ts';

/** P4: the newest snapshot of a twin is, bit for bit, what its stored journal folds to from the first entry on. */
export const replay: Checker = {
  name: 'replay differs',
  twin({ asset, journal, snapshot }) {
    if (snapshot === null) return journal.length === 0 ? [] : [`${asset.twinId} has no snapshot after a graceful stop`];
    if (snapshot.revision > journal.length) return [`${asset.twinId} has a snapshot beyond its journal`];
    const state = newState(counter, asset.twinId);
    for (const entry of journal.slice(0, snapshot.revision)) fold(state, entry, []);
    const { shape, kindVersion } = snapshot;
    const { counts } = decodeSnapshot(counter, asset.twinId, shape, kindVersion, snapshot.state);
    const bytes = Buffer.from(encodeSnapshot(state, counts));
    return bytes.equals(Buffer.from(snapshot.state))
      ? []
      : [`the snapshot of ${asset.twinId} at ${snapshot.revision} is not what its journal folds to`];
  },
};
