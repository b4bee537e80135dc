import { describe, expect, it } from 'vitest';
import { CommitAborted } from '../../actors/store/port.ts';
import type { Fresh, Opened } from './store.ts';
import { entry, event, key, reading, snapshot, summary, T0, tick, Writer } from './store-sample.ts';

/** S1 to S4 and S6: what lands, what does not. */
export function storeFence(fresh: Fresh): void {
  /** Everything a cut can have for one shard, of twin `key(shard)` at `revision`. */
  function everything(shard: number, revision: number) {
    const twin = key(shard);
    return {
      readings: [reading(twin, revision), reading(twin, null, { at: T0 - revision })],
      entries: [tick(twin, revision + 1)],
      events: [
        event(twin, revision, revision),
        event(twin, revision + 1, revision, {
          type: 'alert.raised',
          body: { alertId: `alert-${shard}-${revision}`, rule: 'high', severity: 'high', message: 'm' },
        }),
      ],
      snapshots: [snapshot(twin, revision)],
      summaries: [summary(twin, revision)],
      deadLetters: [
        { shard, twinId: 'meter:x', code: 'poison', message: 'm', source: 'test', receivedAt: T0, payload: '{}' },
      ],
      cursors: [{ sink: 'sink', shard, seq: revision }],
    };
  }

  function both(a: ReturnType<typeof everything>, b: ReturnType<typeof everything>) {
    return Object.fromEntries(
      Object.keys(a).map((part) => [part, [...a[part as 'readings'], ...b[part as 'readings']]]),
    );
  }

  /** What can be seen of a shard, from outside. */
  async function seen({ store, peek }: Opened, shard: number) {
    const twin = key(shard);
    const twinId = summary(twin, 1).twinId;
    return {
      row: (await store.shards())[shard],
      twins: await store.loadTwins(shard, [twinId]),
      journal: await store.journal({ twin, twinId }, 0, 100),
      backfill: await store.lookup(
        'meter',
        [1, 2, 3].map((n) => ({ twin, at: T0 - n })),
      ),
      events: await store.events(shard, 0, 100),
      cursors: await store.cursors('sink', [shard]),
      alerts: (await peek.alerts()).filter((row) => String(row.alertId).startsWith(`alert-${shard}-`)),
      snapshots: await peek.snapshots(twin),
      summaries: (await peek.summaries()).filter((row) => row.shard === shard),
    };
  }

  describe('claim and release', () => {
    it('S3: takes a shard on (owner, epoch) and moves the epoch by one', async () => {
      const { store } = await fresh();
      const [row] = await store.claim('a', [{ shard: 2, owner: null, epoch: 0 }]);
      expect(row).toMatchObject({ shard: 2, owner: 'a', epoch: 1, attempts: 1, commitNo: 0 });
      expect((await store.shards())[2]).toEqual(row);
    });

    it('S3: leaves out what has another owner or epoch, and takes the rest', async () => {
      const { store } = await fresh();
      await store.claim('a', [{ shard: 1, owner: null, epoch: 0 }]);
      const claimed = await store.claim('b', [
        { shard: 3, owner: null, epoch: 0 },
        { shard: 1, owner: null, epoch: 0 },
        { shard: 0, owner: null, epoch: 7 },
        { shard: 2, owner: 'c', epoch: 0 },
      ]);
      expect(claimed.map((row) => [row.shard, row.owner, row.epoch])).toEqual([[3, 'b', 1]]);
      const [taken] = await store.claim('b', [{ shard: 1, owner: 'a', epoch: 1 }]);
      expect(taken).toMatchObject({ owner: 'b', epoch: 2, attempts: 2 });
    });

    it('S3: of claimants at once only one gets the shard', async () => {
      const { store, another } = await fresh();
      const other = another();
      await other.open([], 8);
      const wanted = [0, 1, 2, 3, 4, 5, 6, 7].map((shard) => ({ shard, owner: null, epoch: 0 }));
      const taken = await Promise.all(
        [store, other, store, other].map((node, i) => node.claim(`n${i}`, i % 2 ? [...wanted].reverse() : wanted)),
      );
      expect(taken.flat().map((row) => row.shard)).toHaveLength(8);
      expect((await store.shards()).every((row) => row.epoch === 1)).toBe(true);
    });

    it('counts attempts until there is progress', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.claim(0);
      expect((await writer.claim(0))[0].attempts).toBe(3);
      await writer.commit([0]);
      expect((await store.shards())[0].attempts).toBe(0);
    });

    it('releases only what the node still has', async () => {
      const { store } = await fresh();
      const a = new Writer(store, 'a');
      await a.claim(0, 1, 2);
      await new Writer(store, 'b').claim(1);
      await store.release('a', [
        { shard: 0, epoch: 1 },
        { shard: 1, epoch: 1 },
        { shard: 2, epoch: 0 },
        { shard: 3, epoch: 0 },
      ]);
      expect((await store.shards()).slice(0, 4).map((row) => row.owner)).toEqual([null, 'b', 'a', null]);
      expect((await store.shards())[0].epoch).toBe(1);
    });

    it('takes empty lists', async () => {
      const { store } = await fresh();
      expect(await store.claim('a', [])).toEqual([]);
      await store.release('a', []);
      expect(await store.loadTwins(0, [])).toEqual([]);
      expect(await store.lookup('meter', [])).toEqual([]);
    });
  });

  describe('commit', () => {
    it('S1: lands with all its rows', async () => {
      const opened = await fresh();
      const writer = new Writer(opened.store, 'a');
      await writer.claim(1);
      expect(await writer.commit([1], everything(1, 1))).toEqual(new Set([1]));
      const now = await seen(opened, 1);
      expect(now.row).toMatchObject({ commitNo: 1, position: 1, positionId: 'm1', positionAt: T0, eventSeq: 2 });
      expect(now.journal.map((of) => [of.revision, of.type])).toEqual([
        [1, 'reading'],
        [2, 'tick'],
      ]);
      expect(now.backfill).toHaveLength(1);
      expect(now.events).toHaveLength(2);
      expect(now.cursors).toEqual(new Map([[1, 1]]));
      expect(now.alerts).toHaveLength(1);
      expect(now.snapshots).toEqual([1]);
      expect(now.summaries).toHaveLength(1);
      expect(await opened.peek.deadLetters()).toHaveLength(1);
    });

    it.each([
      ['another owner', { node: 'b' }, {}],
      ['an older epoch', {}, { epoch: 0 }],
      ['a newer epoch', {}, { epoch: 2 }],
      ['an older commit_no', {}, { commitNo: 0 }],
      ['a newer commit_no', {}, { commitNo: 2 }],
    ])('S1: leaves nothing of a shard with %s, and lands the other', async (_case, node, fence) => {
      const opened = await fresh();
      const { store, peek } = opened;
      const writer = new Writer(store, 'a');
      await writer.claim(4, 5);
      await writer.commit([4, 5], both(everything(4, 1), everything(5, 1)));
      const before = await seen(opened, 4);
      const cut = writer.cut([4, 5], both(everything(4, 3), everything(5, 3)));
      Object.assign(cut.shards[0], fence);
      if ('node' in node) {
        // The node itself is another one: then it owns nothing of the cut.
        expect(await store.commit({ ...cut, ...node })).toEqual(new Set());
        expect(await peek.deadLetters()).toHaveLength(2);
      } else {
        expect(await store.commit(cut)).toEqual(new Set([5]));
        const landed = await seen(opened, 5);
        expect(landed.row.commitNo).toBe(2);
        expect(landed.journal).toHaveLength(4);
        expect(await peek.deadLetters()).toHaveLength(3);
      }
      expect(await seen(opened, 4)).toEqual(before);
    });

    it('S1: drops rows of shards that are not part of the cut', async () => {
      const opened = await fresh();
      const writer = new Writer(opened.store, 'a');
      await writer.claim(0, 1);
      const before = await seen(opened, 1);
      expect(await writer.commit([0], both(everything(0, 1), everything(1, 1)))).toEqual(new Set([0]));
      expect(await seen(opened, 1)).toEqual(before);
    });

    it.each([
      ['nothing', {}],
      ['commands alone', { entries: [tick(key(2), 1)] }],
      ['cursors alone', { cursors: [{ sink: 's', shard: 2, seq: 9 }] }],
      ['readings alone', { readings: [reading(key(2), 1)] }],
    ])('S2: a commit of %s moves commit_no, so that the same commit cannot land twice', async (_case, rows) => {
      const opened = await fresh();
      const writer = new Writer(opened.store, 'a');
      await writer.claim(2);
      const cut = writer.cut([2], rows);
      expect(await opened.store.commit(cut)).toEqual(new Set([2]));
      const once = await seen(opened, 2);
      expect(once.row.commitNo).toBe(1);
      expect(await opened.store.commit(cut)).toEqual(new Set());
      expect(await seen(opened, 2)).toEqual(once);
    });

    it('S1: a commit from before a claim does not land after it', async () => {
      const opened = await fresh();
      const a = new Writer(opened.store, 'a');
      await a.claim(3);
      const late = a.cut([3], everything(3, 1));
      await a.claim(3);
      expect(await opened.store.commit(late)).toEqual(new Set());
      await new Writer(opened.store, 'b').claim(3);
      expect(await a.commit([3], everything(3, 1))).toEqual(new Set());
      expect((await seen(opened, 3)).journal).toEqual([]);
    });

    it('S4: an aborted commit leaves nothing, and its shards can go on', async () => {
      const opened = await fresh();
      const writer = new Writer(opened.store, 'a');
      await writer.claim(0, 1);
      await writer.commit([0, 1], both(everything(0, 1), everything(1, 1)));
      const before = [await seen(opened, 0), await seen(opened, 1)];
      // Revision 2 of the journal is there already.
      const clash = both(everything(0, 3), { ...everything(1, 3), entries: [tick(key(1), 2)] });
      await expect(writer.commit([0, 1], clash)).rejects.toBeInstanceOf(CommitAborted);
      expect([await seen(opened, 0), await seen(opened, 1)]).toEqual(before);
      expect(await writer.commit([0], everything(0, 3))).toEqual(new Set([0]));
    });

    it('S4: aborts on an event seq that is there, on a second key for a twin, and on a kind it was not opened with', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.commit([0], everything(0, 1));
      await expect(writer.commit([0], { events: [event(key(0), 1, 9)] })).rejects.toBeInstanceOf(CommitAborted);
      const impostor = summary(key(0, 2), 1, { twinId: summary(key(0), 1).twinId });
      await expect(writer.commit([0], { summaries: [impostor] })).rejects.toBeInstanceOf(CommitAborted);
      const unknown = reading(key(0), 3, { kind: 'nobody' });
      await expect(writer.commit([0], { readings: [unknown] })).rejects.toBeInstanceOf(CommitAborted);
      expect(await writer.commit([0])).toEqual(new Set([0]));
    });

    it('S5: another connection sees it as soon as it is answered', async () => {
      const { store, another } = await fresh();
      const other = another();
      await other.open([], 8);
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      for (let revision = 1; revision <= 20; revision++) {
        await writer.commit([0], { events: [event(key(0), revision, revision)] });
        expect(await other.events(0, revision - 1, 10)).toHaveLength(1);
      }
    });

    it('S6: the summary of a twin that is known to have one moves forward only, and only behind the fence', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0, 1);
      await writer.commit([0], { summaries: [summary(key(0), 5)] });
      await writer.commit([0], { summaries: [summary(key(0), 4, { known: true })] });
      expect((await peek.summaries())[0]).toEqual({ ...summary(key(0), 5) });
      // known ones and new ones in one cut
      await writer.commit([0, 1], {
        summaries: [summary(key(0), 6, { known: true, health: 'critical', reported: { flow: 3 } }), summary(key(1), 1)],
      });
      expect(await peek.summaries()).toMatchObject([
        { revision: 6, health: 'critical', reported: { flow: 3 } },
        { revision: 1 },
      ]);
      const late = new Writer(store, 'b');
      await late.claim(0);
      await writer.commit([0], { summaries: [summary(key(0), 9, { known: true })] });
      expect((await peek.summaries())[0].revision).toBe(6);
    });

    it('S6: summaries and cursors only move forward', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.commit([0], { summaries: [summary(key(0), 5)], cursors: [{ sink: 's', shard: 0, seq: 7 }] });
      await writer.commit([0], { summaries: [summary(key(0), 4)], cursors: [{ sink: 's', shard: 0, seq: 6 }] });
      expect((await peek.summaries())[0]).toEqual({ ...summary(key(0), 5) });
      expect(await store.cursors('s', [0, 1])).toEqual(new Map([[0, 7]]));
      await writer.commit([0], {
        summaries: [summary(key(0), 8), summary(key(0), 7)],
        cursors: [
          { sink: 's', shard: 0, seq: 9 },
          { sink: 's', shard: 0, seq: 8 },
          { sink: 't', shard: 0, seq: 1 },
        ],
      });
      expect((await peek.summaries())[0].revision).toBe(8);
      expect(await store.cursors('s', [0])).toEqual(new Map([[0, 9]]));
      expect(await store.cursors('t', [0])).toEqual(new Map([[0, 1]]));
    });

    it('takes what the cut held when it was sent, whatever becomes of it afterwards', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const row = reading(key(0), 1, { values: { flow: 1 }, attributes: { site: 'a' } });
      const command = { type: 'command', revision: 2, receivedAt: T0 } as const;
      const patch = { a: { b: 1 } };
      const state = new Uint8Array([1, 2, 3]);
      const sent = writer.commit([0], {
        readings: [row],
        entries: [entry(key(0), { ...command, command: { name: 'desired', key: 'k', by: 'me', patch } })],
        snapshots: [snapshot(key(0), 0, { state })],
        summaries: [summary(key(0), 2)],
      });
      row.values.flow = 99;
      row.attributes!.site = 'changed';
      patch.a.b = 99;
      state.fill(9);
      await sent;
      const [stored] = await store.loadTwins(0, [summary(key(0), 1).twinId]);
      expect(stored.snapshot?.state).toEqual(new Uint8Array([1, 2, 3]));
      expect(stored.tail[0]).toMatchObject({ reading: { values: { flow: 1 }, attributes: { site: 'a' } } });
      expect(stored.tail[1]).toMatchObject({ command: { patch: { a: { b: 1 } } } });
    });
  });
}
