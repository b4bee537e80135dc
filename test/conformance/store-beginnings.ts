import { describe, expect, it } from 'vitest';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Fresh } from './store.ts';
import { KINDS, key, reading, SHARDS, summary, Writer } from './store-sample.ts';

export function storeBeginnings(fresh: Fresh): void {
  describe('opening and membership', () => {
    it('makes the shards, unowned and untouched', async () => {
      const { store } = await fresh();
      const rows = await store.shards();
      expect(rows.map((row) => row.shard)).toEqual([...Array(SHARDS).keys()]);
      expect(rows[3]).toEqual({
        shard: 3,
        owner: null,
        epoch: 0,
        commitNo: 0,
        position: 0,
        positionId: null,
        positionAt: null,
        eventSeq: 0,
        snapshotFloor: 0,
        attempts: 0,
      });
      await store.ping();
    });

    it('opens again without touching what is there', async () => {
      const { store, another } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(1);
      await writer.commit([1], { readings: [reading(key(1), 1)], summaries: [summary(key(1), 1)] });
      const second = another();
      await second.open(KINDS, SHARDS);
      expect(await second.shards()).toEqual(await store.shards());
      expect(await second.highestTwin(1)).toBe(key(1));
    });

    it('refuses another number of shards, naming both', async () => {
      const { another } = await fresh();
      const error = await another()
        .open(KINDS, SHARDS * 2)
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(TwinmeshError);
      expect(error).toMatchObject({ code: 'wrong_shard_count' });
      expect((error as Error).message).toContain(String(SHARDS));
      expect((error as Error).message).toContain(String(SHARDS * 2));
    });

    it.each([0, -1, 1.5, 4097, Number.NaN])('refuses %s shards', async (shards) => {
      const { store } = await fresh({ opened: false });
      await expect(store.open(KINDS, shards)).rejects.toMatchObject({ code: 'wrong_shard_count' });
    });

    it('lets several nodes open an empty database at once', async () => {
      const { store, another } = await fresh({ opened: false });
      const nodes = [store, another(), another(), another()];
      await Promise.all(nodes.map((node) => node.open(KINDS, SHARDS)));
      expect(await store.shards()).toHaveLength(SHARDS);
    });

    it('counts beats a node', async () => {
      const { store } = await fresh();
      expect(await store.nodes()).toEqual([]);
      await store.beat('b');
      await store.beat('a');
      await store.beat('b');
      expect(await store.nodes()).toEqual([
        { node: 'a', beat: 1, leaving: false },
        { node: 'b', beat: 2, leaving: false },
      ]);
    });

    it('goes on counting the beats of a node that leaves, has left and comes back', async () => {
      const { store } = await fresh();
      await store.beat('a');
      await store.beat('a', true);
      await store.beat('b', true);
      expect(await store.nodes()).toEqual([
        { node: 'a', beat: 2, leaving: true },
        { node: 'b', beat: 1, leaving: true },
      ]);
      await store.removeNode('a');
      await store.removeNode('nobody');
      await store.beat('b');
      expect(await store.nodes()).toEqual([
        { node: 'a', beat: 2, leaving: true },
        { node: 'b', beat: 2, leaving: false },
      ]);
      await store.beat('a');
      expect((await store.nodes())[0]).toEqual({ node: 'a', beat: 3, leaving: false });
    });
  });
}
