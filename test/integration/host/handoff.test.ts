import { afterEach, describe, expect, it } from 'vitest';
import type { LogPosition } from '../../../actors/log/port.ts';
import { wantedOwner } from '../../../actors/placement/rendezvous.ts';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import type { TwinView } from '../../../actors/protocol/view.ts';
import type { Host } from '../../../actors/runtime/host.ts';
import type { HostOptions } from '../../../actors/runtime/host-options.ts';
import { MemoryStore } from '../../../actors/store/memory.ts';
import type { Ledger } from '../../../actors/store/memory-ledger.ts';
import type { Cut, Store } from '../../../actors/store/port.ts';
import { pump, type Running, reading, run, SHARDS, until } from './plant.ts';

/** Beats and rounds of the keeper are minutes apart: whatever happens here happens because somebody was told. */
const TTL_MS = 600_000;
const MANY = 64;
const AT_ONCE = 16;

let running: Running[] = [];
afterEach(async () => {
  for (const { host, log } of running) {
    host.kill();
    await log.close();
  }
  running = [];
});

async function openLedger(shards: number): Promise<Ledger> {
  const store = new MemoryStore();
  await store.open([pump], shards);
  return store.ledger;
}

/** Hosts over one ledger that tell each other when ownership moves. */
async function join(node: string, ledger: Ledger, options: Partial<HostOptions> = {}): Promise<Running> {
  const one = await run(MemoryStore.over(ledger), {
    node,
    ttlMs: TTL_MS,
    shards: MANY,
    onMoved: () => {
      for (const { host } of running) if (host !== one?.host) host.nudge();
    },
    ...options,
  });
  running.push(one);
  for (const { host } of running) host.nudge();
  return one;
}

const owned = (host: Host): number => host.status().shards.owned;
const create = (host: Host, twinId: string, place = 'here') =>
  host.command(twinId, { name: 'attributes', key: `${twinId} ${place}`, by: 'x', patch: { place } }, { create: true });

/** The store with some methods replaced. */
function over(ledger: Ledger, change: (store: Store) => Partial<Store>): Store {
  const store = MemoryStore.over(ledger);
  const changed = change(store) as Record<PropertyKey, unknown>;
  return new Proxy(store, {
    get(target, name) {
      const value = changed[name] ?? (target as unknown as Record<PropertyKey, unknown>)[name];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** A twin whose shard is this one. */
function twinOf(shard: number, shards: number): string {
  for (let i = 0; ; i++) if (shardOf(`pump:t${i}`, shards) === shard) return `pump:t${i}`;
}

describe('a handoff', () => {
  it('gives a node that joins its share, and a node that stops away, without waiting for a round', async () => {
    const ledger = await openLedger(MANY);
    const a = await join('a', ledger);
    await until(() => owned(a.host) === MANY, 'all shards');
    const twins = Array.from({ length: 200 }, (_, i) => `pump:${i}`);
    await Promise.all(twins.map((twinId) => create(a.host, twinId)));
    const b = await join('b', ledger);
    await until(() => owned(b.host) > MANY / 4 && owned(a.host) + owned(b.host) === MANY, 'the share of b');
    const share = owned(b.host);
    const c = await join('c', ledger);
    await until(() => owned(c.host) > MANY / 6 && owned(a.host) + owned(b.host) + owned(c.host) === MANY, 'of c');
    expect(owned(b.host)).toBeLessThan(share);
    await a.host.stop();
    await until(() => owned(b.host) + owned(c.host) === MANY, 'what a had');
    const views = await Promise.all(
      twins.map(async (twinId) => {
        const { owner } = ledger.shards()[shardOf(twinId, MANY)];
        return (owner === 'b' ? b : c).host.get(twinId);
      }),
    );
    expect(views.map(({ attributes }) => attributes)).toEqual(twins.map(() => ({ place: 'here' })));
    expect(ledger.shards().every(({ snapshotFloor, commitNo }) => snapshotFloor === commitNo)).toBe(true);
  });

  it('moves a few shards at a time; those whose turn has not come serve', async () => {
    const ledger = await openLedger(MANY);
    const releases: number[] = [];
    let free = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      free = resolve;
    });
    const store = over(ledger, (own) => ({
      async release(node, shards) {
        releases.push(shards.length);
        await held;
        return own.release(node, shards);
      },
    }));
    const a = await run(store, { node: 'a', ttlMs: TTL_MS, shards: MANY });
    running.push(a);
    await until(() => owned(a.host) === MANY, 'all shards');
    await Promise.all(Array.from({ length: MANY }, (_, shard) => create(a.host, twinOf(shard, MANY))));
    const stopping = a.host.stop();
    await until(() => releases.length > 0, 'the first release');
    expect(releases.reduce((sum, n) => sum + n)).toBeLessThanOrEqual(AT_ONCE);
    expect(owned(a.host)).toBeGreaterThanOrEqual(MANY - AT_ONCE);
    for (const shard of a.host.custody.shards.values()) {
      if (!shard.draining) expect(await a.host.get(twinOf(shard.shard, MANY))).toMatchObject({ revision: 1 });
    }
    free();
    await stopping;
    expect(Math.max(...releases)).toBeLessThanOrEqual(AT_ONCE);
    expect(ledger.shards().every(({ owner }) => owner === null)).toBe(true);
  });

  it('does not let shards pile up for a node that takes none', async () => {
    const ledger = await openLedger(MANY);
    // it beats, and that is all
    ledger.beat('b');
    const a = await join('a', ledger);
    const lying = (): number => ledger.shards().filter(({ owner }) => owner === null).length;
    await until(() => owned(a.host) > 0 && a.host.status().shards.recovering === 0, 'the share of a');
    const before = lying();
    expect(before).toBeGreaterThan(AT_ONCE);
    // another one that takes none: what a holds for it stays with a but for a few
    ledger.beat('a0');
    for (let i = 0; i < 20; i++) {
      a.host.nudge();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(lying() - before).toBeGreaterThan(0);
    expect(lying() - before).toBeLessThan(2 * AT_ONCE);
  });

  it('writes snapshots while the shard still serves, so that little is left for its last commit', async () => {
    const ledger = await openLedger(1);
    const cuts: Cut[] = [];
    const store = over(ledger, (own) => ({
      commit(cut) {
        cuts.push(cut);
        return own.commit(cut);
      },
    }));
    const a = await run(store, { node: 'a', ttlMs: TTL_MS, shards: 1 });
    running.push(a);
    await until(() => owned(a.host) === 1, 'the shard');
    await Promise.all(Array.from({ length: 500 }, (_, i) => create(a.host, `pump:${i}`)));
    await until(() => [...a.host.custody.shards.values()].every(({ inFlight }) => inFlight === null), 'rest');
    cuts.length = 0;
    await a.host.stop();
    expect(cuts.length).toBeGreaterThan(1);
    expect(cuts.flatMap(({ snapshots }) => snapshots)).toHaveLength(500);
    expect(cuts.at(-1)!.snapshots.length).toBeLessThanOrEqual(16);
    expect(ledger.shards()[0]).toMatchObject({ owner: null, snapshotFloor: ledger.shards()[0].commitNo });
  });

  it('answers reads until the shard is released, and refuses commands from its last part on', async () => {
    const ledger = await openLedger(1);
    let hold: Promise<void> | null = null;
    let free = (): void => undefined;
    const store = over(ledger, (own) => ({
      async commit(cut) {
        if (hold) await hold;
        return own.commit(cut);
      },
    }));
    const a = await run(store, { node: 'a', ttlMs: TTL_MS, shards: 1, summaryEveryMs: 600_000 });
    running.push(a);
    await until(() => owned(a.host) === 1, 'the shard');
    await create(a.host, 'pump:1');
    await create(a.host, 'pump:2');
    hold = new Promise((resolve) => {
      free = resolve;
    });
    const stopping = a.host.stop();
    await until(() => a.host.custody.shards.get(0)?.sealed === true, 'the last part');
    expect(await a.host.get('pump:1')).toMatchObject({ revision: 1 });
    await expect(create(a.host, 'pump:1', 'there')).rejects.toMatchObject({ code: 'not_owner' });
    free();
    await stopping;
    await expect(a.host.get('pump:1')).rejects.toMatchObject({ code: 'not_owner' });
    expect(await a.host.last('pump:1')).toMatchObject({ revision: 1, attributes: { place: 'here' } });
  });

  it('ends a stop although a shard was refused for its newer snapshots', async () => {
    const ledger = await openLedger(2);
    const newer = over(ledger, (own) => ({
      async loadTail(shard) {
        if (shard === 0) throw new TwinmeshError('newer_snapshot', 'from tomorrow');
        return own.loadTail(shard);
      },
      async shards() {
        return (await own.shards()).map((row) => ({ ...row, snapshotFloor: -1 }));
      },
      async claim(node, wanted) {
        return (await own.claim(node, wanted)).map((row) => ({ ...row, snapshotFloor: -1 }));
      },
    }));
    const a = await run(newer, { node: 'a', ttlMs: TTL_MS, shards: 2 });
    running.push(a);
    await until(() => owned(a.host) === 1 && ledger.shards()[0].owner === null, 'the shard that can be read');
    const { epoch } = ledger.shards()[0];
    for (let i = 0; i < 5; i++) {
      a.host.nudge();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await a.host.stop();
    expect(ledger.shards()[0]).toMatchObject({ owner: null, epoch });
  });
});

describe('a drained node', () => {
  it('owns and claims nothing, answers not_owner, and takes its share again when it is undrained', async () => {
    const ledger = await openLedger(MANY);
    const a = await join('a', ledger);
    const b = await join('b', ledger);
    const share = ledger.shards().filter(({ shard }) => wantedOwner(shard, ['a', 'b']) === 'a').length;
    await until(() => owned(a.host) === share && owned(b.host) === MANY - share, 'both have their share');
    const mine = ledger.shards().find(({ owner }) => owner === 'a')!;
    const twinId = twinOf(mine.shard, MANY);
    await create(a.host, twinId);
    await a.host.drain();
    expect(a.host.status()).toMatchObject({ state: 'drained', shards: { owned: 0, draining: 0, easing: 0 } });
    expect(a.host.living()).toEqual(['b']);
    await until(() => owned(b.host) === MANY, 'b has all');
    expect(b.host.living()).toEqual(['b']);
    expect(b.host.ownership().every(({ owner }) => owner === 'b')).toBe(true);
    await expect(a.host.get(twinId)).rejects.toMatchObject({ code: 'not_owner' });
    expect(await b.host.get(twinId)).toMatchObject({ revision: 1 });
    // while it lives, nobody takes it for gone
    expect(ledger.nodes()).toMatchObject([
      { node: 'a', leaving: true },
      { node: 'b', leaving: false },
    ]);
    await a.host.undrain();
    b.host.nudge();
    await until(() => owned(a.host) === share && owned(b.host) === MANY - share, 'its share again');
    expect(a.host.status().state).toBe('running');
    expect(await a.host.get(twinId)).toMatchObject({ revision: 1 });
  });

  it('may be undrained or stopped while it drains', async () => {
    const ledger = await openLedger(MANY);
    let slow = true;
    const a = await run(
      over(ledger, (own) => ({
        async release(node, shards) {
          while (slow) await new Promise((resolve) => setTimeout(resolve, 2));
          return own.release(node, shards);
        },
      })),
      { node: 'a', ttlMs: TTL_MS, shards: MANY },
    );
    running.push(a);
    await until(() => owned(a.host) === MANY, 'all shards');
    const draining = a.host.drain();
    await until(() => owned(a.host) < MANY, 'the first release');
    expect(a.host.status().state).toBe('draining');
    await a.host.undrain();
    await draining;
    slow = false;
    await until(() => owned(a.host) === MANY, 'all shards again');
    slow = true;
    const again = a.host.drain();
    await until(() => owned(a.host) < MANY, 'the first release');
    slow = false;
    await a.host.stop();
    await again;
    expect(a.host.status().state).toBe('stopped');
    expect(ledger.shards().every(({ owner }) => owner === null)).toBe(true);
  });
});

describe('a drain while the store is away', () => {
  it('is given up after the patience it was given, and the stop after it too', async () => {
    const ledger = await openLedger(MANY);
    let away = false;
    const gone =
      <Args extends unknown[], T>(call: (...args: Args) => Promise<T>) =>
      (...args: Args): Promise<T> =>
        away ? Promise.reject(new TwinmeshError('store_down', 'away')) : call(...args);
    const a = await run(
      over(ledger, (own) => ({
        beat: gone(own.beat.bind(own)),
        shards: gone(own.shards.bind(own)),
        commit: gone(own.commit.bind(own)),
        release: gone(own.release.bind(own)),
      })),
      { node: 'a', ttlMs: TTL_MS, shards: MANY },
    );
    running.push(a);
    await until(() => owned(a.host) === MANY, 'all shards');
    await create(a.host, twinOf(0, MANY));
    away = true;
    await a.host.drain(100);
    expect(a.host.status()).toMatchObject({ state: 'draining', stale: { reason: 'store down' } });
    await a.host.stop();
    expect(a.host.status().state).toBe('stopped');
    away = false;
  });
});

describe('recovery', () => {
  it('brings back a bounded number of shards at once, those first that somebody asks for', async () => {
    const ledger = await openLedger(MANY);
    const begun: number[] = [];
    const waiting: (() => void)[] = [];
    let open = false;
    const store = over(ledger, (own) => ({
      async cursors(sink, shards) {
        if (sink === '~suspect' && !open) {
          begun.push(shards[0]);
          await new Promise<void>((resolve) => waiting.push(resolve));
        }
        return own.cursors(sink, shards);
      },
    }));
    const a = await run(store, { node: 'a', ttlMs: TTL_MS, shards: MANY });
    running.push(a);
    await until(() => begun.length > 0, 'the first recoveries');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(begun).toHaveLength(8);
    expect(a.host.status().shards).toMatchObject({ owned: 0, recovering: MANY });
    const asked = [50, 40].map((shard) => twinOf(shard, MANY));
    for (const twinId of asked) await expect(a.host.get(twinId)).rejects.toMatchObject({ code: 'unavailable' });
    waiting.shift()!();
    waiting.shift()!();
    await until(() => begun.length === 10, 'the next two');
    expect(begun.slice(8)).toEqual([50, 40]);
    open = true;
    for (const resume of waiting) resume();
    await until(() => owned(a.host) === MANY, 'all shards');
    expect(a.host.status().shards.recovering).toBe(0);
  });
});

describe('while the store takes nothing', () => {
  it('shows of each twin that waits what was committed before, though the store cannot be read', async () => {
    const ledger = await openLedger(SHARDS);
    let down = false;
    const fail = (): void => {
      if (down) throw new TwinmeshError('store_down', 'connection refused');
    };
    const store = over(ledger, (own) => ({
      async commit(cut) {
        fail();
        return own.commit(cut);
      },
      async loadTwins(shard, twinIds) {
        fail();
        return own.loadTwins(shard, twinIds);
      },
    }));
    const a = await run(store, { node: 'a', ttlMs: TTL_MS });
    running.push(a);
    await until(() => owned(a.host) === SHARDS, 'all shards');
    const ids = ['early', 'late', 'both'];
    await a.send(ids.map((id) => reading(id, 0, { heat: 95, flow: 1 })));
    const views = new Map<string, TwinView>();
    for (const id of ids) views.set(id, await a.host.get(`pump:${id}`));
    down = true;
    const more = [a.send([reading('early', 1000, { heat: 20, flow: 2 }), reading('both', 1000, { flow: 2 })])];
    await until(() => a.host.status().stale?.reason === 'store down', 'the failure');
    more.push(a.send([reading('late', 1000, { flow: 2 }), reading('both', 2000, { flow: 3 })]));
    await until(
      () =>
        [...a.host.custody.shards.values()].every(({ twins }) =>
          [...twins.values()].every(({ part }) => part !== null),
        ),
      'the folds',
    );
    for (const id of ids) {
      await expect(a.host.get(`pump:${id}`)).rejects.toMatchObject({ code: 'unavailable' });
      const view = await a.host.last(`pump:${id}`);
      expect(view.stale).toMatchObject({ reason: 'store down' });
      expect({ ...view, stale: null }).toEqual(views.get(id));
    }
    // not in memory: nobody can say
    await expect(a.host.last('pump:other')).rejects.toMatchObject({ code: 'store_down' });
    down = false;
    await Promise.all(more);
    expect(await a.host.get('pump:both')).toMatchObject({ revision: 3, reported: { flow: 3 }, stale: null });
  });

  it('says so no longer when it answers again, though there is no work', async () => {
    const ledger = await openLedger(1);
    let down = false;
    const store = over(ledger, (own) => ({
      async shards() {
        if (down) throw new TwinmeshError('store_down', 'connection refused');
        return own.shards();
      },
    }));
    const a = await run(store, { node: 'a', ttlMs: 400, shards: 1 });
    running.push(a);
    await until(() => owned(a.host) === 1, 'the shard');
    down = true;
    await until(() => a.host.status().stale?.reason === 'store down', 'the failure');
    down = false;
    await until(() => a.host.status().stale === null, 'the end of it');
  });
});

describe('a node whose beat hangs', () => {
  it('answers no reads and takes no commands before others may take over, but the last that it knows', async () => {
    const ledger = await openLedger(1);
    let hangs = false;
    const store = over(ledger, (own) => ({
      async beat(node, leaving) {
        if (hangs) await new Promise(() => undefined);
        return own.beat(node, leaving);
      },
    }));
    const a = await run(store, { node: 'a', ttlMs: 400, shards: 1 });
    running.push(a);
    await until(() => owned(a.host) === 1, 'the shard');
    await create(a.host, 'pump:1');
    hangs = true;
    await until(() => !a.host.standing.serving, 'the silence');
    await expect(a.host.get('pump:1')).rejects.toMatchObject({ code: 'unavailable' });
    await expect(create(a.host, 'pump:1', 'there')).rejects.toMatchObject({ code: 'unavailable' });
    expect(await a.host.last('pump:1')).toMatchObject({ revision: 1, stale: { since: expect.any(String) } });
  });
});

describe('the log', () => {
  it('is told by one node what all shards have committed', async () => {
    const ledger = await openLedger(MANY);
    const told: { node: string; positions: LogPosition[]; reserve: number }[] = [];
    const logged = async (node: string): Promise<Running> => {
      const { MemoryLog } = await import('../../../actors/log/memory.ts');
      const { systemClock } = await import('../../../actors/protocol/clock.ts');
      const log = Object.assign(new MemoryLog({ clock: systemClock, maxReadings: 100 }), {
        async trim(positions: Iterable<LogPosition>, reserve: number) {
          told.push({ node, positions: [...positions], reserve });
        },
      });
      return join(node, ledger, { log, logReserveMessages: 7 });
    };
    const rows = ledger.shards().map(({ shard }) => ({ shard, owner: null, epoch: 0 }));
    ledger.claim('before', rows.slice(0, 1));
    ledger.commit({
      node: 'before',
      shards: [
        { shard: 0, epoch: 1, commitNo: 0, position: 9, positionId: 'm9', positionAt: 5, eventSeq: 0, clean: true },
      ],
      ...{ readings: [], entries: [], events: [], snapshots: [], summaries: [], deadLetters: [], cursors: [] },
    });
    ledger.beat('a');
    await logged('b');
    await logged('a');
    await until(() => told.length > 0, 'the log is told');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ node: 'a', reserve: 7 });
    expect(told[0].positions).toHaveLength(MANY);
    expect(told[0].positions[0]).toMatchObject({ shard: 0, position: 9, positionId: 'm9', positionAt: 5 });
  });
});
