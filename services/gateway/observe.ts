import type { ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { type Tracer, traceparentOf } from '../../actors/protocol/trace.ts';
import { inTrace, traceFields } from '../../mixins/trace-scope.ts';
import type { Metrics } from '../metrics.ts';
import type { GateFacts, GateRequest } from './request.ts';

/** What is kept of a request: its metric, its log line, and its span where it is traced. */

/**
 * Answers a request whose sender is known, inside its span. Only who has a key goes on in a trace of their own: anybody
 * else could have everything traced.
 */
export function traced(req: GateRequest, tracer: Tracer, answer: () => Promise<void>): Promise<void> {
  const { gate } = req;
  const parent = gate.identity.user === null ? null : traceparentOf(req.headers.traceparent);
  const span = tracer.start(`HTTP ${req.method}`, parent, {
    'http.request.method': req.method ?? 'GET',
    'url.path': gate.path,
    'twinmesh.request_id': gate.requestId,
  });
  if (span === null) return answer();
  gate.span = span;
  return inTrace(span.trace, answer);
}

/** What log lines say about a request. */
export function logFacts({ gate, method }: GateRequest): Record<string, unknown> {
  const { requestId, path, span } = gate;
  return { requestId, method, path, ...(span ? traceFields(span.trace) : {}) };
}

/** The answer is out, or its connection is gone. */
export function observe(req: GateRequest, res: ServerResponse, parts?: { metrics: Metrics; logger: Logger }): void {
  const { gate } = req;
  const status = res.statusCode;
  const durationMs = performance.now() - gate.startedMs;
  const route = gate.match?.route.path ?? 'unmatched';
  endSpan(gate, status, route);
  if (!gate.streams) {
    const method = req.method === 'HEAD' ? 'GET' : (req.method ?? 'GET');
    parts?.metrics.http({ method, route, status, durationMs });
  }
  if (parts?.logger.isLevelEnabled('debug'))
    parts.logger.debug({ ...logFacts(req), status, durationMs, keyId: gate.identity.user?.keyId }, 'http');
}

function endSpan({ span }: GateFacts, status: number, route: string): void {
  span?.note({ 'http.response.status_code': status, 'http.route': route });
  span?.end(status >= 500 ? `answered ${status}` : undefined);
}
