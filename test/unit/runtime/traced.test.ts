import { describe, expect, it } from 'vitest';
import type { Span, TracedTurn, Tracer } from '../../../actors/protocol/trace.ts';
import { TracedEvents } from '../../../actors/runtime/traced.ts';

function recorder() {
  const ended: (string | undefined)[] = [];
  let started = 0;
  const span: Span = { trace: '', note() {}, link() {}, end: (fault) => void ended.push(fault) };
  const tracer: Tracer = {
    start: () => {
      started++;
      return span;
    },
  };
  return { tracer, ended, span, started: () => started };
}

describe('events of traced messages', () => {
  const facts = { sink: 'mqtt', shard: 1 };
  const turn = (commit: Span | null, afterSeq: number, upToSeq: number): TracedTurn => ({
    trace: '',
    commit,
    afterSeq,
    upToSeq,
  });

  it('are on their way until the sink has all of them', () => {
    const { tracer, ended, span, started } = recorder();
    const events = new TracedEvents();
    // One without events, one whose commit was not sampled.
    events.begin([turn(span, 0, 2), turn(span, 2, 2), turn(null, 2, 5), turn(span, 5, 6)], tracer, facts);
    expect(started()).toBe(2);
    events.delivered(1);
    expect(ended).toEqual([]);
    events.delivered(5);
    expect(ended).toEqual([undefined]);
    events.leave();
    expect(ended).toEqual([undefined, expect.stringContaining('next owner')]);
    events.delivered(9);
    expect(ended).toHaveLength(2);
  });

  it('hold a bounded number of spans while the sink is away', () => {
    const { tracer, span, started } = recorder();
    const events = new TracedEvents();
    for (let seq = 0; seq < 500; seq++) events.begin([turn(span, seq, seq + 1)], tracer, facts);
    expect(started()).toBe(100);
  });
});
