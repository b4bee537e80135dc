import type { IncomingMessage, ServerResponse } from 'node:http';
import { type JsonLimits, parseJson } from '../../actors/ingress/json.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { gunzipBounded } from '../ingest/gunzip.ts';
import type { RouteDocs } from './routes.ts';

/**
 * The body of a request. It is read after the caller has been let in and never beyond its limit, neither as it
 * arrives nor as it unpacks.
 */
export interface BodyLimits {
  maxBytes: number;
  maxDepth: number;
}

/** Commands and settings are small; whatever needs more says so in its `maxBodyBytes`. */
const JSON_BODY_BYTES = 262_144;

function hasBody(req: IncomingMessage): boolean {
  const length = req.headers['content-length'];
  return req.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/**
 * The params that the body adds. Throws too_large, unsupported, not_json, too_deep, duplicate_key, bad_text,
 * not_finite, bad_request.
 */
export async function bodyParams(
  req: IncomingMessage,
  docs: RouteDocs,
  limits: BodyLimits,
  onContinue?: () => void,
): Promise<Record<string, unknown>> {
  const raw = docs.body === 'raw';
  const maxBytes = Math.min(limits.maxBytes, docs.maxBodyBytes ?? (raw ? limits.maxBytes : JSON_BODY_BYTES));
  if (!hasBody(req)) return raw ? { body: Buffer.alloc(0) } : {};
  if (!raw) mustBeJson(req.headers['content-type']);
  const bytes = await readBody(req, maxBytes, onContinue);
  if (raw) return { body: bytes };
  return jsonParams(bytes, docs.bodyParam, { maxBytes, maxDepth: limits.maxDepth });
}

/** Reads at most `maxBytes`, unpacked where it is gzip. Throws too_large, unsupported, bad_request. */
async function readBody(req: IncomingMessage, maxBytes: number, onContinue?: () => void): Promise<Buffer> {
  const encoding = (req.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  if (encoding !== 'identity' && encoding !== 'gzip' && encoding !== 'x-gzip') {
    throw new TwinmeshError('unsupported', 'Content-Encoding may be gzip or left out.');
  }
  const declared = Number(req.headers['content-length'] ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes);
  onContinue?.();
  const packed = await collect(req, maxBytes);
  return encoding === 'identity' ? packed : gunzipBounded(packed, maxBytes);
}

function collect(req: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const done = (error: TwinmeshError | null) => {
      req.off('data', onData).off('end', onEnd).off('error', onLost).off('close', onLost);
      if (error) {
        req.pause();
        reject(error);
      } else resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, length));
    };
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      if (length > maxBytes) done(tooLarge(maxBytes));
      else chunks.push(chunk);
    };
    const onEnd = () => done(null);
    const onLost = () => done(new TwinmeshError('bad_request', 'The connection ended before the body did.'));
    req.on('data', onData).on('end', onEnd).on('error', onLost).on('close', onLost);
  });
}

/** Members of a JSON object as params; the whole value under `bodyParam` where the action wants it so. */
function jsonParams(
  bytes: Uint8Array | string,
  bodyParam: string | undefined,
  limits: JsonLimits,
): Record<string, unknown> {
  const value = parseJson(bytes, limits);
  mustBeStorable(value);
  if (bodyParam !== undefined) return { [bodyParam]: value };
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TwinmeshError('bad_request', 'The body must be a JSON object.');
  return value as Record<string, unknown>;
}

function mustBeJson(contentType: string | undefined): void {
  if (contentType === undefined) return;
  const type = contentType.split(';', 1)[0].trim().toLowerCase();
  if (type === 'application/json' || (type.startsWith('application/') && type.endsWith('+json'))) return;
  throw new TwinmeshError('unsupported', 'The body must be application/json.');
}

/**
 * Text that PostgreSQL cannot hold, numbers that JSON cannot write, and the one key that changes an object's prototype
 * when it is copied: each would fail, or worse pass, far from here. Depth has been bounded by the parser.
 */
export function mustBeStorable(value: unknown): void {
  if (typeof value === 'string') {
    if (value.includes('\0') || !value.isWellFormed())
      throw new TwinmeshError('bad_text', 'Text holds a NUL character or a lone surrogate.');
  } else if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TwinmeshError('not_finite', 'A number is too large.');
  } else if (Array.isArray(value)) {
    for (const element of value) mustBeStorable(element);
  } else if (typeof value === 'object' && value !== null) {
    for (const key of Object.keys(value)) {
      if (key === '__proto__') throw new TwinmeshError('bad_request', '__proto__ is not taken as a key.');
      mustBeStorable(key);
      mustBeStorable((value as Record<string, unknown>)[key]);
    }
  }
}

function tooLarge(maxBytes: number): TwinmeshError {
  return new TwinmeshError('too_large', `The body is larger than the ${maxBytes} bytes that are allowed here.`);
}

const DRAINED_BYTES = 65_536;

/**
 * After an early answer the rest of the body is still on its way. A small rest is read away, which keeps the
 * connection; a large one is not: the connection closes once the answer had time to arrive.
 */
export function abandonBody(req: IncomingMessage, res: ServerResponse): void {
  if (req.complete || !hasBody(req)) return;
  const length = Number(req.headers['content-length'] ?? Number.POSITIVE_INFINITY);
  if (length <= DRAINED_BYTES && req.headers.expect === undefined) {
    req.resume();
    return;
  }
  if (!res.headersSent) res.setHeader('Connection', 'close');
  const { socket } = req;
  // Node would destroy the connection as soon as the answer is written. What still arrives then makes the kernel reset it,
  // and a sender who is busy sending never sees the answer: so only our side ends, and the rest is read away meanwhile.
  socket.destroySoon = () => socket.end();
  res.once('finish', () => {
    req.resume();
    const timer = setTimeout(() => socket.destroy(), 500);
    timer.unref();
    socket.once('close', () => clearTimeout(timer));
  });
}
