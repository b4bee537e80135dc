import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { sha256 } from '../keys/hashing.ts';
import type { Caller } from './caller.ts';
import { asTwinmeshError } from './problem.ts';
import type { RateLimiter, RateVerdict } from './rate-limit.ts';

/**
 * Who is calling, decided before anything else of the request is looked at.
 *  1. A key is a header (Authorization: Bearer, or x-api-key), never a part of the address, which ends up in logs.
 *  2. A wrong key is refused even where no key is needed, so that nobody believes it works.
 *     A key that cannot be looked up is no reason to refuse what needs none.
 *  3. The address is that of the connection: X-Forwarded-For is what anybody writes into it.
 *  4. A good key has a budget of its own; an address has one for requests without a key and one for wrong keys. Once
 *     the latter is spent, its unknown keys are refused unseen, which spares the store; keys that were good before are
 *     still looked at, so that a guesser behind the same proxy does not lock the others out.
 */
export interface Identity {
  user: Caller | null;
  /** The request came from this machine, not through a proxy. */
  loopback: boolean;
  /** METRICS_TOKEN was presented. */
  metricsToken: boolean;
  /** Why a key could not be looked up: whatever needs one is answered this. */
  doubt?: TwinmeshError;
}

export interface AuthenticateOptions {
  authenticate(presented: string): Promise<Caller | null>;
  /** Whether this key has been good here before; it may not be any more. */
  knows(presented: string): boolean;
  limiter: RateLimiter;
  metricsToken: string | null;
}

/** Requests over the control socket: whoever may open it owns the data folder. */
export const LOCAL_ADMIN: Caller = Object.freeze({ keyId: 'local', name: 'control socket', role: 'admin' });

/** Throws unauthenticated, rate_limited. */
export async function identify(req: IncomingMessage, options: AuthenticateOptions): Promise<Identity> {
  const address = req.socket.remoteAddress ?? 'unknown';
  const loopback = isFromHere(req);
  const presented = presentedKey(req.headers);
  if (presented === null) {
    admit(await options.limiter.take(`address:${address}`));
    return { user: null, loopback, metricsToken: false };
  }
  if (options.metricsToken !== null && sameText(presented, options.metricsToken)) {
    admit(await options.limiter.take('metrics token'));
    return { user: null, loopback, metricsToken: true };
  }
  const guesses = `wrong keys:${address}`;
  const budget = await options.limiter.peek(guesses);
  if (!budget.allowed && !options.knows(presented)) admit(budget);
  let user: Caller | null;
  try {
    user = await options.authenticate(presented);
  } catch (thrown) {
    const doubt = asTwinmeshError(thrown);
    if (!doubt.spec.retryable) throw thrown;
    admit(await options.limiter.take(`address:${address}`));
    return { user: null, loopback, metricsToken: false, doubt };
  }
  if (user === null) {
    admit(await options.limiter.take(guesses));
    throw new TwinmeshError('unauthenticated', 'The key is not known, or it has been revoked.');
  }
  admit(await options.limiter.take(`key:${user.keyId}`));
  return { user, loopback, metricsToken: false };
}

/** The key of the request, null where none is sent. Throws unauthenticated for another scheme or two different keys. */
export function presentedKey(headers: IncomingHttpHeaders): string | null {
  const { authorization } = headers;
  const apiKey = headers['x-api-key'];
  let bearer: string | null = null;
  if (authorization !== undefined) {
    const match = /^Bearer +(\S{1,512})$/i.exec(authorization);
    if (!match) throw new TwinmeshError('unauthenticated', 'Authorization must be "Bearer" and a key.');
    bearer = match[1];
  }
  if (apiKey === undefined) return bearer;
  if (Array.isArray(apiKey) || apiKey.length > 512 || (bearer !== null && bearer !== apiKey))
    throw new TwinmeshError('unauthenticated', 'Send one key.');
  return apiKey;
}

function admit(verdict: RateVerdict): void {
  if (verdict.allowed) return;
  throw new TwinmeshError('rate_limited', 'Too many requests.', { retryAfterMs: verdict.retryAfterMs });
}

/** Whether the request came from this machine, and not through a proxy on it. */
export function isFromHere(req: IncomingMessage): boolean {
  return isLoopback(req.socket.remoteAddress ?? 'unknown') && !wasForwarded(req.headers);
}

function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/.test(address);
}

/** A proxy on this machine speaks for others: its requests are not this machine's. */
function wasForwarded(headers: IncomingHttpHeaders): boolean {
  return headers.forwarded !== undefined || headers['x-forwarded-for'] !== undefined || headers.via !== undefined;
}

export function sameText(a: string, b: string): boolean {
  return timingSafeEqual(sha256(a), sha256(b));
}
