import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../actors/protocol/clock.ts';
import { isSampled, traceparentOf } from '../../../actors/protocol/trace.ts';
import { loadSettings } from '../../../config/settings.ts';
import { NO_TRACING, OtelTracing, openTracing, type TracingOptions } from '../../../mixins/tracing.ts';
import { type OtlpReceiver, startOtlp } from '../../servers/otlp.ts';

const CALLER = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const UNSAMPLED = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00';

let receiver: OtlpReceiver;
let said: string[];

beforeEach(async () => {
  receiver = await startOtlp();
  said = [];
});
afterEach(() => receiver.close());

function tracing(options: Partial<TracingOptions> = {}): OtelTracing {
  return new OtelTracing({
    endpoint: receiver.endpoint,
    sample: 1,
    node: 'n1',
    clock: systemClock,
    delayMs: 5,
    logger: { info: (_, text) => said.push(`info ${text}`), warn: (_, text) => said.push(`warn ${text}`) },
    ...options,
  });
}

describe('traceparent', () => {
  it('is taken only in its form', () => {
    expect(traceparentOf(CALLER)).toBe(CALLER);
    expect(isSampled(CALLER)).toBe(true);
    expect(isSampled(UNSAMPLED)).toBe(false);
    for (const text of [
      undefined,
      null,
      7,
      '',
      CALLER.toUpperCase(),
      `${CALLER} `,
      `${CALLER}-x`,
      CALLER.replace('00-', 'ff-'),
      CALLER.replace('0af7651916cd43dd8448eb211c80319c', '0'.repeat(32)),
      CALLER.replace('b7ad6b7169203331', '0'.repeat(16)),
    ])
      expect(traceparentOf(text)).toBeNull();
  });
});

describe('tracing', () => {
  it('sends spans of one trace with their facts, faults and links, under the name of the node', async () => {
    const tracer = tracing();
    const root = tracer.start('ingest', null, { 'twinmesh.protocol': 'mqtt' })!;
    const child = tracer.start('append', root.trace)!;
    child.link(CALLER);
    child.end('the log is full');
    root.note({ 'twinmesh.readings': 3 });
    root.end();
    root.end('too late');
    await tracer.close();
    const [append, ingest] = receiver.spans;
    expect(receiver.spans).toHaveLength(2);
    expect(ingest).toMatchObject({
      name: 'ingest',
      parentSpanId: '',
      fault: null,
      attributes: { 'twinmesh.protocol': 'mqtt', 'twinmesh.readings': 3 },
      resource: { 'service.name': 'twinmesh', 'service.instance.id': 'n1' },
    });
    expect(append).toMatchObject({
      name: 'append',
      traceId: ingest.traceId,
      parentSpanId: ingest.spanId,
      fault: 'the log is full',
      links: ['b7ad6b7169203331'],
    });
    expect(root.trace).toBe(`00-${ingest.traceId}-${ingest.spanId}-01`);
    expect(tracer.counts).toMatchObject({ sent: 2, lost: 0 });
  });

  it('decides once: by chance where a trace would begin, and as its beginning decided where it goes on', async () => {
    const draws = [0.2, 0.3, 0.05];
    const tracer = tracing({ sample: 0.25, random: () => draws.shift() ?? Number.NaN });
    expect(tracer.start('a', null)).not.toBeNull();
    expect(tracer.start('b', null)).toBeNull();
    expect(tracer.start('c', UNSAMPLED)).toBeNull();
    expect(tracer.start('d', CALLER)?.trace.slice(3, 35)).toBe(CALLER.slice(3, 35));
    // Only those that would begin one have drawn.
    expect(draws).toEqual([0.05]);
    await tracer.close();
  });

  it('traces nothing without a collector', () => {
    const settings = loadSettings({ TRACE_SAMPLE: '1' });
    const tracer = openTracing(settings, { clock: systemClock, logger: { info() {}, warn() {} } });
    expect(tracer).toBe(NO_TRACING);
    expect(tracer.start('a', CALLER)).toBeNull();
  });

  it('says once that the collector takes nothing, and once that it does again', async () => {
    const tracer = tracing();
    receiver.status = 400;
    for (let i = 0; i < 3; i++) {
      const lost = tracer.counts.lost;
      tracer.start('a', null)?.end();
      while (tracer.counts.lost === lost) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(said).toEqual([expect.stringMatching(/^warn the trace collector takes no spans/)]);
    receiver.status = 200;
    tracer.start('b', null)?.end();
    await receiver.until((spans) => spans.length === 1);
    await tracer.close();
    expect(said).toHaveLength(2);
    expect(said[1]).toMatch(/^info .* takes spans again/);
    expect(tracer.counts).toMatchObject({ sent: 1, lost: 3 });
  });

  it('closes although the collector is away', async () => {
    await receiver.close();
    const tracer = tracing({ delayMs: 60_000 });
    for (let i = 0; i < 20_000; i++) tracer.start('a', null)?.end();
    await tracer.close();
    expect(tracer.start('b', null)).not.toBeNull();
    expect(tracer.counts.sent).toBe(0);
  });
});
