import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Span } from '../../actors/protocol/trace.ts';
import type { Identity } from './authenticate.ts';
import { type Access, type Caller, mayCall, type RequestFacts } from './caller.ts';
import type { Match } from './routes.ts';

/** A request on its way through the gateway: what has been found out about it so far. */
export interface GateRequest extends IncomingMessage {
  gate: GateFacts;
}

export interface GateFacts {
  requestId: string;
  startedMs: number;
  path: string;
  search: string;
  identity: Identity;
  match?: Match;
  /** Sends 100 Continue, where the sender waits for it. */
  onContinue?: () => void;
  /** The answer is a stream: how long it took says nothing. */
  streams?: boolean;
  /** From its admission to its answer, where it is traced. */
  span?: Span;
}

export const ANONYMOUS: Identity = Object.freeze({ user: null, loopback: false, metricsToken: false });
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;
const MAX_URL_LENGTH = 8192;

/** The first facts; nothing in here throws, because the answer to a faulty request needs them too. */
export function factsOf(
  req: IncomingMessage,
  res: ServerResponse,
  expectsContinue: boolean,
  startedMs: number,
): GateFacts {
  const given = req.headers['x-request-id'];
  const url = req.url ?? '/';
  const question = url.indexOf('?');
  return {
    requestId: typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID(),
    startedMs,
    path: question < 0 ? url : url.slice(0, question),
    search: question < 0 ? '' : url.slice(question + 1),
    identity: ANONYMOUS,
    ...(expectsContinue ? { onContinue: () => res.writeContinue() } : {}),
  };
}

/** Throws bad_request for an address that is none. */
export function checkAddress(facts: GateFacts): void {
  if (!facts.path.startsWith('/') || facts.path.includes('#'))
    throw new TwinmeshError('bad_request', 'The request target must be a path.');
  if (facts.path.length + facts.search.length > MAX_URL_LENGTH)
    throw new TwinmeshError('bad_request', `The address is longer than ${MAX_URL_LENGTH} characters.`);
}

/** Throws unauthenticated, forbidden. */
export function mustBeAdmitted(identity: Identity, access: Access): Caller | null {
  const { user } = identity;
  if (access === 'metrics' && (identity.loopback || identity.metricsToken)) return user;
  if (mayCall(user?.role ?? null, access)) return user;
  if (identity.doubt) throw identity.doubt;
  if (user === null) throw new TwinmeshError('unauthenticated', 'This needs a key.');
  const needed =
    access === 'device' ? 'device (or operator, or admin)' : `${access === 'metrics' ? 'viewer' : access} or above`;
  throw new TwinmeshError('forbidden', `This needs the role ${needed}; the key has ${user.role}.`);
}

const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,200}$/;

/** What actions may know of the request. Throws bad_request for an Idempotency-Key that is none. */
export function requestFactsOf(req: IncomingMessage): RequestFacts {
  const { headers } = req;
  const idempotencyKey = one(headers['idempotency-key']);
  if (idempotencyKey !== undefined && !IDEMPOTENCY_KEY.test(idempotencyKey))
    throw new TwinmeshError('bad_request', 'Idempotency-Key is 1 to 200 visible ASCII characters.');
  const ifMatch = one(headers['if-match']);
  const lastEventId = one(headers['last-event-id']);
  return {
    method: req.method ?? 'GET',
    accept: headers.accept ?? '*/*',
    contentType: headers['content-type'] ?? '',
    ...(ifMatch === undefined ? {} : { ifMatch }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(lastEventId === undefined ? {} : { lastEventId }),
  };
}

function one(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}
