import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { wantedOwner } from '../../../actors/placement/rendezvous.ts';
import type { Entry } from '../../../actors/protocol/entry.ts';
import type { TwinEvent } from '../../../actors/protocol/event.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { CommitAborted, OutcomeUnknown, type Store } from '../../../actors/store/port.ts';
import { type Bench, openBench, reading, run, SHARDS, T0, until } from './plant.ts';

let bench: Bench;
let store: Store;
let id = '';
let next = 0;
beforeAll(async () => {
  bench = await openBench();
  store = bench.store;
});
afterAll(() => bench.close());
beforeEach(() => {
  id = `p${++next}`;
});

const rows = async (asset: string) =>
  (
    await bench.sql.query<{ n: number }>(
      'select count(*)::int as n from pump_readings r join twins t using (twin) where t.twin_id = $1',
      [`pump:${asset}`],
    )
  )[0].n;

/** The store with some methods replaced. */
function withStore(over: Partial<Store>): Store {
  return new Proxy(store, {
    get(target, name) {
      const value =
        (over as Record<PropertyKey, unknown>)[name] ?? (target as unknown as Record<PropertyKey, unknown>)[name];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe('a host', () => {
  it('folds, recognises duplicates, refuses conflicts, stores what is too old as backfill once', async () => {
    const { host, send, stop } = await run(store);
    expect(
      await send([reading(id, 0, { flow: 1 }), reading(id, 1000, { flow: 2 }), reading(id, 1000, { heat: 2 })]),
    ).toEqual(['accepted', 'accepted', 'accepted']);
    expect(await send([reading(id, 1000, { flow: 2 }), reading(id, 1000, { flow: 3 })])).toEqual([
      'duplicate',
      'conflicting_duplicate',
    ]);
    const old = reading(id, -3_600_000, { flow: 9 });
    expect(await send([old, { ...old }])).toEqual(['backfill', 'duplicate']);
    expect(await send([{ ...old }, { ...old, values: { flow: 8 } }])).toEqual(['duplicate', 'conflicting_duplicate']);
    const view = await host.get(`pump:${id}`);
    expect(view).toMatchObject({
      revision: 3,
      reported: { flow: 2, heat: 2 },
      ingest: { accepted: 3, duplicate: 3, backfill: 1 },
    });
    expect(await rows(id)).toBe(4);
    await stop();
  });

  it('recognises a redelivery that crosses the floor within one cut', async () => {
    const { send, stop } = await run(store);
    expect(
      await send([reading(id, 0, { flow: 1 }), reading(id, 3_600_000, { flow: 2 }), reading(id, 0, { flow: 1 })]),
    ).toEqual(['accepted', 'accepted', 'duplicate']);
    await stop();
  });

  it('goes on after a stop from snapshots and after a kill from the tail, with the same state', async () => {
    let running = await run(store);
    for (let i = 0; i < 50; i++) await running.send([reading(id, i * 1000, { flow: i, heat: 20 })]);
    const before = await running.host.get(`pump:${id}`);
    running.host.kill();
    await running.log.close();
    running = await run(store);
    expect(await running.host.get(`pump:${id}`)).toEqual(before);
    expect(await running.send([reading(id, 49_000, { flow: 49, heat: 20 })])).toEqual(['duplicate']);
    await running.stop();
    const floors = await store.shards();
    expect(floors.every((s) => s.snapshotFloor === s.commitNo && s.owner === null)).toBe(true);
    running = await run(store);
    expect({ ...(await running.host.get(`pump:${id}`)), ingest: null }).toEqual({ ...before, ingest: null });
    expect(await running.send([reading(id, 49_000, { flow: 49, heat: 20 })])).toEqual(['duplicate']);
    await running.stop();
  });

  it('answers commands after their commit, once for each idempotency key', async () => {
    const { host, send, stop } = await run(store);
    await send([reading(id, 0, { flow: 1 })]);
    const command = { name: 'desired' as const, patch: { flow: 5 }, key: 'k1', by: 'anna' };
    const first = await host.command(`pump:${id}`, command);
    expect(first).toMatchObject({ revision: 2, repeated: false, view: { delta: { flow: 5 } } });
    expect(await host.command(`pump:${id}`, command)).toMatchObject({ revision: 2, repeated: true });
    await expect(host.command(`pump:${id}`, { ...command, key: 'k2' }, { expectedRevision: 1 })).rejects.toMatchObject({
      code: 'precondition_failed',
    });
    await expect(host.command(`pump:nobody${id}`, command)).rejects.toMatchObject({ code: 'not_found' });
    await expect(host.get(`pump:nobody${id}`)).rejects.toMatchObject({ code: 'not_found' });
    await expect(host.get('nokind:x')).rejects.toMatchObject({ code: 'unknown_kind' });
    await expect(host.command(`pump:${id}`, { ...command, key: 'k3' }, { deadlineMs: -1 })).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
    await host.command(`pump:${id}`, { name: 'retire', key: 'k4', by: 'anna' });
    expect(await send([reading(id, 5000, { flow: 1 })])).toEqual(['retired']);
    expect((await host.journal(`pump:${id}`, 0, 100)).map(({ type }) => type)).toEqual([
      'reading',
      'command',
      'command',
    ]);
    await stop();
  });

  it('shows watchers every committed entry once and in order', async () => {
    const { host, send, stop } = await run(store);
    const seen: Entry[] = [];
    const end = host.watch(`pump:${id}`, (entries) => seen.push(...entries));
    await Promise.all(Array.from({ length: 20 }, (_, i) => send([reading(id, i * 1000, { flow: i })])));
    expect(seen.map(({ revision }) => revision)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    end();
    await send([reading(id, 99_000, { flow: 1 })]);
    expect(seen).toHaveLength(20);
    await stop();
  });

  it('delivers events to a sink in order, at least once, also across a crash and a failing receiver', async () => {
    const got: TwinEvent[] = [];
    let failures = 2;
    const sink = {
      name: `sink-${id}`,
      async deliver(events: readonly TwinEvent[]) {
        if (failures-- > 0) throw new Error('receiver down');
        got.push(...events);
      },
    };
    let running = await run(store, {});
    running.host.addSink(sink);
    await running.stop();
    running = await runWith(sink);
    for (let i = 0; i < 6; i++) await running.send([reading(id, i * 1000, { heat: i % 2 === 0 ? 95 : 20 })]);
    running.host.kill();
    await running.log.close();
    running = await runWith(sink);
    await running.send([reading(id, 60_000, { heat: 99 })]);
    await until(
      () => got.filter((e) => e.twinId === `pump:${id}` && e.type === 'alert.raised').length >= 4,
      'the events',
    );
    const shard = shardOf(`pump:${id}`, SHARDS);
    const firsts = [...new Map(got.filter((e) => e.shard === shard).map((e) => [e.seq, e])).keys()];
    expect(firsts).toEqual([...firsts].sort((a, b) => a - b));
    for (let i = 1; i < firsts.length; i++) expect(firsts[i]).toBe(firsts[i - 1] + 1);
    await running.stop();

    async function runWith(s: typeof sink) {
      const { Host } = await import('../../../actors/runtime/host.ts');
      const start = Host.prototype.start;
      Host.prototype.start = async function (this: InstanceType<typeof Host>) {
        this.addSink(s);
        return start.call(this);
      };
      try {
        return await run(store);
      } finally {
        Host.prototype.start = start;
      }
    }
  });

  it('puts idle twins away after the commit of their snapshot and brings them back', async () => {
    const { host, send, stop } = await run(store, { passivateAfterMs: 50 });
    await send([reading(id, 0, { flow: 7, heat: 95 })]);
    await until(() => host.status().twins.resident === 0, 'passivation');
    expect(host.counters.passivations).toBeGreaterThan(0);
    expect(await send([reading(id, 0, { flow: 7, heat: 95 })])).toEqual(['duplicate']);
    const view = await host.get(`pump:${id}`);
    expect(view).toMatchObject({ revision: 1, reported: { flow: 7 }, alerts: [{ rule: 'hot' }] });
    await stop();
  });

  it('a memory bound puts the longest untouched away', async () => {
    const { host, send, stop } = await run(store, { maxResidentBytes: 1 });
    await send(Array.from({ length: 20 }, (_, i) => reading(`${id}-${i}`, 0, { flow: i })));
    await until(() => host.status().twins.resident === 0, 'passivation');
    expect(await host.get(`pump:${id}-7`)).toMatchObject({ reported: { flow: 7 } });
    await stop();
  });

  it('writes a tick when a twin wants one, also for a twin that is not in memory', async () => {
    const slow = await run(store, { passivateAfterMs: 30 });
    await slow.send([reading(id, 0, { flow: 1 })]);
    await until(() => slow.host.status().twins.resident === 0, 'passivation');
    await bench.sql.query('update twin_snapshots set wake_at = now() where twin_id = $1 and latest', [`pump:${id}`]);
    const ticks = slow.host.counters.ticks;
    // not due by its own state: woken, looked at, and left alone
    await until(() => slow.host.counters.activations > 1, 'waking');
    expect(slow.host.counters.ticks).toBe(ticks);
    await slow.stop();
  });

  it('condemns the reading whose turn throws and keeps the good ones beside it', async () => {
    const { host, log, send, stop } = await run(store);
    await send([reading(id, 0, { flow: 1 })]);
    const bomb = reading(id, 2000, { flow: 3 });
    Object.defineProperty(bomb, 'attributes', {
      enumerable: true,
      get() {
        if (new Error().stack?.includes('turn.ts')) throw new Error('boom');
        return undefined;
      },
    });
    const shard = shardOf(`pump:${id}`, SHARDS);
    const appended = await log.append({
      shard,
      id: `bomb-${id}`,
      receivedAt: T0,
      readings: [reading(id, 1000, { flow: 2 }), bomb, reading(id, 3000, { flow: 4 })],
    });
    expect(appended.outcomes).toEqual(['accepted', 'poison', 'accepted']);
    expect(await host.get(`pump:${id}`)).toMatchObject({
      reported: { flow: 4 },
      ingest: { accepted: 3 },
      stale: { reason: 'poison' },
    });
    const letters = await bench.sql.query('select code, message from dead_letters where twin_id = $1', [`pump:${id}`]);
    expect(letters).toEqual([{ code: 'poison', message: 'Folding this reading failed: boom' }]);
    await stop();
  });

  it('finds the one reading that the store refuses, cut by cut smaller, and stores all others', async () => {
    const refused = -777;
    const picky = withStore({
      async commit(cut) {
        if (cut.readings.some(({ values }) => values.flow === refused)) throw new CommitAborted('value out of range');
        return store.commit(cut);
      },
    });
    const { host, send, stop } = await run(picky);
    const readings = Array.from({ length: 30 }, (_, i) =>
      reading(`${id}-${i % 10}`, i * 1000, { flow: i === 17 ? refused : i }),
    );
    const outcomes = await send(readings);
    expect(outcomes.map((o, i) => (i === 17 ? o === 'poison' : o === 'accepted' || o === 'duplicate'))).not.toContain(
      false,
    );
    expect(host.counters.aborted).toBeGreaterThan(1);
    for (let i = 0; i < 10; i++) expect(await rows(`${id}-${i}`)).toBe(i === 7 ? 2 : 3);
    await stop();
  });

  it('after a commit of unknown outcome, landed or not, nothing is lost or doubled', async () => {
    for (const lands of [true, false]) {
      let armed = true;
      const shaky = withStore({
        async commit(cut) {
          if (armed && cut.readings.length > 0) {
            armed = false;
            if (lands) await store.commit(cut);
            throw new OutcomeUnknown('connection lost');
          }
          return store.commit(cut);
        },
      });
      const { host, send, stop } = await run(shaky);
      const name = `${id}-${lands}`;
      expect(await send([reading(name, 0, { flow: 1 }), reading(name, 1000, { flow: 2 })])).toEqual([
        'accepted',
        'accepted',
      ]);
      expect(await host.get(`pump:${name}`)).toMatchObject({ revision: 2, reported: { flow: 2 } });
      expect(await rows(name)).toBe(2);
      expect(host.counters.unknownOutcomes).toBe(1);
      await stop();
    }
  });

  it('waits for a store that is down, says so, and goes on', async () => {
    const { TwinmeshError } = await import('../../../actors/protocol/errors.ts');
    let down = false;
    const flaky = withStore({
      async commit(cut) {
        if (down) throw new TwinmeshError('store_down', 'connection refused');
        return store.commit(cut);
      },
    });
    const { host, send, stop } = await run(flaky);
    await send([reading(id, 0, { flow: 1 })]);
    down = true;
    const waiting = send([reading(id, 1000, { flow: 2 })]);
    await until(() => host.status().stale?.reason === 'store down', 'stale');
    await expect(host.get(`pump:${id}`)).rejects.toMatchObject({ code: 'unavailable' });
    expect(await host.last(`pump:${id}`)).toMatchObject({
      revision: 1,
      reported: { flow: 1 },
      stale: { reason: 'store down' },
    });
    down = false;
    expect(await waiting).toEqual(['accepted']);
    await until(() => host.status().stale === null, 'recovery');
    await stop();
  });

  it('says that ingest is paused for as long as it is', async () => {
    const { host, send, stop } = await run(store);
    await send([reading(id, 0, { flow: 1 })]);
    let since: number | null = T0;
    host.followIngest(() => since);
    expect((await host.get(`pump:${id}`)).stale).toMatchObject({
      reason: 'ingest paused',
      since: new Date(T0).toISOString(),
    });
    since = null;
    expect((await host.get(`pump:${id}`)).stale).toBeNull();
    await stop();
  });

  it('a new tuning reaches each twin as an entry before its next fold', async () => {
    const { host, send, stop } = await run(store);
    await send([reading(id, 0, { heat: 50 })]);
    host.setTuning('pump', { version: 1, latenessMs: 600_000, rules: { hot: { above: 40 } } });
    await send([reading(id, 1000, { heat: 50 })]);
    expect(await host.get(`pump:${id}`)).toMatchObject({ alerts: [{ rule: 'hot' }] });
    expect((await host.journal(`pump:${id}`, 0, 10)).map(({ type }) => type)).toEqual(['reading', 'tuning', 'reading']);
    await stop();
  });
});

describe('two hosts', () => {
  it('share the shards, hand over, and take over from the dead', async () => {
    const one = await run(store, { node: 'one', ttlMs: 400 });
    await until(() => one.host.status().shards.owned === SHARDS, 'all shards');
    await one.send([reading(id, 0, { flow: 1 })]);
    const shards = Array.from({ length: SHARDS }, (_, i) => i);
    const name = ['two', 'three', 'four', 'five', 'six'].find(
      (n) => new Set(shards.map((s) => wantedOwner(s, ['one', n]))).size === 2,
    )!;
    const two = await run(store, { node: name, ttlMs: 400 });
    await until(
      () =>
        two.host.status().shards.owned > 0 &&
        one.host.status().shards.owned + two.host.status().shards.owned === SHARDS,
      'the handoff',
    );
    const owners = new Set((await store.shards()).map(({ owner }) => owner));
    expect(owners).toEqual(new Set(['one', name]));
    one.host.kill();
    await one.log.close();
    await until(() => two.host.status().shards.owned === SHARDS, 'the takeover');
    expect(await two.host.get(`pump:${id}`)).toMatchObject({ revision: 1, reported: { flow: 1 } });
    await two.stop();
  });

  it('an owner that lost its shard commits nothing more of it', async () => {
    const one = await run(store, { node: 'one', ttlMs: 60_000 });
    await until(() => one.host.status().shards.owned === SHARDS, 'all shards');
    await one.send([reading(id, 0, { flow: 1 })]);
    const all = await store.shards();
    const taken = await store.claim(
      'thief',
      all.map(({ shard, owner, epoch }) => ({ shard, owner, epoch })),
    );
    expect(taken).toHaveLength(SHARDS);
    const late = one.send([reading(id, 1000, { flow: 2 })]);
    late.catch(() => {});
    await until(() => one.host.counters.fenced > 0, 'the fence');
    expect(await rows(id)).toBe(1);
    await expect(one.host.get(`pump:${id}`)).rejects.toMatchObject({ code: 'not_owner' });
    expect(await one.host.last(`pump:${id}`)).toMatchObject({
      revision: 1,
      reported: { flow: 1 },
      stale: { reason: 'not owner' },
    });
    await expect(one.host.last(`pump:nobody${id}`)).rejects.toMatchObject({ code: 'not_found' });
    one.host.kill();
    await one.log.close();
    await store.release(
      'thief',
      taken.map(({ shard, epoch }) => ({ shard, epoch })),
    );
  });
});
