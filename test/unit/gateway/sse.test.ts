import { describe, expect, it } from 'vitest';
import { frameOf, SseStream } from '../../../services/gateway/sse.ts';
import { FakeClock, settle } from './fake-clock.ts';
import { SseReader } from './sse-reader.ts';

describe('frameOf', () => {
  it('is one frame, whatever the data', () => {
    expect(frameOf({ event: 'e', id: '7', data: { a: 'x\ny\r\n\r\n: z' } })).toBe(
      'event: e\nid: 7\ndata: {"a":"x\\ny\\r\\n\\r\\n: z"}\n\n',
    );
    expect(frameOf({ event: 'e', data: 1 })).toBe('event: e\ndata: 1\n\n');
  });
});

describe('SseStream', () => {
  it('beats while it is quiet, with the newest id', async () => {
    const clock = new FakeClock();
    const stream = new SseStream({ clock, heartbeatMs: 1000, onHeartbeat: () => 'v9' });
    const reader = new SseReader(stream);
    clock.advance(2500);
    await settle();
    expect(reader.lastEventId).toBe('v9');
    expect(reader.received).toEqual([]);
    stream.finish();
    await settle();
    expect(reader.ended).toBe(true);
    expect(clock.timers).toBe(0);
  });

  it('says when the reader is full and when it has room again', async () => {
    const clock = new FakeClock();
    let room = 0;
    const stream = new SseStream({ clock, bufferBytes: 1000, onWritable: () => room++ });
    const reader = new SseReader(stream);
    reader.pause();
    await settle();
    let sent = 0;
    while (stream.writable) {
      stream.send({ event: 'e', data: 'x'.repeat(100) });
      expect(++sent).toBeLessThan(50);
    }
    expect(room).toBe(0);
    reader.resume();
    await settle();
    expect(room).toBe(1);
    expect(stream.writable).toBe(true);
    expect(reader.received).toHaveLength(sent);
  });

  it('hangs up on a reader that takes nothing', async () => {
    const clock = new FakeClock();
    let closed = 0;
    const stream = new SseStream({ clock, bufferBytes: 100, stallMs: 5000, onClose: () => closed++ });
    const reader = new SseReader(stream);
    reader.pause();
    while (stream.writable) stream.send({ event: 'e', data: 'x'.repeat(50) });
    clock.advance(4999);
    expect(stream.destroyed).toBe(false);
    clock.advance(1);
    expect(stream.destroyed).toBe(true);
    await settle();
    expect(closed).toBe(1);
    expect(clock.timers).toBe(0);
    stream.send({ event: 'e', data: 1 });
  });

  it('does not hang up on one that took something in time', async () => {
    const clock = new FakeClock();
    const stream = new SseStream({ clock, bufferBytes: 100, stallMs: 5000 });
    const reader = new SseReader(stream);
    reader.pause();
    while (stream.writable) stream.send({ event: 'e', data: 'x'.repeat(50) });
    clock.advance(4000);
    reader.resume();
    await settle();
    clock.advance(4000);
    expect(stream.destroyed).toBe(false);
    stream.destroy();
  });

  it('takes nothing after its end', async () => {
    const stream = new SseStream({ clock: new FakeClock() });
    const reader = new SseReader(stream);
    stream.send({ event: 'last', data: 1 });
    stream.finish();
    stream.send({ event: 'late', data: 1 });
    stream.finish();
    await settle();
    expect(reader.received.map((r) => r.event)).toEqual(['last']);
  });
});
