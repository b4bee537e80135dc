import { afterAll, beforeAll, describe } from 'vitest';
import type { Store } from '../../actors/store/port.ts';
import { storeBeginnings } from './store-beginnings.ts';
import { storeFence } from './store-fence.ts';
import type { Peek } from './store-peek.ts';
import { storeProjections } from './store-projections.ts';
import { storeRandom } from './store-random.ts';
import { storeRecovery } from './store-recovery.ts';
import { KINDS, SHARDS } from './store-sample.ts';

/** An empty store, opened with the sample kinds unless asked otherwise. */
export interface Opened {
  store: Store;
  peek: Peek;
  /** Another connection to the same data, not yet opened. */
  another(): Store;
}

export interface StoreAdapter {
  /** Makes an empty store that nobody has opened yet. */
  fresh(): Promise<Opened>;
  close?(): Promise<void>;
}

/** What a group of cases gets: a fresh store each time, opened. */
export type Fresh = (options?: { opened?: boolean }) => Promise<Opened>;

/** The port's specification: every adapter of `Store` passes it. */
export function storeConformance(name: string, open: () => Promise<StoreAdapter>): void {
  describe(`Store: ${name}`, () => {
    let adapter: StoreAdapter;
    beforeAll(async () => {
      adapter = await open();
    });
    afterAll(async () => {
      await adapter?.close?.();
    });
    const fresh: Fresh = async (options = {}) => {
      const opened = await adapter.fresh();
      if (options.opened !== false) await opened.store.open(KINDS, SHARDS);
      return opened;
    };
    storeBeginnings(fresh);
    storeFence(fresh);
    storeRecovery(fresh);
    storeProjections(fresh);
    storeRandom(fresh);
  });
}
