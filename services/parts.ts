import { existsSync, mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Logger } from 'pino';
import { DeadLetters } from '../actors/ingress/dead-letters.ts';
import { JetStreamLog } from '../actors/log/jetstream.ts';
import { MemoryLog } from '../actors/log/memory.ts';
import type { Log } from '../actors/log/port.ts';
import { Directory, type Ownership } from '../actors/placement/directory.ts';
import { type Clock, type Random, systemClock } from '../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { Host } from '../actors/runtime/host.ts';
import type { TwinHost } from '../actors/runtime/host-api.ts';
import type { HostLogger } from '../actors/runtime/host-options.ts';
import { type KindRegistry, loadKinds } from '../actors/runtime/kind-registry.ts';
import { dataDirError } from '../actors/store/data-dir.ts';
import { Pg } from '../actors/store/pg.ts';
import { Pglite } from '../actors/store/pglite.ts';
import type { Store } from '../actors/store/port.ts';
import { PostgresStore } from '../actors/store/postgres.ts';
import { loadTuning } from '../actors/store/queries/tuning.ts';
import type { Sql } from '../actors/store/sql.ts';
import type { Settings } from '../config/settings.ts';
import { natsAccess } from '../mixins/nats-access.ts';
import { RedisLink } from '../mixins/redis.ts';
import { openTracing, type Tracing } from '../mixins/tracing.ts';
import { PredictorSeat } from './inference/seat.ts';
import { beats, livingNodes } from './living-nodes.ts';
import { claimLog, identityOf, recordLog } from './log-identity.ts';
import { createLogger } from './logger.ts';
import { watchAsking } from './metrics/inference.ts';
import { timed } from './metrics/timed.ts';
import { Metrics } from './metrics.ts';

/**
 * The parts of one node, put together from the settings and taken apart in the opposite order. Nothing in here knows
 * Moleculer: tests, tools and benches open the same parts without a broker.
 */
export interface Parts {
  readonly settings: Settings;
  readonly kinds: KindRegistry;
  readonly sql: Sql;
  readonly store: Store;
  readonly log: Log;
  /** Throws `internal` where ROLES leaves out host: services that use it say so by their role. */
  readonly host: TwinHost;
  /** Whether this node has a twin host. */
  readonly hosts: boolean;
  /** Who owns which shard; null where one node owns them all. */
  readonly directory: Directory | null;
  /** Shards that this node has just taken or given up: to be told to the others. */
  onMoved(listener: (moved: readonly Ownership[]) => void): void;
  /** Whom the host asks for predictions; taken by whoever can ask, once the services are up. */
  readonly predictor: PredictorSeat;
  /** Null without REDIS_URL. It may be away. */
  readonly redis: RedisLink | null;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  readonly clock: Clock;
  /** Starts the twin host, where that was left for later: from then on it owns twins. */
  begin(): Promise<void>;
  /** Drains the host, then closes log, database and metrics. Safe to call twice. */
  close(): Promise<void>;
}

export interface PartsOptions {
  clock?: Clock;
  random?: Random;
  logger?: Logger;
  kinds?: KindRegistry;
  /** False: the host is made and owns nothing, for tools that only need the database. */
  startHost?: boolean | 'later';
}

/** Readings that may wait in the memory log for their commit; above it sources wait too. */
const LOG_MAX_READINGS = 200_000;
/** How long a start waits for NATS. */
const NATS_WITHIN_MS = 30_000;

/** Throws bad_kind, data_dir, store_down, newer_schema, wrong_shard_count. */
export async function openParts(settings: Settings, options: PartsOptions = {}): Promise<Parts> {
  const clock = options.clock ?? systemClock;
  const logger =
    options.logger ?? createLogger({ level: settings.logLevel, format: settings.logFormat, node: settings.nodeId });
  const kinds = options.kinds ?? (await loadKinds(settings.kindsDir === null ? [] : [resolve(settings.kindsDir)]));
  const opened: (() => Promise<void> | void)[] = [];
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= closeAll(opened);
    return closing;
  };
  try {
    const metrics = new Metrics(clock);
    opened.push(() => metrics.close());
    const tracing = openTracing(settings, { clock, logger: logger.child({ part: 'tracing' }) });
    opened.push(() => tracing.close());
    metrics.followTracing(tracing);
    const rawSql = await openSql(settings, metrics);
    opened.push(() => rawSql.close());
    if (rawSql instanceof Pg) metrics.followPools(() => rawSql.pools);
    const sql = timed(rawSql, metrics.database.statement);
    const store = timed(new PostgresStore(rawSql), metrics.database.statement);
    await store.open(kinds.all(), settings.shards);
    opened.push(() => store.close());
    const starts = settings.roles.includes('host') && options.startHost !== false;
    // It takes a moment, which the rest of the start needs anyway.
    const isTaken = starts && settings.natsUrl !== null ? beats(sql, settings.nodeId, settings.ttlMs) : false;
    if (isTaken) isTaken.catch(() => undefined);
    const redis = settings.redisUrl === null ? null : openRedis(settings, clock, logger, metrics);
    if (redis) opened.push(() => redis.close());
    const log = await openLog(settings, sql, store, clock, logger);
    opened.push(() => log.close());
    if (settings.databaseUrl !== null && options.startHost !== false) await claimLog(sql, log, settings);
    const directory = settings.natsUrl === null ? null : openDirectory(settings, store, clock, logger);
    if (directory) opened.push(() => directory.close());
    const hosts = settings.roles.includes('host');
    const predictor = new PredictorSeat();
    watchAsking(metrics.registry, () => predictor.status());
    const listeners: ((moved: readonly Ownership[]) => void)[] = [];
    const tell = (moved: readonly Ownership[]) => {
      directory?.observe(moved);
      for (const listener of listeners) listener(moved);
    };
    const host = hosts
      ? new Host({
          node: settings.nodeId,
          kinds,
          store,
          log,
          clock,
          random: options.random ?? Math.random,
          shards: settings.shards,
          ttlMs: settings.ttlMs,
          latenessMs: settings.latenessMs,
          cutMaxEntries: settings.cutMaxEntries,
          passivateAfterMs: settings.passivateAfterMs,
          maxResidentBytes: settings.maxResidentMb * 1_048_576,
          logger: hostLogger(logger.child({ part: 'host' })),
          tracer: tracing,
          predictor,
          predictionsPerSecond: settings.inferenceMaxPerSecond,
          // Who asks gives up before, and says why.
          predictionDeadlineMs: settings.inferenceDeadlineMs + 1_000,
          logReserveMessages: settings.logReserveMessages,
          onCut: ({ readings, durationMs }) => metrics.cut(readings, durationMs),
          onMoved: tell,
          onOwnership: (rows) => directory?.observe(rows),
        })
      : null;
    // Before the host starts: no twin folds under rules that an operator has changed since.
    const tunings = host === null ? new Map() : await loadTuning(sql, kinds.all(), settings.latenessMs);
    for (const [kind, tuning] of tunings) if (tuning.version > 0) host?.setTuning(kind, tuning);
    if (host) metrics.followHost(host);
    if (log instanceof MemoryLog) metrics.followLog(log);
    if (log instanceof JetStreamLog) metrics.followSharedLog(() => log.status());
    const keepMs = settings.metricsKeepMs;
    metrics.followFleet({ sql, kinds: kinds.all(), maxTwins: settings.metricsMaxTwins, keepMs });
    metrics.followDatabase({ sql, keepMs });
    const begin = async () => {
      if (host === null || !starts) return;
      if (await isTaken) throw nameIsTaken(settings.nodeId);
      if (settings.databaseUrl !== null && settings.natsUrl === null) await mustBeAlone(sql, settings);
      opened.push(() => host.stop());
      await host.start();
      // The others look now, and not in their next round, whether this node should have some of theirs.
      tell([]);
    };
    if (options.startHost !== 'later') await begin();
    await directory?.doubt();
    directory?.start();
    return {
      settings,
      kinds,
      sql,
      store,
      log,
      get host(): TwinHost {
        if (host === null) throw new TwinmeshError('internal', 'This node has no twin host: ROLES leaves out host.');
        return host;
      },
      hosts,
      directory,
      onMoved: (listener) => void listeners.push(listener),
      predictor,
      redis,
      logger,
      metrics,
      tracing,
      clock,
      begin,
      close,
    };
  } catch (error) {
    await close().catch((second) => logger.warn({ err: second }, 'closing after a failed start'));
    throw error;
  }
}

function openRedis(settings: Settings, clock: Clock, logger: Logger, metrics: Metrics): RedisLink {
  const redis = new RedisLink({
    url: settings.redisUrl as string,
    tls: settings,
    clock,
    logger: logger.child({ part: 'redis' }),
  });
  metrics.followGauge('twinmesh_redis_connected', '1 while Redis is there.', () => (redis.status().connected ? 1 : 0));
  metrics.followGauge(
    'twinmesh_redis_commands_failed',
    'Commands that Redis did not answer, or that were not sent because it was away, since start.',
    () => redis.status().failed,
  );
  return redis;
}

async function openLog(settings: Settings, sql: Sql, store: Store, clock: Clock, logger: Logger): Promise<Log> {
  if (settings.natsUrl === null) return new MemoryLog({ clock, maxReadings: LOG_MAX_READINGS });
  const letters = new DeadLetters({ sql, clock });
  const log = await JetStreamLog.open({
    connection: { ...natsAccess(settings, 'log'), firstWithinMs: NATS_WITHIN_MS },
    clock,
    shards: settings.shards,
    logger: logger.child({ part: 'log' }),
    maxBytes: settings.logMaxBytes,
    replicas: settings.logReplicas,
    positions: () => store.shards(),
    onRemade: () => {
      recordLog(sql, identityOf(log)).catch((err) => logger.error({ err }, 'which log this is could not be stored'));
    },
    onUndecodable: ({ shard, position, appendedAt, bytes, reason }) =>
      letters.add({
        receivedAt: appendedAt,
        source: `nats:log ${shard}/${position}`,
        code: 'not_json',
        message: `A message of the log cannot be read: ${reason}`,
        twinId: null,
        payload: Buffer.from(bytes).toString('base64'),
      }),
  });
  return log;
}

function openDirectory(settings: Settings, store: Store, clock: Clock, logger: Logger): Directory {
  return new Directory({
    shards: settings.shards,
    look: () => store.shards(),
    clock,
    everyMs: Math.max(500, settings.ttlMs / 4),
    onError: (error) => logger.debug({ error: messageOf(error) }, 'ownership could not be read'),
  });
}

/** Two nodes of one name take each shard from one another, again and again. */
function nameIsTaken(node: string): TwinmeshError {
  const message = `A node named ${node} lives on this database already; give each node its own NODE_ID.`;
  return new TwinmeshError('conflict', message);
}

/** Nodes without a mesh each have a log of their own: what one of them acknowledges the other would never read. */
async function mustBeAlone(sql: Sql, settings: Settings): Promise<void> {
  const others = await livingNodes(sql, settings.ttlMs);
  if (others.length === 0) return;
  const message = `DATABASE_URL is served by ${others.join(', ')} already; a second node needs NATS_URL, the same for both.`;
  throw new TwinmeshError('conflict', message);
}

/** A shard that was given up in order is one of hundreds at every stop: nothing to tell. */
function hostLogger(logger: Logger): HostLogger {
  return {
    info: (fields, message) => logger[fields.why === 'released' ? 'debug' : 'info'](fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
  };
}

/** The last opened is closed first; one that fails does not keep the others open. */
async function closeAll(opened: (() => Promise<void> | void)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const shut of opened.splice(0).reverse()) {
    try {
      await shut();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** Level by level: `recursive` runs for ever where the file system answers ENOENT for a parent that is there (/proc). */
function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  makeFolder(dirname(folder));
  mkdirSync(folder, { mode: 0o700 });
}

/** The driver reads certificates from files that the URL names. */
export function databaseUrlOf({ databaseUrl, tlsCaFile, tlsCertFile, tlsKeyFile }: Settings): string {
  const url = new URL(databaseUrl as string);
  const mode = url.searchParams.get('sslmode');
  if (mode === null || mode === 'disable') return url.toString();
  const files = { sslrootcert: tlsCaFile, sslcert: tlsCertFile, sslkey: tlsKeyFile };
  for (const [name, file] of Object.entries(files))
    if (file !== null && !url.searchParams.has(name)) url.searchParams.set(name, resolve(file));
  return url.toString();
}

function openSql(settings: Settings, metrics: Metrics): Promise<Sql> {
  // The control socket lives there too, whatever the database is.
  const folder = resolve(settings.dataDir);
  try {
    makeFolder(folder);
  } catch (error) {
    throw dataDirError(folder, error);
  }
  return settings.databaseUrl === null
    ? Pglite.open({ dataDir: folder })
    : Pg.open({
        url: databaseUrlOf(settings),
        maxConnections: settings.databasePool,
        applicationName: `twinmesh ${settings.nodeId}`,
        onAcquired: metrics.database.acquired,
        // One node alone may wait for a slow server; in a mesh the others would not wait for it.
        priorityAnswerMs: settings.natsUrl === null ? undefined : Math.max(500, settings.ttlMs * 0.4),
        // A session that hangs in a transaction must not outlive the ownership it holds.
        idleInTransactionTimeoutMs: Math.min(5_000, settings.ttlMs / 2),
      });
}
