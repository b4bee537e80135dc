import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Undelivered } from './receiver.ts';

/**
 * One POST of JSON, for receivers over HTTP.
 *
 *  1 A redirect is not followed: where messages go is the admin's to say, not the receiver's.
 *  2 Of an answer at most MAX_ANSWER_BYTES are read.
 *  3 What the message itself is at fault for (400, 413, 422) is refused for good; everything else may pass later, a wrong key
 *    or address too, because somebody may mend that.
 */
const MAX_ANSWER_BYTES = 4_096;
const MAX_RETRY_AFTER_MS = 3_600_000;
const AT_FAULT = new Set([400, 413, 422]);

export interface Post {
  url: string;
  body: string;
  headers?: Record<string, string>;
  signal: AbortSignal;
  nowMs: number;
}

/** Throws Undelivered; connection errors as they come. */
export async function post({ url, body, headers, signal, nowMs }: Post): Promise<void> {
  const { status, retryAfter, text } = await exchange(url, body, headers ?? {}, signal);
  if (status >= 200 && status < 300) return;
  const said = text === '' ? '' : `: ${text.slice(0, 200)}`;
  if (status >= 300 && status < 400) throw new Undelivered(`HTTP ${status}, a redirect, which is not followed`, true);
  throw new Undelivered(`HTTP ${status}${said}`, !AT_FAULT.has(status), retryAfterMs(retryAfter, nowMs));
}

function exchange(
  url: string,
  body: string,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<{ status: number; retryAfter: string | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const request = url.startsWith('https:') ? httpsRequest : httpRequest;
    const req = request(
      url,
      {
        method: 'POST',
        agent: false,
        signal,
        headers: {
          'user-agent': 'twinmesh',
          ...headers,
          'content-type': 'application/json; charset=utf-8',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response: IncomingMessage) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        const done = () => {
          const text = Buffer.concat(chunks).subarray(0, MAX_ANSWER_BYTES).toString('utf8').trim();
          resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], text });
        };
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          bytes += chunk.length;
          if (bytes < MAX_ANSWER_BYTES) return;
          done();
          response.destroy();
        });
        response.on('end', done);
        response.on('error', reject);
      },
    );
    req.on('error', reject);
    req.end(body);
  });
}

/** Seconds, or a date (RFC 9110). */
function retryAfterMs(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null;
  const ms = /^\d{1,9}$/.test(header.trim()) ? Number(header) * 1_000 : Date.parse(header) - nowMs;
  return Number.isFinite(ms) ? Math.min(MAX_RETRY_AFTER_MS, Math.max(0, ms)) : null;
}
