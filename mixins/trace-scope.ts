import { AsyncLocalStorage } from 'node:async_hooks';
import type { Traceparent } from '../actors/protocol/trace.ts';

/** Which sampled trace the running code belongs to: what log lines carry. Entered only where there is one. */
const scope = new AsyncLocalStorage<Traceparent>();

export function inTrace<T>(trace: Traceparent, work: () => T): T {
  return scope.run(trace, work);
}

/** Members of a log line, by the names that log stores look for; empty outside of a trace. */
export function traceFields(trace: Traceparent | undefined = scope.getStore()): {
  trace_id?: string;
  span_id?: string;
} {
  return trace === undefined ? {} : { trace_id: trace.slice(3, 35), span_id: trace.slice(36, 52) };
}
