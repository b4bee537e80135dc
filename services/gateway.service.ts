import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import type { Context, Service, ServiceSchema, ServiceSettingSchema } from 'moleculer';
import ApiGateway from 'moleculer-web';
import type { TimerHandle } from '../actors/protocol/clock.ts';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { recordAttempt, recordOutcome } from './audit/trail.ts';
import { identify, LOCAL_ADMIN } from './gateway/authenticate.ts';
import { abandonBody, bodyParams } from './gateway/body.ts';
import type { Caller, CallMeta } from './gateway/caller.ts';
import { openControlSocket } from './gateway/control-socket.ts';
import { docsPage } from './gateway/docs-page.ts';
import { DOCUMENT_DOCS, PAGE_DOCS } from './gateway/docs-routes.ts';
import { sendAnswer, sendStream } from './gateway/envelope.ts';
import { exposedActions, frontedServices } from './gateway/exposed-actions.ts';
import { createHttpServer, listen, shut } from './gateway/http-server.ts';
import { logFacts, observe, traced } from './gateway/observe.ts';
import { openApiOf } from './gateway/openapi.ts';
import { asTwinmeshError, problemOf, sendProblem } from './gateway/problem.ts';
import { parseQuery } from './gateway/query.ts';
import { checkQueryNames } from './gateway/query-names.ts';
import { MemoryRateLimiter, type RateLimiter } from './gateway/rate-limit.ts';
import { RedisRateLimiter } from './gateway/redis-rate-limit.ts';
import { checkAddress, factsOf, type GateRequest, mustBeAdmitted, requestFactsOf } from './gateway/request.ts';
import { type ExposedAction, type Match, RouteTable, routesOf } from './gateway/routes.ts';
import { setCorsHeaders, setSecurityHeaders } from './gateway/security-headers.ts';
import { OpenStreams } from './gateway/streams.ts';
import { authenticateKey, keyRing } from './keys/keyring.ts';
import { revokedAmong } from './keys/store.ts';
import { kindSchemas } from './kinds/kind-schemas.ts';
import type { Parts } from './parts.ts';
import { serviceSchemas } from './schemas.ts';

/**
 * The one HTTP door. moleculer-web carries a request to the action of its alias; everything that decides about it is ours:
 *
 *  1. Aliases are made from the actions that carry `rest` and `role`, and from nothing else. An action with `rest` and
 *     without `role` stops the start; one that appears later is not exposed, and logged.
 *  2. Order: limits of the connection, address, caller and rate limit, route, role, body, audit, action. Nothing of the
 *     body is read before its sender has been let in.
 *  3. Every answer of an error is a problem of `problem.ts`; what failed inside is logged with the request id and not told.
 *  4. It listens only once the services it fronts are up, and ends open streams before it closes.
 */
interface Alias {
  action: string;
  key: string;
  route: unknown;
}

interface Gate {
  elsewhere: readonly ServiceSchema[];
  table: RouteTable;
  byKey: Map<string, Alias>;
  limiter: RateLimiter;
  streams: OpenStreams;
  keyTimer: TimerHandle | undefined;
  server: Server | undefined;
  controlServer: Server | undefined;
  closeControl: (() => Promise<void>) | null;
  boundPort: number;
  document: Record<string, unknown> | undefined;
  aliases: Alias[];
  addRoute(options: Record<string, unknown>): { authorization?: unknown; authentication?: unknown };
  httpHandler(req: IncomingMessage, res: ServerResponse): Promise<void>;
  exposed(): ExposedAction[];
  checkKeys(): Promise<void>;
  checkKeysLater(): void;
  rebuild(): string[];
  receive(req: IncomingMessage, res: ServerResponse, expectsContinue: boolean, local: boolean): Promise<void>;
  fail(req: IncomingMessage, res: ServerResponse, thrown: unknown): void;
}

type GatewayService = Service & { parts: Parts } & Gate;

interface GateContext extends Context<unknown, CallMeta & Record<string, unknown>> {}

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_JSON_DEPTH = 32;
const SHUT_GRACE_MS = 2_000;
const CHECK_KEYS_MS = 30_000;
const START_TIMEOUT_MS = 120_000;
const { version } = createRequire(import.meta.url)('../package.json') as { version: string };

/** moleculer-web without its own ways to list and change routes. */
const carrier = { ...ApiGateway, actions: { rest: ApiGateway.actions?.rest } } as Partial<ServiceSchema>;

const gateway: PartsSchema<Gate> = {
  name: 'gateway',
  metadata: { role: 'gateway' },
  mixins: [carrier, partsMixin],

  settings: {
    // Its own server and default route stay off: the route it would make exposes every action.
    server: false,
    routes: null,
    optimizeOrder: false,
    logRequest: null,
    logRequestParams: null,
    logResponse: null,
    logRouteRegistration: null,
    // Requests in flight are waited for by closing the server; a stream would hold the stop up before it is ended.
    rootCallOptions: { tracking: false },
  } as ServiceSettingSchema,

  actions: {
    openapi: {
      rest: 'GET /openapi.json',
      role: 'public',
      openapi: DOCUMENT_DOCS,
      handler(this: GatewayService) {
        const description = 'Digital twins of physical assets: their state, history, events and commands.';
        const info = { title: 'twinmesh', version, description };
        this.document ??= openApiOf(this.table.routes, info, kindSchemas(this.parts.kinds.all()));
        return this.document;
      },
    },

    docs: {
      rest: 'GET /docs',
      role: 'public',
      openapi: PAGE_DOCS,
      handler(ctx: GateContext) {
        const page = docsPage();
        ctx.meta.$responseType = 'text/html; charset=utf-8';
        ctx.meta.$responseHeaders = { 'Content-Security-Policy': page.policy, 'Cache-Control': 'no-cache' };
        return page.html;
      },
    },
  },

  events: {
    '$services.changed'(this: GatewayService) {
      if (!this.table) return;
      for (const fault of this.rebuild()) this.logger.error(`Not exposed: ${fault}.`);
    },
    /** Keys have been revoked, here or on another node. */
    'keys.revoked'(this: GatewayService, ctx: Context<{ ids: string[] }>) {
      endOfKeys(this, ctx.params.ids);
    },
  },

  methods: {
    exposed(this: GatewayService): ExposedAction[] {
      return exposedActions(this.broker, this, this.elsewhere);
    },

    /** A stream is let in once: a key whose end was told while this node could not hear is found here. */
    async checkKeys(this: GatewayService): Promise<void> {
      const ids = this.streams.keyIds();
      if (ids.length > 0) endOfKeys(this, await revokedAmong(this.parts.sql, ids));
    },

    checkKeysLater(this: GatewayService): void {
      this.keyTimer = this.parts.clock.after(CHECK_KEYS_MS, () => {
        this.checkKeys()
          .catch((error: unknown) => this.logger.debug('The keys of open streams could not be checked.', error))
          .finally(() => {
            if (this.keyTimer) this.checkKeysLater();
          });
      });
    },

    /** Makes the aliases anew and answers the faults. */
    rebuild(this: GatewayService): string[] {
      const { routes, faults } = routesOf(this.exposed());
      const aliases = Object.fromEntries(
        routes.map(({ method, path, action }) => [`${method} ${path}`, { action, key: `${method} ${path}` }]),
      );
      const route = this.addRoute({
        path: '/',
        aliases,
        mappingPolicy: 'restrict',
        authentication: true,
        authorization: true,
        bodyParsers: false,
        mergeParams: true,
        etag: false,
        logging: false,
      });
      // moleculer-web only warns when a hook is missing, and then lets everybody in.
      if (typeof route.authorization !== 'function' || typeof route.authentication !== 'function')
        throw new TwinmeshError('internal', 'The gateway has no authorization hook.');
      this.byKey = new Map(this.aliases.map((alias: Alias) => [alias.key, alias]));
      this.table = new RouteTable(routes);
      this.document = undefined;
      return faults;
    },

    /** The first thing that happens to a request, and the last that sees what it threw. */
    async receive(
      this: GatewayService,
      plain: IncomingMessage,
      res: ServerResponse,
      expectsContinue: boolean,
      local: boolean,
    ): Promise<void> {
      const req = plain as GateRequest;
      req.gate = factsOf(req, res, expectsContinue, performance.now());
      const { gate } = req;
      // moleculer-web takes the request id from these.
      req.headers['x-request-id'] = gate.requestId;
      delete req.headers['x-correlation-id'];
      res.setHeader('X-Request-Id', gate.requestId);
      setSecurityHeaders(res);
      res.once('close', () => observe(req, res, this.parts));
      try {
        checkAddress(gate);
        const origins = this.parts.settings.corsOrigins;
        if (req.method === 'OPTIONS') {
          const allow = this.table.allow(gate.path);
          if (allow === null) throw new TwinmeshError('not_found', 'There is nothing at this path.');
          setCorsHeaders(origins, req.headers.origin, res, true, allow);
          res.writeHead(204, { Allow: allow }).end();
          abandonBody(req, res);
          return;
        }
        setCorsHeaders(origins, req.headers.origin, res, false, null);
        gate.identity = local
          ? { user: LOCAL_ADMIN, loopback: true, metricsToken: false }
          : await identify(req, {
              authenticate: (presented) => authenticateKey(this.parts.sql, presented),
              knows: (presented) => keyRing(this.parts.sql).knows(presented),
              limiter: this.limiter,
              metricsToken: this.parts.settings.metricsToken,
            });
        await traced(req, this.parts.tracing, () => this.httpHandler(req, res));
      } catch (error) {
        this.fail(req, res, error);
      }
    },

    parseQueryString(req: GateRequest) {
      return { query: parseQuery(req.gate.search), url: req.gate.path };
    },

    resolveAlias(this: GatewayService, url: string, method: string) {
      const match = this.table.match(method, url);
      const alias = this.byKey.get(`${match.route.method} ${match.route.path}`);
      return { alias: Object.assign(Object.create(alias ?? null), { match }), params: match.params };
    },

    // CORS has been dealt with before.
    corsHandler: () => false,

    authenticate(ctx: GateContext, _route: unknown, req: GateRequest): Caller | null {
      ctx.meta.requestId = req.gate.requestId;
      if (req.gate.span) ctx.meta.traceparent = req.gate.span.trace;
      ctx.meta.request = requestFactsOf(req);
      return req.gate.identity.user;
    },

    async authorize(
      this: GatewayService,
      _ctx: GateContext,
      _route: unknown,
      req: GateRequest & { $params: Record<string, unknown>; query: Record<string, string> },
      _res: ServerResponse,
      alias: { match: Match },
    ): Promise<void> {
      const { match } = alias;
      req.gate.match = match;
      mustBeAdmitted(req.gate.identity, match.route.access);
      checkQueryNames(match.route, req.query);
      if (match.route.method === 'GET') return;
      const limits = { maxBytes: this.parts.settings.maxBodyBytes, maxDepth: MAX_JSON_DEPTH };
      const body = await bodyParams(req, match.route.docs, limits, req.gate.onContinue).catch((error: unknown) => {
        // Telemetry that nobody could read is counted and kept like any other that is refused.
        const { code, message } = asTwinmeshError(error);
        if (match.route.docs.body === 'raw')
          this.broker.broadcastLocal('body.refused', { path: match.route.path, code, message });
        throw error;
      });
      // What the path says is what was authorised and is audited: nothing in the body replaces it.
      req.$params = { ...req.$params, ...body, ...match.params };
    },

    async callAction(
      this: GatewayService,
      _route: unknown,
      action: string,
      req: GateRequest & { $ctx: GateContext },
      res: ServerResponse,
      params: Record<string, unknown>,
    ): Promise<boolean> {
      const ctx = req.$ctx;
      const { gate } = req;
      const { route, params: inPath } = gate.match as Match;
      const user = gate.identity.user;
      const { sql, clock } = this.parts;
      const attempt =
        route.audited && user
          ? await recordAttempt(sql, {
              caller: user,
              action,
              target: Object.values(inPath).join(' ') || null,
              params,
              requestId: gate.requestId,
            })
          : null;
      let outcome = 'done';
      let data: unknown;
      try {
        // By name, so that the strategy of the service sees the params and picks the node that owns the twin.
        const { streamAction } = route.docs;
        const streamed = streamAction !== undefined && ctx.meta.request.accept.includes('text/event-stream');
        data = await ctx.call(streamed ? streamAction : action, params, {
          timeout: route.timeoutMs ?? DEFAULT_TIMEOUT_MS,
        });
      } catch (error) {
        outcome = asTwinmeshError(error).code;
        throw error;
      } finally {
        if (attempt !== null) {
          await recordOutcome(sql, attempt, outcome).catch((err) => {
            this.logger.error('The outcome of an audited action could not be recorded.', err, { attempt, outcome });
          });
        }
      }
      if (data instanceof Readable) {
        gate.streams = true;
        this.streams.add(data, user?.keyId ?? 'anonymous');
        sendStream(req, res, data, ctx.meta, (error) => {
          if (error && (error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE')
            this.logger.warn('A stream broke.', error, { requestId: gate.requestId });
        });
        return true;
      }
      const elapsedMs = performance.now() - gate.startedMs;
      sendAnswer(req, res, data, route.docs, ctx.meta, { requestId: gate.requestId, elapsedMs, nowMs: clock.now() });
      return true;
    },

    errorHandler(this: GatewayService, req: IncomingMessage, res: ServerResponse, error: unknown): void {
      this.fail(req, res, error);
    },

    send404(this: GatewayService, req: IncomingMessage, res: ServerResponse): void {
      this.fail(req, res, new TwinmeshError('not_found', 'There is nothing at this path.'));
    },

    fail(this: GatewayService, req: GateRequest, res: ServerResponse, thrown: unknown): void {
      const error = asTwinmeshError(thrown);
      const { gate } = req;
      if (error.spec.status >= 500 && !error.spec.retryable && error.code !== 'not_available') {
        this.parts.logger.error({ ...logFacts(req), err: error.cause ?? error }, 'request failed');
      }
      abandonBody(req, res);
      sendProblem(res, problemOf(error, gate.path, gate.requestId), error, req.method === 'HEAD');
    },
  },

  async started(this: GatewayService) {
    const { settings, clock, redis } = this.parts;
    const own = new MemoryRateLimiter(settings.rateLimitPerMinute, () => clock.monotonic());
    this.limiter = redis === null ? own : new RedisRateLimiter(redis, settings.rateLimitPerMinute, own);
    this.streams = new OpenStreams();
    this.checkKeysLater();
    this.elsewhere = settings.natsUrl === null ? [] : await serviceSchemas();
    const { faults, fronted } = frontedServices(this.broker, this.fullName);
    if (faults.length > 0) throw new TwinmeshError('internal', `The gateway does not start: ${faults.join('; ')}.`);
    if (fronted.length > 0) await this.broker.waitForServices(fronted, START_TIMEOUT_MS, 20);
    for (const fault of this.rebuild()) this.logger.error(`Not exposed: ${fault}.`);

    this.server = createHttpServer((req, res, waits) => void this.receive(req, res, waits, false));
    this.boundPort = await listen(this.server, settings.host, settings.port);
    this.controlServer = createHttpServer((req, res, waits) => void this.receive(req, res, waits, true));
    this.closeControl = await openControlSocket(this.controlServer, settings.dataDir);
    if (this.closeControl === null)
      this.logger.warn('DATA_DIR is too long a path for a control socket; the command lines need the server stopped.');
  },

  async stopped(this: Partial<GatewayService>) {
    this.keyTimer?.cancel();
    this.keyTimer = undefined;
    this.streams?.endAll();
    await Promise.all([
      this.server && shut(this.server, SHUT_GRACE_MS),
      this.controlServer && shut(this.controlServer, SHUT_GRACE_MS),
    ]);
    await this.closeControl?.();
  },
};

function endOfKeys({ parts, streams }: GatewayService, ids: readonly string[]): void {
  for (const id of ids) {
    keyRing(parts.sql).forget(id);
    streams.endOf(id);
  }
}

export default gateway;
