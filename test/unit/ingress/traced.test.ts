import { describe, expect, it } from 'vitest';
import type { Span, SpanFacts, Traceparent, Tracer } from '../../../actors/protocol/trace.ts';
import { bench, COMMITTED, HTTP, PATIENT, topic } from './fixture.ts';

interface Seen {
  name: string;
  parent: Traceparent | null;
  trace: Traceparent;
  facts: SpanFacts;
  links: Traceparent[];
  ended: number;
  fault: string | undefined;
}

/** Traces everything, and keeps what it was told. */
function recorder(): { tracer: Tracer; spans: Seen[]; named(name: string): Seen[] } {
  const spans: Seen[] = [];
  const tracer: Tracer = {
    start(name, parent, facts = {}): Span {
      const trace = `00-${'a'.repeat(32)}-${String(spans.length + 1).padStart(16, '0')}-01`;
      const seen: Seen = { name, parent, trace, facts, links: [], ended: 0, fault: undefined };
      spans.push(seen);
      return {
        trace,
        note: (more) => {
          seen.facts = { ...seen.facts, ...more };
        },
        link: (other) => void seen.links.push(other),
        end: (fault) => {
          seen.ended++;
          seen.fault = fault;
        },
      };
    },
  };
  return { tracer, spans, named: (name) => spans.filter((span) => span.name === name) };
}

const payload = (id: string, values: object = { temperature: 60 }) =>
  JSON.stringify({ twinId: `machine:${id}`, values });
const CALLER = `00-${'b'.repeat(32)}-${'c'.repeat(16)}-01`;

describe('a traced payload', () => {
  it('has a span until it is stored, and one for each batch that it is in, which carries the trace on', async () => {
    const { tracer, named } = recorder();
    const { ingress, log } = bench({ tracer });
    await ingress.submit(HTTP, `[${payload('a')},${payload('b')},${payload('c')}]`, { ...COMMITTED, trace: CALLER });
    const [ingest] = named('ingest');
    expect(ingest).toMatchObject({ parent: CALLER, ended: 1, fault: undefined });
    expect(ingest.facts).toMatchObject({ 'twinmesh.readings': 3, 'twinmesh.refused': 0, 'twinmesh.protocol': 'http' });
    expect(log.batches.length).toBeGreaterThan(1);
    expect(named('append').map(({ parent, ended }) => [parent, ended])).toEqual(
      log.batches.map(() => [ingest.trace, 1]),
    );
    expect(log.batches.map(({ trace }) => trace)).toEqual(named('append').map(({ trace }) => trace));
  });

  it('in a batch with another leaves the batch to the first, and is linked to it', async () => {
    const { tracer, named } = recorder();
    const { ingress, log } = bench({ tracer, shards: 1 });
    const intakes = [0, 1].map((i) =>
      ingress.read(topic('twins/machine/a/telemetry'), JSON.stringify({ seq: i, values: { temperature: 60 } })),
    );
    await ingress.store(intakes, PATIENT, () => undefined);
    const [first, second] = named('append');
    expect(log.batches).toHaveLength(1);
    expect(log.batches[0].trace).toBe(first.trace);
    expect([first.links, second.links]).toEqual([[], [first.trace]]);
    expect([first.ended, second.ended]).toEqual([1, 1]);
  });

  it('that is refused, or says only that a twin is online, ends at once', () => {
    const { tracer, named } = recorder();
    const { ingress } = bench({ tracer });
    ingress.read(HTTP, payload('a', { temperature: 'hot' }));
    ingress.read(HTTP, '{');
    ingress.read(topic('twins/machine/a/status'), 'online');
    expect(named('ingest').map(({ ended }) => ended)).toEqual([1, 1, 1]);
    expect(named('ingest')[0].facts).toMatchObject({ 'twinmesh.readings': 0, 'twinmesh.refused': 1 });
    expect(named('append')).toEqual([]);
  });

  it('that the log does not take ends with the reason', async () => {
    const { tracer, named } = recorder();
    const { ingress, log } = bench({ tracer });
    log.onAppend = () => {
      throw new Error('no room');
    };
    await expect(ingress.submit(HTTP, payload('a'), COMMITTED)).rejects.toThrow('no room');
    expect(named('append')[0]).toMatchObject({ ended: 1, fault: 'no room' });
    expect(named('ingest')[0]).toMatchObject({ ended: 1, fault: 'unavailable: no room' });
  });
});

describe('a payload of which it was decided that it is not traced', () => {
  it('asks no tracer', async () => {
    const { tracer, spans } = recorder();
    const { ingress, log } = bench({ tracer });
    await ingress.submit(HTTP, payload('a'), { ...COMMITTED, trace: null });
    expect(spans).toEqual([]);
    expect(log.batches[0]).not.toHaveProperty('trace');
  });
});
