import { existsSync, mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Logger } from 'pino';
import { MemoryLog } from '../actors/log/memory.ts';
import type { Log } from '../actors/log/port.ts';
import { type Clock, type Random, systemClock } from '../actors/protocol/clock.ts';
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
import { createLogger } from './logger.ts';
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
  readonly host: TwinHost;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** Drains the host, then closes log, database and metrics. Safe to call twice. */
  close(): Promise<void>;
}

export interface PartsOptions {
  clock?: Clock;
  random?: Random;
  logger?: Logger;
  kinds?: KindRegistry;
  /** False: the host is made and owns nothing, for tools that only need the database. */
  startHost?: boolean;
}

/** Readings that may wait in the memory log for their commit; above it sources wait too. */
const LOG_MAX_READINGS = 200_000;

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
    const sql = await openSql(settings);
    opened.push(() => sql.close());
    const store = new PostgresStore(sql);
    await store.open(kinds.all(), settings.shards);
    opened.push(() => store.close());
    const metrics = new Metrics(clock);
    opened.push(() => metrics.close());
    const log = new MemoryLog({ clock, maxReadings: LOG_MAX_READINGS });
    opened.push(() => log.close());
    const host = new Host({
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
      onCut: ({ readings, durationMs }) => metrics.cut(readings, durationMs),
    });
    // Before the host starts: no twin folds under rules that an operator has changed since.
    const tunings = await loadTuning(sql, kinds.all(), settings.latenessMs);
    for (const [kind, tuning] of tunings) if (tuning.version > 0) host.setTuning(kind, tuning);
    metrics.followHost(host);
    metrics.followLog(log);
    metrics.followFleet({ sql, kinds: kinds.all(), maxTwins: settings.metricsMaxTwins });
    if (options.startHost !== false) {
      opened.push(() => host.stop());
      await host.start();
    }
    return { settings, kinds, sql, store, log, host, logger, metrics, clock, close };
  } catch (error) {
    await close().catch((second) => logger.warn({ err: second }, 'closing after a failed start'));
    throw error;
  }
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

function openSql(settings: Settings): Promise<Sql> {
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
        url: settings.databaseUrl,
        applicationName: `twinmesh ${settings.nodeId}`,
        // A session that hangs in a transaction must not outlive the ownership it holds.
        idleInTransactionTimeoutMs: Math.min(5_000, settings.ttlMs / 2),
      });
}
