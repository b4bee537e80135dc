import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../actors/store/memory.ts';
import { storeConformance } from './store.ts';
import { peekMemory } from './store-peek.ts';
import { KINDS, key, reading, SHARDS, summary, Writer } from './store-sample.ts';

storeConformance('memory', async () => ({
  async fresh() {
    const store = new MemoryStore();
    return { store, peek: peekMemory(store), another: () => MemoryStore.over(store.ledger) };
  },
}));

describe('Store: memory, for simulations', () => {
  it('waits before and after the effect of an operation', async () => {
    const seen: [string, number][] = [];
    const store: MemoryStore = new MemoryStore({
      async delay(op) {
        if (op.endsWith(':commit')) seen.push([op, store.ledger.shards()[0].commitNo]);
      },
    });
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    await writer.commit([0]);
    expect(seen).toEqual([
      ['before:commit', 0],
      ['after:commit', 1],
    ]);
  });

  it('loses a request when the delay before it fails, and an answer when the one after it fails', async () => {
    let fault = '';
    const store = new MemoryStore({
      async delay(op) {
        if (op === fault) throw new Error(op);
      },
    });
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    fault = 'before:commit';
    await expect(writer.commit([0])).rejects.toThrow('before:commit');
    expect(store.ledger.shards()[0].commitNo).toBe(0);
    fault = 'after:commit';
    await expect(writer.commit([0])).rejects.toThrow('after:commit');
    expect(store.ledger.shards()[0].commitNo).toBe(1);
  });

  it('hands out copies', async () => {
    const store = new MemoryStore();
    await store.open(KINDS, SHARDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    await writer.commit([0], { readings: [reading(key(0), 1)], summaries: [summary(key(0), 1)] });
    const [stored] = await store.loadTail(0);
    const [entry] = stored.tail;
    if (entry.type === 'reading') entry.reading.values.flow = 99;
    expect(await store.loadTail(0)).not.toEqual([stored]);
  });
});
