import type { Context, Middleware, ServiceBroker } from 'moleculer';
import { NO_TRACER, type Tracer, traceparentOf } from '../actors/protocol/trace.ts';
import { inTrace } from './trace-scope.ts';

/**
 * Traces that follow a call from service to service and from node to node: `ctx.meta.traceparent` travels with it, and
 * whoever runs the action makes a span of it. A call without one runs as if this were not there.
 */
export interface TraceMark {
  /** W3C traceparent of a sampled trace. */
  traceparent?: string;
}

type Handler = (ctx: Context<unknown, TraceMark>) => Promise<unknown>;

const tracers = new WeakMap<ServiceBroker, Tracer>();

/** From now on calls of this broker are traced by it. */
export function traceCallsBy(broker: ServiceBroker, tracer: Tracer): void {
  tracers.set(broker, tracer);
}

export function tracedCalls(): Middleware {
  return {
    name: 'TracedCalls',
    localAction(this: ServiceBroker, next: Handler, action: { name: string }): Handler {
      // Moleculer's own have nothing to tell.
      if (action.name.startsWith('$')) return next;
      return (ctx) =>
        ctx.meta?.traceparent === undefined ? next(ctx) : followed(tracers.get(this) ?? NO_TRACER, next, action, ctx);
    },
  } as unknown as Middleware;
}

async function followed(
  tracer: Tracer,
  next: Handler,
  action: { name: string },
  ctx: Context<unknown, TraceMark>,
): Promise<unknown> {
  const parent = ctx.meta.traceparent;
  const trace = traceparentOf(parent);
  const span =
    trace === null ? null : tracer.start(`call ${action.name}`, trace, { 'twinmesh.caller': ctx.nodeID ?? '' });
  if (span === null) return next(ctx);
  ctx.meta.traceparent = span.trace;
  try {
    const answer = await inTrace(span.trace, () => next(ctx));
    span.end();
    return answer;
  } catch (error) {
    span.end((error as { code?: string }).code ?? 'failed');
    throw error;
  } finally {
    // The caller takes over what the call has left in `meta`: its next call is its own child again.
    ctx.meta.traceparent = parent;
  }
}
