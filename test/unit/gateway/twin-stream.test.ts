import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import { type StreamedHost, twinStream } from '../../../services/twins/twin-stream.ts';
import { FakeClock, settle } from './fake-clock.ts';
import { FakeHost } from './fake-host.ts';
import { SseReader } from './sse-reader.ts';

const revisions = (reader: SseReader) => reader.of('reading').map(({ data }) => data.revision);
const range = (from: number, to: number) => Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);

describe('twinStream', () => {
  it('begins with the twin, goes on with its entries, and shows the twin again each second', async () => {
    const host = new FakeHost();
    const clock = new FakeClock();
    host.commit(3);
    const reader = new SseReader(await twinStream(host, 'machine:M1', undefined, { clock }));
    await settle();
    host.commit(2);
    await settle();
    expect(reader.received.map(({ event, id }) => [event, id])).toEqual([
      ['twin', '3'],
      ['reading', '4'],
      ['reading', '5'],
    ]);
    expect(reader.received[1].data).toEqual({
      revision: 4,
      type: 'reading',
      receivedAt: '2026-01-01T00:00:04.000Z',
      at: '2026-01-01T00:00:04.000Z',
      values: { temperature: 4 },
    });
    clock.advance(999);
    await settle();
    expect(reader.of('twin')).toHaveLength(1);
    clock.advance(1);
    await settle();
    expect(reader.of('twin')).toHaveLength(2);
    // A view says nothing about what has been received.
    expect(reader.of('twin')[1]).toMatchObject({ id: undefined, data: { revision: 5 } });
    clock.advance(5000);
    await settle();
    expect(reader.of('twin')).toHaveLength(2);
    reader.close();
    await settle();
    expect(host.watchers).toBe(0);
    expect(clock.timers).toBe(0);
  });

  it('resumes behind the last id', async () => {
    const host = new FakeHost();
    host.commit(1200);
    const reader = new SseReader(await twinStream(host, 'machine:M1', '7', { clock: new FakeClock() }));
    await settle();
    host.commit(1);
    await settle();
    expect(reader.received[0]).toMatchObject({ event: 'twin', id: undefined, data: { revision: 1200 } });
    expect(revisions(reader)).toEqual(range(8, 1201));
    reader.close();
  });

  it.each([
    ['what is no revision', 'x', 'unknown id'],
    ['a revision that has not been', '99', 'from the future'],
  ])('resets for %s', async (_, id, reason) => {
    const host = new FakeHost();
    host.commit(5);
    const reader = new SseReader(await twinStream(host, 'machine:M1', id, { clock: new FakeClock() }));
    await settle();
    expect(reader.received.map(({ event, id }) => [event, id])).toEqual([
      ['reset', '5'],
      ['twin', '5'],
    ]);
    expect(reader.received[0].data.reason).toBe(reason);
    reader.close();
  });

  it.each([
    ['partly', 40],
    ['altogether', 50],
  ])('resets where the journal behind the id has expired %s', async (_, expiredTo) => {
    const host = new FakeHost();
    host.commit(50);
    host.expiredTo = expiredTo;
    const reader = new SseReader(await twinStream(host, 'machine:M1', '10', { clock: new FakeClock() }));
    await settle();
    host.commit(2);
    await settle();
    expect(reader.received.map(({ event, id }) => [event, id])).toEqual([
      ['twin', undefined],
      ['reset', '50'],
      ['twin', '50'],
      ['reading', '51'],
      ['reading', '52'],
    ]);
    reader.close();
  });

  it('resets a reader that is too far behind instead of sending it everything', async () => {
    const host = new FakeHost();
    host.commit(50);
    const reader = new SseReader(await twinStream(host, 'machine:M1', '1', { clock: new FakeClock(), maxBehind: 20 }));
    await settle();
    expect(reader.of('reset')[0].data.reason).toBe('too far behind');
    reader.close();
  });

  it('closes a gap that a lost broadcast left, at the next one or at the heartbeat', async () => {
    const host = new FakeHost();
    const clock = new FakeClock();
    const reader = new SseReader(await twinStream(host, 'machine:M1', undefined, { clock, heartbeatMs: 1000 }));
    await settle();
    host.mute = true;
    host.commit(3);
    host.mute = false;
    host.commit(1);
    await settle();
    expect(revisions(reader)).toEqual([1, 2, 3, 4]);
    host.mute = true;
    host.commit(2);
    await settle();
    expect(revisions(reader)).toEqual([1, 2, 3, 4]);
    clock.advance(1000);
    await settle();
    expect(revisions(reader)).toEqual([1, 2, 3, 4, 5, 6]);
    reader.close();
  });

  it('closes a gap as soon as it is told how far the twin has come', async () => {
    const host = new FakeHost();
    let reached: (revision: number) => void = () => undefined;
    const told = {
      get: host.get.bind(host),
      journal: host.journal.bind(host),
      watch: (twinId: string, listener: Parameters<FakeHost['watch']>[1], tell?: typeof reached) => {
        reached = tell ?? reached;
        return host.watch(twinId, listener);
      },
    };
    const reader = new SseReader(await twinStream(told, 'machine:M1', undefined, { clock: new FakeClock() }));
    await settle();
    host.mute = true;
    host.commit(3);
    await settle();
    expect(revisions(reader)).toEqual([]);
    reached(3);
    await settle();
    expect(revisions(reader)).toEqual([1, 2, 3]);
    reached(2);
    await settle();
    expect(revisions(reader)).toEqual([1, 2, 3]);
    reader.close();
  });

  it('believes a reader who has had more than an old view shows, until the owner knows better', async () => {
    for (const [had, then] of [
      [7, 'goes on'],
      [20, 'resets'],
    ] as const) {
      const host = new FakeHost();
      const clock = new FakeClock();
      host.commit(8);
      let old = true;
      const owner: StreamedHost = {
        get: async () => {
          const view = await host.get('machine:M1');
          return old ? { ...view, revision: 5, stale: { reason: 'not owner', since: '', remedy: '' } } : view;
        },
        journal: host.journal.bind(host),
        watch: host.watch.bind(host),
      };
      const stream = await twinStream(owner, 'machine:M1', String(had), { clock, heartbeatMs: 1000 });
      const reader = new SseReader(stream);
      await settle();
      expect(reader.received.map(({ event, id }) => [event, id])).toEqual([['twin', undefined]]);
      old = false;
      clock.advance(1000);
      await settle();
      expect(revisions(reader)).toEqual(then === 'goes on' ? [8] : []);
      expect(reader.of('reset').map(({ data }) => data.reason)).toEqual(then === 'goes on' ? [] : ['from the future']);
      reader.close();
    }
  });

  it('keeps no more than it may for a reader that is slow, and loses nothing', async () => {
    const host = new FakeHost();
    const clock = new FakeClock();
    const options = { clock, maxPending: 50, pageSize: 20, bufferBytes: 2000 };
    const stream = await twinStream(host, 'machine:M1', undefined, options);
    const reader = new SseReader(stream);
    await settle();
    reader.pause();
    for (let i = 0; i < 200; i++) host.commit(10);
    // More at once than may be kept, and nothing after it that would show the jump.
    host.commit(51);
    await settle();
    expect(stream.readableLength).toBeLessThan(5000);
    reader.resume();
    await settle(400);
    expect(revisions(reader)).toEqual(range(1, 2051));
    reader.close();
  });

  it('refuses an unknown twin and leaves nothing behind', async () => {
    const host = new FakeHost();
    await expect(twinStream(host, 'machine:none', undefined)).rejects.toMatchObject({ code: 'not_found' });
    expect(host.watchers).toBe(0);
  });

  it('ends when the journal cannot be read, so that the reader comes back', async () => {
    const host = new FakeHost();
    host.commit(5);
    const reader = new SseReader(await twinStream(host, 'machine:M1', '1', { clock: new FakeClock() }));
    await settle();
    host.mute = true;
    host.commit(2);
    host.mute = false;
    host.down = true;
    host.commit(1);
    await settle();
    expect(revisions(reader)).toEqual([2, 3, 4, 5]);
    expect(reader.lastEventId).toBe('5');
    expect(reader.ended).toBe(true);
    expect(host.watchers).toBe(0);
  });

  it('gives every entry exactly once, whenever the reader leaves, stalls and comes back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 }), async (seed) => {
        const random = seededRandom(seed);
        const host = new FakeHost();
        const clock = new FakeClock();
        host.delay = async () => {
          for (let i = Math.floor(random() * 3); i > 0; i--) await new Promise((resolve) => setImmediate(resolve));
        };
        host.commit(Math.floor(random() * 5));
        const options = { clock, maxPending: 8, pageSize: 4, bufferBytes: 600, heartbeatMs: 5000 };
        const got: number[] = [];
        let from: number | undefined;
        let lastEventId: string | undefined;
        for (let visit = 0; visit < 6; visit++) {
          const reader = new SseReader(await twinStream(host, 'machine:M1', lastEventId, options));
          const steps = 2 + Math.floor(random() * 10);
          for (let step = 0; step < steps; step++) {
            const what = random();
            if (what < 0.5) host.commit(1 + Math.floor(random() * 12));
            else if (what < 0.6) reader.pause();
            else if (what < 0.75) reader.resume();
            else if (what < 0.8) host.mute = !host.mute;
            else if (what < 0.9) clock.advance(500 + random() * 3000);
            else await settle(Math.floor(random() * 5));
          }
          if (visit === 5) {
            host.mute = false;
            reader.resume();
            await settle(300);
            clock.advance(5000);
            await settle(300);
          }
          reader.close();
          expect(reader.of('reset')).toEqual([]);
          if (from === undefined && reader.received[0]) from = reader.received[0].data.revision;
          got.push(...revisions(reader));
          lastEventId = reader.lastEventId ?? lastEventId;
          if (lastEventId === undefined) from = undefined;
          await settle(3);
        }
        expect(got).toEqual(range((from as number) + 1, host.revision));
      }),
      { numRuns: 150 },
    );
  });
});
