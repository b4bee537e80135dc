import type { Log } from '../log/port.ts';
import type { Ownership } from '../placement/directory.ts';
import type { Clock, Random } from '../protocol/clock.ts';
import type { Kind } from '../protocol/kind.ts';
import type { Predictor } from '../protocol/prediction.ts';
import { NO_TRACER, type Tracer } from '../protocol/trace.ts';
import type { Store } from '../store/port.ts';
import type { HostCounters } from './host-api.ts';
import { DEFAULT_LATENESS_MS } from './state.ts';

/** What a host is made of; everything it cannot compute is handed in. */
export interface HostOptions {
  node: string;
  kinds: { get(kind: string): Kind; all(): readonly Kind[] };
  store: Store;
  log: Log;
  clock: Clock;
  random: Random;
  shards: number;
  /** A node whose beat stands still for so long is dead. */
  ttlMs: number;
  latenessMs?: number;
  /** Readings and commands a cut holds at most. */
  cutMaxEntries?: number;
  /** Entries without a snapshot this host may have: bounds the replay after a crash. */
  tailMaxEntries?: number;
  passivateAfterMs?: number;
  maxResidentBytes?: number;
  summaryEveryMs?: number;
  housekeepingMs?: number;
  /** The newest messages of the log that are kept though they are committed: for a database that is restored from an older copy. */
  logReserveMessages?: number;
  claimAtOnce?: number;
  /** Whoever answers for models; without it no twin asks any. */
  predictor?: Predictor;
  /** Predictions asked for a second at most; 0: none. */
  predictionsPerSecond?: number;
  /** An answer that takes longer is given up. */
  predictionDeadlineMs?: number;
  logger?: HostLogger;
  tracer?: Tracer;
  /** Lets other work of the process run between two gatherings. */
  breathe?(): Promise<void>;
  /** Told of every cut that committed. */
  onCut?(cut: { readings: number; shards: number; durationMs: number }): void;
  /** These shards are served here from now on (owner: this node), or have been given up and are free (owner: null): the other nodes are to be told and nudged. */
  onMoved?(moved: Ownership[]): void;
  /** Ownership as just read from the store, by shard, and the living nodes that want shards; after every round and look of the keeper. */
  onOwnership?(rows: Ownership[], living: string[]): void;
}

export interface HostLogger {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

const SILENT: HostLogger = { info() {}, warn() {}, error() {} };

type Absent = 'onCut' | 'onMoved' | 'onOwnership' | 'predictor';
export type ResolvedOptions = Required<Omit<HostOptions, Absent>> & Pick<HostOptions, Absent>;

export function withDefaults(options: HostOptions): ResolvedOptions {
  return {
    latenessMs: DEFAULT_LATENESS_MS,
    cutMaxEntries: 20_000,
    tailMaxEntries: 200_000,
    passivateAfterMs: 3_600_000,
    maxResidentBytes: 1024 ** 3,
    summaryEveryMs: 1_000,
    housekeepingMs: 100,
    logReserveMessages: 0,
    claimAtOnce: 64,
    predictionsPerSecond: 5_000,
    predictionDeadlineMs: 5_000,
    logger: SILENT,
    tracer: NO_TRACER,
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
    ...options,
  };
}

export function newCounters(): HostCounters {
  return {
    accepted: 0,
    late: 0,
    duplicates: 0,
    conflicts: 0,
    backfilled: 0,
    poison: 0,
    commits: 0,
    fenced: 0,
    aborted: 0,
    unknownOutcomes: 0,
    activations: 0,
    passivations: 0,
    ticks: 0,
    commands: 0,
    events: 0,
  };
}
