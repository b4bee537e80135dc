import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import type { EventType } from '../../../actors/protocol/event.ts';
import {
  type Aside,
  type FleetFilter,
  type FleetStreamOptions,
  fleetStream,
  passes,
} from '../../../services/twins/fleet-stream.ts';
import { decodeVector } from '../../../services/twins/shard-vector.ts';
import { FakeClock, settle } from './fake-clock.ts';
import { FakeFleet } from './fake-host.ts';
import { SseReader } from './sse-reader.ts';

const open = async (
  fleet: FakeFleet,
  id?: string,
  options: FleetStreamOptions = { clock: new FakeClock() },
  filter: FleetFilter = {},
) => new SseReader(await fleetStream(fleet, fleet, filter, id, options));

const ids = (reader: SseReader) =>
  reader.received.filter(({ event }) => event !== 'hello' && event !== 'reset').map(({ data }) => data.event_id);

describe('fleetStream', () => {
  it('begins now and goes on with every event', async () => {
    const fleet = new FakeFleet(4);
    fleet.commit(1, ['alert.raised']);
    const reader = await open(fleet);
    await settle();
    fleet.commit(1, ['alert.cleared']);
    fleet.commit(3, ['twin.created', 'twin.online']);
    await settle();
    expect(reader.received.map(({ event }) => event)).toEqual([
      'hello',
      'alert.cleared',
      'twin.created',
      'twin.online',
    ]);
    expect(decodeVector(reader.lastEventId as string, 4)).toEqual(
      new Map([
        [1, 2],
        [3, 2],
      ]),
    );
    expect(reader.received[1].data).toEqual({
      event_id: 'machine:1~2~0',
      type: 'alert.cleared',
      twinId: 'machine:1',
      revision: 2,
      at: '2026-01-01T00:00:00.002Z',
      receivedAt: '2026-01-01T00:00:00.002Z',
      body: {},
    });
    reader.close();
    await settle();
    expect(fleet.listeners).toBe(0);
  });

  it('passes on what is of no shard, as it is asked for, without an id of its own', async () => {
    const fleet = new FakeFleet(2);
    const listeners = new Set<(aside: Aside) => void>();
    const onAsides = (listener: (aside: Aside) => void) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    };
    const source = Object.assign(fleet, { onAsides });
    const filters: FleetFilter[] = [{}, { types: ['data'], kind: 'mote' }, { kind: 'machine' }, { types: ['alert'] }];
    const readers = await Promise.all(filters.map((filter) => open(source, undefined, undefined, filter)));
    await settle();
    const before = readers[0].lastEventId;
    for (const listener of listeners) listener({ type: 'data.drift', kind: 'mote', data: { event_id: 'd' } });
    await settle();
    expect(readers.map((reader) => reader.of('data.drift').length)).toEqual([1, 1, 0, 0]);
    expect(readers[0].of('data.drift')).toEqual([{ event: 'data.drift', id: undefined, data: { event_id: 'd' } }]);
    expect(readers[0].lastEventId).toBe(before);
    for (const reader of readers) reader.close();
    await settle();
    expect(listeners.size).toBe(0);
  });

  it('keeps a bounded number of those for a reader who takes nothing', async () => {
    const fleet = new FakeFleet(1);
    let tell = (_aside: Aside): void => undefined;
    const source = Object.assign(fleet, {
      onAsides: (listener: typeof tell) => {
        tell = listener;
        return () => undefined;
      },
    });
    const reader = await open(source, undefined, { clock: new FakeClock(), bufferBytes: 1 });
    reader.pause();
    for (let n = 0; n < 1_000; n++) tell({ type: 'data.drift', kind: 'mote', data: { n } });
    await settle();
    reader.resume();
    await expect.poll(() => reader.of('data.drift').at(-1)?.data.n).toBe(999);
    expect(reader.of('data.drift').length).toBeLessThan(110);
    reader.close();
  });

  it('resumes where it was, in shards that it had not seen too', async () => {
    const fleet = new FakeFleet(4);
    fleet.commit(0, ['alert.raised']);
    const first = await open(fleet);
    await settle();
    first.close();
    fleet.commit(0, ['alert.cleared']);
    fleet.commit(2, ['twin.created']);
    const second = await open(fleet, first.lastEventId);
    await settle();
    expect(ids(second)).toEqual(['machine:0~2~0', 'machine:2~1~0']);
    second.close();
  });

  it.each([
    ['what is no vector', 'nonsense!', 'unknown id'],
    ['one from the future', Buffer.from([1, 0, 1, 99]).toString('base64url'), 'from the future'],
  ])('resets for %s', async (_, id, reason) => {
    const fleet = new FakeFleet(2);
    fleet.commit(0, ['alert.raised']);
    const reader = await open(fleet, id);
    fleet.commit(0, ['alert.cleared']);
    await settle();
    expect(reader.received[0]).toMatchObject({ event: 'reset', data: { reason } });
    expect(ids(reader)).toEqual(['machine:0~2~0']);
    reader.close();
  });

  it.each([1, 2])('resets where %i of two events have expired', async (expired) => {
    const fleet = new FakeFleet(2);
    fleet.commit(0, ['alert.raised']);
    const first = await open(fleet);
    await settle();
    first.close();
    fleet.commit(0, ['alert.cleared', 'alert.raised']);
    fleet.expiredTo[0] = 1 + expired;
    const second = await open(fleet, first.lastEventId);
    await settle();
    fleet.commit(0, ['alert.cleared']);
    await settle();
    expect(second.of('reset')[0].data.reason).toBe('expired');
    expect(ids(second)).toEqual(['machine:0~4~0']);
    second.close();
  });

  it('filters, and moves its id over what it leaves out', async () => {
    const clock = new FakeClock();
    const fleet = new FakeFleet(2);
    const filter = { kind: 'machine', types: ['alert', 'twin.created'] };
    const reader = await open(fleet, undefined, { clock, heartbeatMs: 1000 }, filter);
    fleet.commit(0, ['alert.raised', 'twin.online', 'alert.cleared', 'twin.created', 'twin.offline']);
    await settle();
    // The third is of a mote.
    expect(reader.received.map(({ event }) => event)).toEqual(['hello', 'alert.raised', 'twin.created']);
    expect(decodeVector(reader.lastEventId as string, 2)).toEqual(new Map([[0, 4]]));
    clock.advance(1000);
    await settle();
    expect(decodeVector(reader.lastEventId as string, 2)).toEqual(new Map([[0, 5]]));
    reader.close();
  });

  it('keeps no more than it may for a reader that is slow, and loses nothing', async () => {
    const fleet = new FakeFleet(2);
    const stream = await fleetStream(fleet, fleet, {}, undefined, {
      clock: new FakeClock(),
      maxPending: 50,
      pageSize: 20,
      bufferBytes: 2000,
    });
    const reader = new SseReader(stream);
    await settle();
    reader.pause();
    const many = (count: number) => Array.from({ length: count }, (): EventType => 'alert.raised');
    for (let i = 0; i < 100; i++) fleet.commit(i % 2, many(10));
    fleet.commit(1, many(51));
    await settle();
    expect(stream.readableLength).toBeLessThan(5000);
    reader.resume();
    await settle(400);
    for (const shard of [0, 1])
      expect(ids(reader).filter((id) => id.includes(`:${shard}~`))).toEqual(fleet.log[shard].map((e) => e.eventId));
    reader.close();
  });

  it('finds events that nobody told it at the next heartbeat', async () => {
    const clock = new FakeClock();
    const fleet = new FakeFleet(2);
    const reader = await open(fleet, undefined, { clock, heartbeatMs: 1000 });
    await settle();
    fleet.mute = true;
    fleet.commit(1, ['alert.raised']);
    await settle();
    expect(ids(reader)).toEqual([]);
    clock.advance(1000);
    await settle();
    expect(ids(reader)).toEqual(['machine:1~1~0']);
    reader.close();
  });

  it('gives every event exactly once and in order of its shard, whenever the reader leaves, stalls and comes back', async () => {
    const types: EventType[] = ['alert.raised', 'alert.cleared', 'twin.online'];
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 }), async (seed) => {
        const random = seededRandom(seed);
        const fleet = new FakeFleet(5);
        const clock = new FakeClock();
        fleet.delay = async () => {
          for (let i = Math.floor(random() * 3); i > 0; i--) await new Promise((resolve) => setImmediate(resolve));
        };
        const some = () => Array.from({ length: 1 + Math.floor(random() * 6) }, () => types[Math.floor(random() * 3)]);
        const commit = () => fleet.commit(Math.floor(random() * 5), some());
        for (let i = 0; i < 4; i++) commit();
        const filter: FleetFilter = random() < 0.5 ? {} : { types: ['alert'] };
        const options = { clock, maxPending: 6, pageSize: 3, bufferBytes: 900, heartbeatMs: 5000 };
        let start: Map<number, number> | undefined;
        let lastEventId: string | undefined;
        const got: string[] = [];
        for (let visit = 0; visit < 6; visit++) {
          const reader = await open(fleet, lastEventId, options, filter);
          const steps = 2 + Math.floor(random() * 10);
          for (let step = 0; step < steps; step++) {
            const what = random();
            if (what < 0.55) commit();
            else if (what < 0.65) reader.pause();
            else if (what < 0.8) reader.resume();
            else if (what < 0.85) fleet.mute = !fleet.mute;
            else if (what < 0.92) clock.advance(500 + random() * 3000);
            else await settle(Math.floor(random() * 5));
          }
          if (visit === 5) {
            fleet.mute = false;
            reader.resume();
            await settle(300);
            clock.advance(5000);
            await settle(300);
          }
          reader.close();
          expect(reader.of('reset')).toEqual([]);
          got.push(...ids(reader));
          const hello = reader.of('hello')[0];
          if (start === undefined && hello?.id !== undefined) start = decodeVector(hello.id, 5) as Map<number, number>;
          lastEventId = reader.lastEventId ?? lastEventId;
          if (lastEventId === undefined) start = undefined;
          await settle(3);
        }
        for (let shard = 0; shard < 5; shard++) {
          const wanted = fleet.log[shard]
            .filter((e) => e.seq > ((start as Map<number, number>).get(shard) ?? 0) && passes(filter, e))
            .map((e) => e.eventId);
          expect(got.filter((id) => id.includes(`:${shard}~`))).toEqual(wanted);
        }
      }),
      { numRuns: 150 },
    );
  });
});
