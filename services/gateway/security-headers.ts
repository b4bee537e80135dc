import type { ServerResponse } from 'node:http';

/** A response of the API is data: nothing in it may run, be framed, be sniffed, or be kept by a shared cache. */
const HEADERS: readonly [string, string][] = [
  ['X-Content-Type-Options', 'nosniff'],
  ['X-Frame-Options', 'DENY'],
  ['Referrer-Policy', 'no-referrer'],
  ['Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'"],
  ['Cross-Origin-Opener-Policy', 'same-origin'],
  ['Cache-Control', 'no-store'],
];

export function setSecurityHeaders(res: ServerResponse): void {
  for (const [name, value] of HEADERS) res.setHeader(name, value);
}

const ALLOWED_HEADERS =
  'Authorization, X-Api-Key, Content-Type, Content-Encoding, Accept, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, X-Request-Id';
const EXPOSED_HEADERS = 'ETag, Location, Retry-After, X-Request-Id, Allow';

/**
 * CORS for the configured origins only. An origin that is not among them gets no header and its browser refuses it;
 * it is no error, because pages of our own origin send `Origin` too. Credentials are never allowed: a key is a header.
 */
export function setCorsHeaders(
  origins: readonly string[],
  origin: string | undefined,
  res: ServerResponse,
  preflight: boolean,
  allow: string | null,
): void {
  if (origins.length === 0) return;
  res.setHeader('Vary', 'Origin');
  if (origin === undefined || !origins.includes(origin)) return;
  res.setHeader('Access-Control-Allow-Origin', origin);
  if (!preflight) {
    res.setHeader('Access-Control-Expose-Headers', EXPOSED_HEADERS);
    return;
  }
  res.setHeader('Access-Control-Allow-Methods', allow ?? 'GET, HEAD, POST, PUT, PATCH, DELETE');
  res.setHeader('Access-Control-Allow-Headers', ALLOWED_HEADERS);
  res.setHeader('Access-Control-Max-Age', '600');
}
