import { randomUUID } from 'node:crypto';
import moleculer, { type Context, type Endpoint, type Middleware, type ServiceBroker } from 'moleculer';
import type { Directory } from '../actors/placement/directory.ts';
import { type ErrorCode, TwinmeshError } from '../actors/protocol/errors.ts';
import { isTwinId } from '../actors/protocol/twin-id.ts';

/**
 * How a call finds its node: `broker.call('twins.get', { twinId })` goes to the owner of the twin, wherever that is, and
 * follows it when it moves; any other call stays in the process where it can.
 *
 * Owns: which endpoint a call takes, and whether it is tried again. Does not own who the owner is (directory.ts).
 *
 * Invariants:
 *  1  What is tried again keeps its `callId`, from which a command without a key of its own makes one: a call that was
 *     answered `not_owner`, or not at all, changes a twin at most once.
 *  2  Tries end with the deadline of the call, and a read before that with the last committed state (`lastResort`).
 *  3  A node that did not answer is passed over for a while where others can.
 *  4  A call about no twin is sent again only where once more does no harm: its node may have done it before it went.
 */
export interface CallMark {
  /** The same over all tries of one call. */
  callId?: string;
  /** No owner was found in time: answer what was committed last, marked stale. */
  lastResort?: boolean;
}

interface Route {
  directory: Directory | undefined;
  /** Nodes that did not answer, until when, ms of the monotonic clock. */
  suspects: Map<string, number>;
  turn: number;
}

const routes = new WeakMap<ServiceBroker, Route>();

function routeOf(broker: ServiceBroker): Route {
  let route = routes.get(broker);
  if (route === undefined) {
    route = { directory: undefined, suspects: new Map(), turn: 0 };
    routes.set(broker, route);
  }
  return route;
}

/** From now on calls of this broker are routed by it. */
export function routeBy(broker: ServiceBroker, directory: Directory): void {
  routeOf(broker).directory = directory;
}

/**
 * How long a try waits for its answer, ms: a node that is paused or gone answers nothing. Each try waits twice as long as the
 * one before, so that a node that is merely slow is not buried under calls that nobody waits for any more.
 */
const TRY_MS = 1_500;
/** How long a read looks for an owner before it takes what was committed last, ms. */
const READ_PATIENCE_MS = 5_000;
/** How long the last committed state may take then, ms. */
const LAST_MS = 3_000;
const SUSPECT_MS = 5_000;
const PAUSE_MS = { first: 5, most: 200 };
const DEFAULT_DEADLINE_MS = 30_000;

export class OwnerStrategy extends moleculer.Strategies.Base {
  override select(list: Endpoint[], ctx?: Context): Endpoint {
    const route = routeOf(this.broker);
    const own = list.find((endpoint) => endpoint.local);
    const lastResort = ctx === undefined || (ctx.meta as CallMark).lastResort === true;
    const twinId = lastResort ? null : twinOf(nameOf(list[0]), ctx.params);
    if (twinId !== null && route.directory !== undefined) {
      const owner = route.directory.ownerOf(route.directory.shardOf(twinId));
      const endpoint = list.find(({ id }) => id === owner);
      if (endpoint !== undefined) return endpoint;
    } else if (own !== undefined) return own;
    const now = performance.now();
    const trusted = list.filter(({ id }) => (route.suspects.get(id) ?? 0) < now);
    const from = trusted.length > 0 ? trusted : list;
    route.turn = (route.turn + 1) % 1_000_000;
    return from[route.turn % from.length];
  }
}

function nameOf(endpoint: Endpoint): string {
  return (endpoint as unknown as { action?: { name: string } }).action?.name ?? '';
}

/** About a twin, and answered from the database by any host. */
const OF_NO_OWNER: ReadonlySet<string> = new Set(['twins.events']);

/** The twin that a call is about, null where it is about none. An alert's id begins with its twin's. */
export function twinOf(action: string, params: unknown): string | null {
  if (!action.startsWith('twins.') || OF_NO_OWNER.has(action) || typeof params !== 'object' || params === null)
    return null;
  const { twinId, id, at } = params as { twinId?: unknown; id?: unknown; at?: unknown };
  // as it was: read from what is committed, by anybody
  if (action === 'twins.get' && at !== undefined) return null;
  const found = typeof twinId === 'string' ? twinId : typeof id === 'string' ? id.split('~', 1)[0] : null;
  return found !== null && isTwinId(found) ? found : null;
}

type Tried = Promise<unknown> & { ctx?: unknown };
type Call = (action: string, params?: unknown, options?: CallOptions) => Promise<unknown>;
type CallOptions = { timeout?: number; nodeID?: string; meta?: Record<string, unknown>; ctx?: unknown } & Record<
  string,
  unknown
>;

/** Wraps `broker.call`: tries again what another node should answer. */
export function routing(): Middleware {
  let broker: ServiceBroker;
  return {
    name: 'Routing',
    created(created: ServiceBroker) {
      broker = created;
    },
    call(next: Call) {
      const routed: Call = (action, params, options = {}) => {
        const route = routeOf(broker);
        const twinId = route.directory === undefined || options.nodeID !== undefined ? null : twinOf(action, params);
        // Whoever called takes the headers of the answer from the context of the try that gave it.
        const attempt: Call = (...call) => {
          const tried = next(...call) as Tried;
          outer.ctx = tried.ctx;
          return tried;
        };
        const outer: Tried = Promise.resolve().then(() =>
          twinId === null
            ? again(broker, attempt, route, action, params, options)
            : toOwner(attempt, route, twinId, action, params, options),
        );
        return outer;
      };
      return routed as never;
    },
  } as Middleware;
}

async function toOwner(
  next: Call,
  route: Route,
  twinId: string,
  action: string,
  params: unknown,
  options: CallOptions,
): Promise<unknown> {
  const directory = route.directory as Directory;
  const shard = directory.shardOf(twinId);
  const started = performance.now();
  const deadline = started + (options.timeout || DEFAULT_DEADLINE_MS);
  const isRead = READS.has(action);
  const patience = isRead ? Math.min(deadline, started + READ_PATIENCE_MS) : deadline;
  // Of this call and no other: a caller that was itself called, or has called before, brings the marks of those calls along.
  const meta = { ...options.meta, callId: randomUUID(), lastResort: false };
  let tryMs = TRY_MS;
  for (let pauseMs = PAUSE_MS.first; ; pauseMs = Math.min(PAUSE_MS.most, pauseMs * 2)) {
    const left = deadline - performance.now();
    let failure: unknown;
    if (directory.ownerOf(shard) !== null) {
      try {
        return await next(action, params, { ...options, meta, timeout: Math.max(1, Math.min(tryMs, left)) });
      } catch (error) {
        if (!isElsewhere(error)) throw error;
        if (suspect(route, error)) tryMs *= 2;
        failure = error;
      }
    }
    if (performance.now() + pauseMs >= patience) {
      if (isRead) return next(action, params, { ...options, meta: { ...meta, lastResort: true }, timeout: LAST_MS });
      throw failure ?? new TwinmeshError('unavailable', `No node owns shard ${shard} of ${twinId} at the moment.`);
    }
    await Promise.race([directory.change(shard, pauseMs), directory.doubt()]);
    if (failure !== undefined || directory.ownerOf(shard) === null) await directory.change(shard, pauseMs);
  }
}

const READS = new Set(['twins.get']);

/** Calls about no twin: what a node took along when it went is asked of another, once. */
async function again(
  broker: ServiceBroker,
  next: Call,
  route: Route,
  action: string,
  params: unknown,
  options: CallOptions,
): Promise<unknown> {
  try {
    return await next(action, params, options);
  } catch (error) {
    if (!suspect(route, error) || options.nodeID !== undefined || !isLeft(error) || !isHarmless(broker, action))
      throw error;
    return next(action, params, options);
  }
}

/** Reads, and telemetry, which twins recognise. */
function isHarmless(broker: ServiceBroker, action: string): boolean {
  if (action.startsWith('ingest.')) return true;
  const offered = broker.registry.getActionEndpoints(action) as unknown as {
    endpoints: { action: { rest?: string | string[] } }[];
  } | null;
  const rest = [offered?.endpoints[0]?.action.rest ?? []].flat();
  return rest.length > 0 && rest.every((route) => route.startsWith('GET '));
}

interface Failure {
  name?: string;
  code?: unknown;
  nodeID?: string;
  data?: { nodeID?: string };
}

/** Another node should answer, now or in a moment. */
function isElsewhere(error: unknown): boolean {
  const { name, code } = (error ?? {}) as Failure;
  return code === 'not_owner' || code === 'unavailable' || SILENT.has(name ?? '') || UNANSWERED.has(name ?? '');
}

const SILENT = new Set(['RequestTimeoutError']);
/** Nobody is there to answer: none was, or the node went while it had the call. */
const UNANSWERED = new Set(['ServiceNotFoundError', 'ServiceNotAvailableError', 'RequestRejectedError']);

/** The node went away with the call; it may have done what it was asked. */
function isLeft(error: unknown): boolean {
  return (error as Failure).name === 'RequestRejectedError';
}

/** Remembers a node that did not answer; false where the error says nothing about one. */
function suspect(route: Route, error: unknown): boolean {
  const { name, nodeID, data } = (error ?? {}) as Failure;
  if (!SILENT.has(name ?? '') && !isLeft(error)) return false;
  const node = data?.nodeID ?? nodeID;
  if (node !== undefined) route.suspects.set(node, performance.now() + SUSPECT_MS);
  if (route.suspects.size > 1_000) route.suspects.clear();
  return true;
}

/** Errors of ours keep their class on the way between nodes, and leave their stack at home. */
export class ErrorCarrier extends moleculer.Errors.Regenerator {
  override extractPlainError(error: Record<string, unknown>, payload: Record<string, unknown>) {
    const plain = super.extractPlainError(error, payload);
    return error instanceof TwinmeshError ? { ...plain, data: error.details, stack: undefined } : plain;
  }

  // The types want an error always; what answers nothing is restored as Moleculer restores its own.
  override restoreCustomError(plain: { name: string; message: string; code: unknown; data?: unknown }): Error {
    if (plain.name !== 'TwinmeshError') return undefined as unknown as Error;
    return new TwinmeshError(plain.code as ErrorCode, plain.message, plain.data as Record<string, unknown> | undefined);
  }
}
