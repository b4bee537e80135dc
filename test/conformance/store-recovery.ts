import { describe, expect, it } from 'vitest';
import type { Entry } from '../../actors/protocol/entry.ts';
import { SNAPSHOT_KEEP_EVERY } from '../../actors/store/port.ts';
import type { Fresh } from './store.ts';
import { entry, event, key, reading, snapshot, summary, T0, tick, twinIdOf, Writer } from './store-sample.ts';

/** Numbers that a careless encoding changes. */
const NUMBERS = [
  0.1 + 0.2,
  1 / 3,
  5e-324,
  2.2250738585072014e-308,
  1.7976931348623157e308,
  -1.7976931348623157e308,
  1e21,
  1e-7,
  123456789.12345679,
  Number.MAX_SAFE_INTEGER,
  4.35,
  0,
];

/** Text that a careless encoding breaks. */
const TEXTS = ['', 'plain', `it's "quoted" \\ {1,2,NULL}`, 'NULL', 'ünïcödé 🌡️ 日本', 'tab\tline\nend', '$1'];

export function storeRecovery(fresh: Fresh): void {
  describe('recovery', () => {
    it('gives readings back bit by bit', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const rows = NUMBERS.map((value, i) =>
        reading(key(0), i + 1, { values: { flow: value, level: -value || 0 }, at: T0 + i }),
      );
      await writer.commit([0], { readings: rows, summaries: [summary(key(0), rows.length)] });
      const [{ tail }] = await store.loadTail(0);
      expect(tail).toHaveLength(NUMBERS.length);
      tail.forEach((of, i) => {
        expect(of.type === 'reading' && Object.is(of.reading.values.flow, NUMBERS[i])).toBe(true);
      });
    });

    it('gives every kind of entry back as it was journaled', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(1);
      const twin = key(1);
      const readings = [
        reading(twin, 1, { values: { level: 2 } }),
        ...TEXTS.map((text, i) =>
          reading(twin, 2 + i, { key: text, sensor: text, seq: 2 ** 40 + i, attributes: { z: text, a: i, on: true } }),
        ),
      ];
      const next = 2 + TEXTS.length;
      const hostile = JSON.parse('{"__proto__": {"x": 1}, "b": [1, null, {"c": "é"}], "a": 1e300}');
      const stamp = (i: number) => ({ revision: next + i, receivedAt: T0 + i });
      const others: Exclude<Entry, { type: 'reading' }>[] = [
        { type: 'tick', ...stamp(0) },
        { type: 'command', ...stamp(1), command: { name: 'desired', key: 'k1', by: 'ann', patch: hostile } },
        { type: 'command', ...stamp(2), command: { name: 'silence', key: 'k2', by: 'ann', alert: 'x', untilMs: T0 } },
        {
          type: 'command',
          ...stamp(3),
          command: { name: 'attributes', key: 'k3', by: 'b', patch: { a: null, b: 'c', d: false } },
        },
        {
          type: 'tuning',
          ...stamp(4),
          tuning: { version: 3, latenessMs: 600_000, rules: { hot: { above: 80.5, severity: 'critical' } } },
        },
        { type: 'prediction', ...stamp(5), name: 'anomaly', basedOn: 3, prediction: { score: 0.087, parts: [1, 2] } },
      ];
      await writer.commit([1], {
        readings,
        entries: others.map((of) => entry(twin, of)),
        summaries: [summary(twin, next + 5)],
      });
      const expected: Entry[] = [
        ...readings.map(
          (row): Entry => ({
            type: 'reading',
            revision: row.revision!,
            receivedAt: row.receivedAt,
            reading: {
              kind: 'meter',
              id: 'T-1-1',
              at: row.at,
              values: row.values,
              ...(row.key === null
                ? {}
                : { key: row.key, seq: row.seq!, sensor: row.sensor!, attributes: row.attributes! }),
            },
          }),
        ),
        ...others,
      ];
      const [stored] = await store.loadTail(1);
      expect(stored).toMatchObject({ twin, twinId: 'meter:T-1-1', shard: 1, snapshot: null });
      expect(stored.tail).toStrictEqual(expected);
      expect(await store.loadTwins(1, ['meter:T-1-1'])).toStrictEqual([stored]);
      expect(await store.journal({ twin, twinId: 'meter:T-1-1' }, 0, 100)).toStrictEqual(expected);
      // Replay may depend on the order of keys.
      const [, second] = stored.tail;
      expect(second.type === 'reading' && Object.keys(second.reading.attributes!)).toEqual(['z', 'a', 'on']);
      const desired = stored.tail[next];
      expect(desired.type === 'command' && 'patch' in desired.command && Object.keys(desired.command.patch)).toEqual([
        '__proto__',
        'b',
        'a',
      ]);
    });

    it('puts the metrics of one reading together again where they are open', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(2);
      const twin = key(2);
      const more = { kind: 'probe', unit: 'C', sensor: 's' };
      await writer.commit([2], {
        readings: [
          reading(twin, 1, { ...more, values: { 'b.x': 1.5, a: 2, C: 3 }, key: 'k' }),
          reading(twin, 3, { ...more, values: { a: 4 }, at: T0 + 1000 }),
        ],
        entries: [tick(twin, 2)],
        summaries: [summary(twin, 3, { kind: 'probe' })],
      });
      const [{ tail }] = await store.loadTail(2);
      expect(tail).toStrictEqual([
        {
          type: 'reading',
          revision: 1,
          receivedAt: T0 + 1005,
          reading: {
            kind: 'probe',
            id: 'T-2-1',
            at: T0 + 1000,
            values: { C: 3, a: 2, 'b.x': 1.5 },
            key: 'k',
            sensor: 's',
            unit: 'C',
          },
        },
        { type: 'tick', revision: 2, receivedAt: T0 + 2000 },
        {
          type: 'reading',
          revision: 3,
          receivedAt: T0 + 3005,
          reading: { kind: 'probe', id: 'T-2-1', at: T0 + 1000, values: { a: 4 }, sensor: 's', unit: 'C' },
        },
      ]);
    });

    it('loads the newest snapshot and only what lies above it', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const [one, two, three] = [key(0, 1), key(0, 2), key(0, 3)];
      const state = new Uint8Array(5000).map((_, i) => (i * 7) % 256);
      await writer.commit([0], {
        readings: [1, 2, 3].flatMap((r) => [one, two, three].map((twin) => reading(twin, r))),
        summaries: [summary(one, 3), summary(two, 3), summary(three, 3)],
        snapshots: [snapshot(one, 2), snapshot(two, 3)],
      });
      await writer.commit([0], {
        readings: [reading(one, 4), reading(one, 5)],
        entries: [tick(one, 6)],
        snapshots: [snapshot(one, 4, { state, wakeAt: T0 + 5, floorAt: T0 + 3500 })],
        summaries: [summary(one, 6)],
      });
      const tails = await store.loadTail(0);
      // Twin two is covered by its snapshot.
      expect(tails.map((of) => [of.twin, of.tail.map((e) => e.revision)])).toEqual([
        [one, [5, 6]],
        [three, [1, 2, 3]],
      ]);
      expect(tails[0].snapshot).toStrictEqual(snapshot(one, 4, { state, wakeAt: T0 + 5, floorAt: T0 + 3500 }));
      const loaded = await store.loadTwins(0, [twinIdOf(two), 'meter:unknown', twinIdOf(one)]);
      expect(loaded.map((of) => [of.twin, of.tail.length, of.snapshot?.revision])).toEqual([
        [one, 2, 4],
        [two, 0, 3],
      ]);
      // A twin belongs to its shard.
      expect(await store.loadTwins(1, [twinIdOf(one)])).toEqual([]);
      expect(await store.loadTail(1)).toEqual([]);
    });

    it('finds late readings of a tail above floor_at, and nothing at or below it', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const twin = key(0);
      await writer.commit([0], {
        readings: [
          reading(twin, 1, { at: T0 + 100_000 }),
          reading(twin, 2, { at: T0 + 60_001 }),
          reading(twin, null, { at: T0 + 70_000 }),
          reading(twin, 3, { at: T0 + 60_000 }),
        ],
        snapshots: [snapshot(twin, 1, { floorAt: T0 + 60_000 })],
        summaries: [summary(twin, 3)],
      });
      const [{ tail }] = await store.loadTail(0);
      expect(tail.map((of) => of.revision)).toEqual([2]);
    });

    it('has no tail after a clean commit, and one again after the next', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.commit([0], { readings: [reading(key(0), 1)], summaries: [summary(key(0), 1)] });
      expect(await store.loadTail(0)).toHaveLength(1);
      await writer.commit([0], { snapshots: [snapshot(key(0), 1)] }, { clean: true });
      expect((await store.shards())[0]).toMatchObject({ commitNo: 2, snapshotFloor: 2 });
      expect(await store.loadTail(0)).toEqual([]);
      await writer.commit([0], { readings: [reading(key(0), 2)] });
      expect((await store.shards())[0]).toMatchObject({ commitNo: 3, snapshotFloor: 2 });
      const [{ tail }] = await store.loadTail(0);
      expect(tail.map((of) => of.revision)).toEqual([2]);
      // The word of the host is taken for it: nothing is searched.
      await writer.commit([0], {}, { clean: true });
      expect(await store.loadTail(0)).toEqual([]);
    });

    it('keeps a replaced snapshot only every so many entries', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const twin = key(0);
      await writer.commit([0], { summaries: [summary(twin, 1)] });
      const of = (distances: number) => Math.round(distances * SNAPSHOT_KEEP_EVERY);
      for (const revision of [10, of(0.4), of(1), of(1.2), of(2) - 1, of(2.2), of(2.2), of(3.4)]) {
        await writer.commit([0], { snapshots: [snapshot(twin, revision, { wakeAt: T0 + revision })] });
      }
      expect(await peek.snapshots(twin)).toEqual([of(1), of(2.2), of(3.4)]);
      // Those that are kept are history: they wake nobody.
      expect(await store.dueWakes([0], T0 + of(3.4) - 1, 10)).toEqual([]);
      expect(await store.dueWakes([0], T0 + of(3.4), 10)).toHaveLength(1);
      // An older one does not become the newest.
      await writer.commit([0], { snapshots: [snapshot(twin, of(1.2))] });
      const [stored] = await store.loadTwins(0, [twinIdOf(twin)]);
      expect(stored.snapshot?.revision).toBe(of(3.4));
    });

    it('keeps the last snapshot of each version of a kind', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const twin = key(0);
      await writer.commit([0], { summaries: [summary(twin, 1)] });
      for (const [revision, kindVersion] of [
        [10, 1],
        [20, 1],
        [30, 2],
        [40, 2],
      ])
        await writer.commit([0], { snapshots: [snapshot(twin, revision, { kindVersion })] });
      expect(await peek.snapshots(twin)).toEqual([20, 40]);
      const [stored] = await store.loadTwins(0, [twinIdOf(twin)]);
      expect(stored.snapshot).toMatchObject({ revision: 40, kindVersion: 2 });
    });

    it('takes the last of several snapshots of one twin in a cut', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.commit([0], {
        summaries: [summary(key(0), 2)],
        snapshots: [snapshot(key(0), 1), snapshot(key(0), 2, { wakeAt: T0 })],
      });
      expect(await peek.snapshots(key(0))).toEqual([2]);
      await writer.commit([0], { snapshots: [snapshot(key(0), 2, { wakeAt: T0 + 9 })] });
      const [stored] = await store.loadTwins(0, [twinIdOf(key(0))]);
      expect(stored.snapshot?.wakeAt).toBe(T0 + 9);
    });

    it('knows the highest twin key of a shard', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(6, 7);
      expect(await store.highestTwin(7)).toBe(0);
      await writer.commit([6, 7], {
        summaries: [summary(key(7, 3), 1), summary(key(7, 12), 1), summary(key(6, 99), 1)],
      });
      expect(await store.highestTwin(7)).toBe(key(7, 12));
    });
  });

  describe('journal, history, wakes, events', () => {
    it('pages through the journal of one twin', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const twin = key(0);
      const of = { twin, twinId: twinIdOf(twin) };
      const revisions = [...Array(30).keys()].map((i) => i + 1);
      await writer.commit([0], {
        readings: revisions.filter((r) => r % 3 > 0).map((r) => reading(twin, r)),
        entries: revisions.filter((r) => r % 3 === 0).map((r) => tick(twin, r)),
        summaries: [summary(twin, 30)],
        snapshots: [snapshot(twin, 20, { floorAt: T0 + 20_000 })],
      });
      const read: number[] = [];
      for (let after = 0; ; ) {
        const page = await store.journal(of, after, 7);
        if (page.length === 0) break;
        read.push(...page.map((e) => e.revision));
        after = read.at(-1)!;
      }
      expect(read).toEqual(revisions);
      expect((await store.journal(of, 25, 3)).map((e) => e.revision)).toEqual([26, 27, 28]);
      expect(await store.journal({ twin: key(5), twinId: twinIdOf(key(5)) }, 0, 5)).toEqual([]);
    });

    it('looks history up by twin and time, backfill included', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0, 1);
      const [a, b] = [key(0), key(1)];
      await writer.commit([0, 1], {
        readings: [
          reading(a, 1, { at: T0, values: { flow: 1 } }),
          reading(a, 2, { at: T0, values: { level: 2 }, seq: 4, sensor: 's' }),
          reading(a, null, { at: T0 - 5, values: { flow: 3 }, key: 'k' }),
          reading(b, 1, { at: T0, values: { flow: 4 } }),
        ],
        summaries: [summary(a, 2), summary(b, 1)],
      });
      const rows = await store.lookup('meter', [
        { twin: a, at: T0 },
        { twin: a, at: T0 },
        { twin: a, at: T0 - 5 },
        { twin: b, at: T0 - 5 },
        { twin: key(3), at: T0 },
      ]);
      expect(rows.sort((x, y) => x.at - y.at || (x.seq ?? 0) - (y.seq ?? 0))).toStrictEqual([
        { twin: a, at: T0 - 5, key: 'k', seq: null, sensor: null, values: { flow: 3 } },
        { twin: a, at: T0, key: null, seq: null, sensor: null, values: { flow: 1 } },
        { twin: a, at: T0, key: null, seq: 4, sensor: 's', values: { level: 2 } },
      ]);
      await expect(store.lookup('nobody', [{ twin: a, at: T0 }])).rejects.toMatchObject({ code: 'unknown_kind' });
    });

    it('tells readings of one instant apart where the metrics are open', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const twin = key(0);
      const of = (revision: number | null, values: Record<string, number>) =>
        reading(twin, revision, { kind: 'probe', at: T0, values });
      await writer.commit([0], {
        readings: [
          of(null, { a: 1 }),
          of(null, { b: 2 }),
          of(null, { a: 3, b: 4 }),
          of(1, { c: 5, d: 6 }),
          of(2, { e: 7 }),
        ],
        summaries: [summary(twin, 2, { kind: 'probe' })],
      });
      const rows = await store.lookup('probe', [{ twin, at: T0 }]);
      expect(rows.map((row) => JSON.stringify(row.values)).sort()).toEqual([
        '{"a":1}',
        '{"a":3,"b":4}',
        '{"b":2}',
        '{"c":5,"d":6}',
        '{"e":7}',
      ]);
    });

    it('names due wakes, oldest first, of the newest snapshot only', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0, 1, 2);
      const wakes: [number, number | null][] = [
        [key(0, 1), T0 + 30],
        [key(0, 2), T0 + 10],
        [key(1, 1), T0 + 20],
        [key(1, 2), null],
        [key(2, 1), T0 + 5],
        [key(0, 3), T0 + 31],
      ];
      await writer.commit([0, 1, 2], {
        summaries: wakes.map(([twin]) => summary(twin, 1)),
        snapshots: wakes.map(([twin, wakeAt]) => snapshot(twin, 1, { wakeAt })),
      });
      expect(await store.dueWakes([0, 1], T0 + 30, 10)).toEqual([
        { shard: 0, twinId: twinIdOf(key(0, 2)) },
        { shard: 1, twinId: twinIdOf(key(1, 1)) },
        { shard: 0, twinId: twinIdOf(key(0, 1)) },
      ]);
      expect(await store.dueWakes([0, 1], T0 + 30, 1)).toHaveLength(1);
      await writer.commit([0], { snapshots: [snapshot(key(0, 2), 2, { wakeAt: null })] });
      expect((await store.dueWakes([0], T0 + 30, 10)).map((of) => of.twinId)).toEqual([twinIdOf(key(0, 1))]);
    });

    it('gives events of a shard in order of seq', async () => {
      const { store } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0, 1);
      const body = JSON.parse('{"a": [1, 2.5, "é"], "b": {"c": null}}');
      const events = [1, 2, 3, 4, 5].map((seq) => event(key(0), seq, seq, { body, type: 'twin.created' }));
      await writer.commit([0, 1], { events: [...events.slice(0, 3), event(key(1), 1, 1)] });
      await writer.commit([0], { events: events.slice(3) });
      expect(await store.events(0, 0, 100)).toStrictEqual(events);
      expect((await store.events(0, 2, 2)).map((of) => of.seq)).toEqual([3, 4]);
      expect((await store.shards())[0].eventSeq).toBe(5);
    });
  });
}
