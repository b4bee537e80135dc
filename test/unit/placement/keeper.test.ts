import { describe, expect, it } from 'vitest';
import { Keeper, type Tenant } from '../../../actors/placement/keeper.ts';
import { wantedOwner } from '../../../actors/placement/rendezvous.ts';
import { MemoryStore } from '../../../actors/store/memory.ts';
import { FakeClock } from '../gateway/fake-clock.ts';

const TTL_MS = 2_000;
const SHARDS = 64;

async function plant(options: { fail?: (op: string) => void } = {}) {
  const clock = new FakeClock();
  const asked: string[] = [];
  const store = new MemoryStore({
    async delay(step) {
      const [when, op] = step.split(':');
      if (when !== 'before') return;
      asked.push(op);
      options.fail?.(op);
    },
  });
  await store.open([], SHARDS);
  asked.length = 0;
  const held = new Map<number, number>();
  const drained = new Set<number>();
  const renewed = new Set<number>();
  const errors: unknown[] = [];
  const tenant: Tenant = {
    epochOf: (shard) => held.get(shard),
    isBusy: () => false,
    take: (rows) => {
      for (const { shard, epoch } of rows) held.set(shard, epoch);
    },
    drain: (shard) => drained.add(shard),
    renew: (shard) => renewed.add(shard),
    drop: (shard) => held.delete(shard),
    freed: () => undefined,
    settled: () => undefined,
  };
  const keeper = new Keeper({
    node: 'me',
    store,
    clock,
    ttlMs: TTL_MS,
    tenant,
    claimAtOnce: 64,
    onError: (error) => errors.push(error),
  });
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 50; i++) await Promise.resolve();
  };
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await settle();
  };
  return { clock, asked, store, held, drained, renewed, errors, keeper, settle, pass };
}

describe('a keeper', () => {
  it('looks at once when it is nudged, once for many nudges, without a beat', async () => {
    const { asked, held, keeper, pass, store } = await plant();
    store.ledger.claim(
      'gone',
      store.ledger.shards().map(({ shard }) => ({ shard, owner: null, epoch: 0 })),
    );
    await keeper.start();
    expect(held.size).toBe(0);
    store.ledger.release('gone', [{ shard: 3, epoch: 1 }]);
    asked.length = 0;
    for (let i = 0; i < 100; i++) keeper.nudge();
    await pass(10);
    expect(asked).toEqual(['shards', 'nodes', 'claim']);
    expect([...held]).toEqual([[3, 2]]);
    expect(keeper.rows[3]).toMatchObject({ owner: 'me', epoch: 2 });
    asked.length = 0;
    await pass(TTL_MS / 4);
    expect(asked).toEqual(['beat', 'shards', 'nodes']);
  });

  it('does not lose a nudge that comes while it looks, nor a beat to many nudges', async () => {
    let during = (): void => undefined;
    const { asked, clock, keeper, pass } = await plant({ fail: (op) => op === 'nodes' && during() });
    await keeper.start();
    asked.length = 0;
    during = () => {
      during = () => undefined;
      keeper.nudge();
    };
    keeper.nudge();
    await pass(10);
    await pass(10);
    expect(asked.filter((op) => op === 'nodes')).toHaveLength(2);
    asked.length = 0;
    for (const until = clock.monotonic() + TTL_MS; clock.monotonic() < until; ) {
      keeper.nudge();
      await pass(10);
    }
    expect(asked.filter((op) => op === 'beat').length).toBeGreaterThanOrEqual(3);
    expect(keeper.serving).toBe(true);
  });

  it('claims every shard anew before it serves again after a silence, also where it is nudged first', async () => {
    let failing = false;
    const { clock, held, keeper, pass, renewed, store } = await plant({
      fail: () => {
        if (failing) throw new Error('away');
      },
    });
    store.ledger.beat('other');
    await keeper.start();
    expect(held.size).toBeGreaterThan(0);
    failing = true;
    for (let i = 0; i < 8; i++) await pass(TTL_MS / 4);
    expect(keeper.serving).toBe(false);
    failing = false;
    // alive, or its shards would be claimed meanwhile
    store.ledger.beat('other');
    keeper.nudge();
    await pass(10);
    expect(renewed).toEqual(new Set(Array.from({ length: SHARDS }, (_, shard) => shard)));
    expect(keeper.serving).toBe(true);
    expect(clock.monotonic()).toBeGreaterThan(0);
  });

  it('says that it is leaving before it gives anything up, goes on beating, and may change its mind', async () => {
    const { drained, held, keeper, pass, store } = await plant();
    store.ledger.beat('other');
    await keeper.start();
    store.ledger.claim(
      'other',
      store.ledger.shards().filter(({ owner }) => owner === null),
    );
    const mine = [...held.keys()];
    await keeper.retreat();
    expect(store.ledger.nodes().find(({ node }) => node === 'me')).toMatchObject({ leaving: true });
    expect(keeper.living()).toEqual(['other']);
    expect(drained).toEqual(new Set(mine));
    const { beat } = store.ledger.nodes().find(({ node }) => node === 'me')!;
    store.ledger.beat('other');
    await pass(TTL_MS / 4);
    expect(store.ledger.nodes().find(({ node }) => node === 'me')).toMatchObject({ beat: beat + 1, leaving: true });
    await keeper.resume();
    expect(store.ledger.nodes().find(({ node }) => node === 'me')).toMatchObject({ leaving: false });
    expect(keeper.living()).toEqual(['me', 'other']);
  });

  it('keeps what many free shards lie for already', async () => {
    const { drained, keeper, pass, store } = await plant();
    await keeper.start();
    store.ledger.beat('other');
    const wanted = Array.from({ length: SHARDS }, (_, shard) => shard).filter(
      (shard) => wantedOwner(shard, ['me', 'other']) === 'other',
    );
    expect(wanted.length).toBeGreaterThan(18);
    // 16 of them have been given up and not taken
    store.ledger.release(
      'me',
      wanted.slice(0, 16).map((shard) => ({ shard, epoch: 1 })),
    );
    keeper.nudge();
    await pass(10);
    expect(drained.size).toBe(0);
    store.ledger.claim('other', [{ shard: wanted[0], owner: null, epoch: 1 }]);
    keeper.nudge();
    await pass(10);
    expect(drained).toEqual(new Set(wanted.slice(16)));
  });
});
