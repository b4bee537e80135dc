import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, type Readable } from 'node:stream';
import type { RouteDocs } from './routes.ts';

/** What an action may say about its answer through `ctx.meta`. */
export interface AnswerMeta {
  $statusCode?: number;
  $responseType?: string;
  $responseHeaders?: Record<string, string>;
}

export interface AnswerFacts {
  requestId: string;
  elapsedMs: number;
  nowMs: number;
}

/**
 * Sends the answer of an action: JSON in the envelope, text or bytes as they are. A matching If-None-Match is answered
 * 304 before anything is serialised.
 */
export function sendAnswer(
  req: IncomingMessage,
  res: ServerResponse,
  data: unknown,
  docs: RouteDocs,
  meta: AnswerMeta,
  facts: AnswerFacts,
): void {
  res.statusCode = meta.$statusCode ?? 200;
  for (const [name, value] of Object.entries(meta.$responseHeaders ?? {})) res.setHeader(name, value);
  const etag = res.getHeader('ETag');
  if (etag !== undefined && (req.method === 'GET' || req.method === 'HEAD')) {
    // The browser may keep it but has to ask each time.
    res.setHeader('Cache-Control', 'private, no-cache');
    if (res.statusCode === 200 && matches(req.headers['if-none-match'], String(etag))) {
      res.statusCode = 304;
      res.end();
      return;
    }
  }
  if (res.statusCode === 204) {
    res.end();
    return;
  }
  const { body, type } = encode(data, docs, meta, facts);
  if (!res.hasHeader('Content-Type')) res.setHeader('Content-Type', type);
  res.setHeader('Content-Length', Buffer.byteLength(body));
  res.end(req.method === 'HEAD' ? undefined : body);
}

const JSON_TYPE = 'application/json; charset=utf-8';

function encode(
  data: unknown,
  docs: RouteDocs,
  meta: AnswerMeta,
  facts: AnswerFacts,
): { body: string | Uint8Array; type: string } {
  if (docs.envelope === false) {
    if (typeof data === 'string' || data instanceof Uint8Array)
      return { body: data, type: meta.$responseType ?? 'application/octet-stream' };
    return { body: JSON.stringify(data) ?? 'null', type: meta.$responseType ?? JSON_TYPE };
  }
  const about = JSON.stringify({
    timestamp: new Date(facts.nowMs).toISOString(),
    request_id: facts.requestId,
    elapsed_ms: Math.round(facts.elapsedMs * 1000) / 1000,
  });
  return {
    body: `{"status":"success","data":${JSON.stringify(data) ?? 'null'},"meta":${about}}`,
    type: JSON_TYPE,
  };
}

/** If-None-Match against one etag, weakly compared as RFC 9110 says. */
function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  const strong = (tag: string) => tag.trim().replace(/^W\//, '');
  return header.split(',').some((tag) => strong(tag) === strong(etag));
}

/** Sends a stream; its end ends the response, and a client that leaves destroys it. */
export function sendStream(
  req: IncomingMessage,
  res: ServerResponse,
  stream: Readable,
  meta: AnswerMeta,
  onEnd: (error: Error | null) => void,
): void {
  res.statusCode = meta.$statusCode ?? 200;
  for (const [name, value] of Object.entries(meta.$responseHeaders ?? {})) res.setHeader(name, value);
  if (!res.hasHeader('Content-Type')) res.setHeader('Content-Type', meta.$responseType ?? 'application/octet-stream');
  if (req.method === 'HEAD') {
    stream.destroy();
    res.end();
    onEnd(null);
    return;
  }
  res.flushHeaders();
  pipeline(stream, res, (error) => onEnd(error ?? null));
}
