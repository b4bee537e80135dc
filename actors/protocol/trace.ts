/**
 * Traces, as the core sees them: a few spans for the few messages that are sampled, and nothing at all for the others.
 * What collects and sends them is handed in (mixins/tracing.ts); without one, `NO_TRACER` traces nothing.
 *
 *  1  Whether a message is traced is decided once, where it arrives. A trace that has been begun is followed everywhere.
 *  2  Whoever is not traced pays for one comparison with null or undefined.
 *  3  A span that is never ended is never sent: after a crash there are only spans of what was finished.
 */
export interface Tracer {
  /** Goes on in the trace of `parent`, or decides whether to begin one where that is null. Null: not traced. */
  start(name: string, parent: Traceparent | null, facts?: SpanFacts): Span | null;
}

/** Trace, span and flags in the form of W3C Trace Context: `00-<32 hex>-<16 hex>-<2 hex>`. */
export type Traceparent = string;

export type SpanFacts = Readonly<Record<string, string | number | boolean>>;

export interface Span {
  /** What a child names as its parent. */
  readonly trace: Traceparent;
  /** Adds facts. */
  note(facts: SpanFacts): void;
  /** Says that another trace holds what comes after. */
  link(other: Traceparent): void;
  /** `fault`: what went wrong, in a sentence. Ending twice does nothing. */
  end(fault?: string): void;
}

export const NO_TRACER: Tracer = { start: () => null };

/** A message whose way is traced, as a part of a cut holds it. */
export interface TracedTurn {
  /** Of its turn. */
  trace: Traceparent;
  commit: Span | null;
  /** Its events are those with a seq above `afterSeq`, up to `upToSeq`. */
  afterSeq: number;
  upToSeq: number;
}

const FORM = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The text where it is a traceparent, else null: for what comes from outside. */
export function traceparentOf(text: unknown): Traceparent | null {
  return typeof text === 'string' && FORM.test(text) ? text : null;
}

/** The flag of whoever began the trace. */
export function isSampled(trace: Traceparent): boolean {
  return (Number.parseInt(trace.slice(-2), 16) & 1) === 1;
}
