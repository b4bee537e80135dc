import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  type JetStreamManager,
  type NatsConnection,
  NatsError,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from 'nats';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { NatsLogger } from './jetstream-connection.ts';
import type { LogMark } from './port.ts';

/**
 * The stream behind the log: how it has to be configured, what stands where, and what may be thrown away.
 *
 * Owns no state but the names. Does not own reading (jetstream-reader.ts) or appending (jetstream-publisher.ts).
 *
 * Invariants:
 *  1  The stream never drops a message by itself: no age, no count, and a full stream refuses.
 *  2  Trimming keeps the message at the position of each shard and all above it, and touches no shard whose position
 *     does not name the message that stands there: its log went back, and what lies below may never have been folded.
 *  3  `at` asks the leader: a replica that lags would say that a message is missing.
 */
export interface StreamSettings {
  stream: string;
  /** First token of the subjects: `<prefix>.log.<shard>`. */
  prefix: string;
  maxBytes: number;
  replicas: number;
}

/** What the database says of a shard: the columns of `shards` that concern the log. */
export interface CommittedPosition {
  shard: number;
  position: number;
  positionId: string | null;
  positionAt: number | null;
}

export interface Trimmed {
  messages: number;
  /** Shards whose position does not stand in the log: nothing of them was touched. */
  doubtful: number;
}

const DUPLICATE_WINDOW_NS = 120 * 1e9;
const REQUEST_MS = 5_000;
const TRIMS_AT_ONCE = 4;
/** One a shard, and those of nodes that died until the server forgets them. Left open, servers allow a thousand. */
const MAX_CONSUMERS = 16_384;
const NO_MESSAGE = 10037;
const NO_STREAM = 10059;

export class LogStream {
  readonly settings: StreamSettings;
  readonly #connection: NatsConnection;
  readonly #manager: JetStreamManager;

  /** Position up to which each shard has been trimmed by us. */
  readonly #trimmed = new Map<number, number>();
  /** When the stream that we know was made, as the server says. */
  #made = '';

  constructor(settings: StreamSettings, connection: NatsConnection, manager: JetStreamManager) {
    this.settings = settings;
    this.#connection = connection;
    this.#manager = manager;
  }

  /** Creates the stream, or gives an existing one our settings. Throws `bad_settings` where that cannot be. */
  static async open(connection: NatsConnection, settings: StreamSettings, logger?: NatsLogger): Promise<LogStream> {
    let manager: JetStreamManager;
    try {
      manager = await connection.jetstreamManager({ timeout: REQUEST_MS });
    } catch (error) {
      if (codeOf(error) === '503')
        throw new TwinmeshError('bad_settings', 'The NATS server has no JetStream, or not for this account.');
      throw failure(error);
    }
    const stream = new LogStream(settings, connection, manager);
    await stream.configure(logger);
    return stream;
  }

  get manager(): JetStreamManager {
    return this.#manager;
  }

  subject(shard: number): string {
    return `${this.settings.prefix}.log.${shard}`;
  }

  /** When the stream was made, by which it is told from another of its name. */
  get made(): string {
    return this.#made;
  }

  /** Whether this is not the stream that was there before: it was removed and made anew, and its numbers begin again. */
  isAnother({ created }: Pick<StreamInfo, 'created'>): boolean {
    return String(created) !== this.#made;
  }

  info(withSubjects = false): Promise<StreamInfo> {
    const filter = withSubjects ? { subjects_filter: `${this.settings.prefix}.log.*` } : undefined;
    return this.#manager.streams.info(this.settings.stream, filter);
  }

  /** Throws `unavailable` when the server does not answer. */
  async at(shard: number, position: number): Promise<LogMark | null> {
    if (!(position >= 1)) return null;
    return await this.#mark({ seq: position }, shard);
  }

  /** Position of the newest message of the shard; 0 when there is none. */
  async newest(shard: number): Promise<number> {
    try {
      const found = await this.#manager.streams.getMessage(this.settings.stream, { last_by_subj: this.subject(shard) });
      return found.seq;
    } catch (error) {
      if (apiCode(error) === NO_MESSAGE) return 0;
      throw failure(error);
    }
  }

  /** The position before the first message of the shard that was appended at or after `sinceMs`. */
  async seek(shard: number, sinceMs: number): Promise<number> {
    const { stream } = this.settings;
    try {
      // a consumer that starts at a time says where that is, and never has to deliver
      const made = await this.#manager.consumers.add(stream, {
        ack_policy: AckPolicy.None,
        deliver_policy: DeliverPolicy.StartTime,
        opt_start_time: new Date(Math.max(0, sinceMs)).toISOString(),
        filter_subject: this.subject(shard),
        headers_only: true,
        mem_storage: true,
        num_replicas: 1,
        inactive_threshold: 5e9,
      });
      this.#connection.publish(`$JS.API.CONSUMER.DELETE.${stream}.${made.name}`);
      return Math.max(0, made.delivered.stream_seq);
    } catch (error) {
      throw failure(error);
    }
  }

  /**
   * Throws away what has been committed, shard by shard, less the newest `reserve` messages of the stream. `same` says
   * whether the connection is still the one under which positions were compared.
   */
  async trim(positions: Iterable<CommittedPosition>, reserve: number, same: () => boolean): Promise<Trimmed> {
    const { state } = await this.info(true);
    const keepFrom = state.last_seq - reserve + 1;
    const due = [...positions].filter(({ shard, position }) => {
      const to = Math.min(position, keepFrom);
      return (state.subjects?.[this.subject(shard)] ?? 0) > 1 && to > (this.#trimmed.get(shard) ?? 0);
    });
    const done: Trimmed = { messages: 0, doubtful: 0 };
    const work = due.values();
    const one = async (): Promise<void> => {
      for (const { shard, position, positionId, positionAt } of work) {
        const mark = await this.at(shard, position);
        if (mark === null || mark.id !== positionId || mark.appendedAt !== positionAt) {
          done.doubtful++;
          continue;
        }
        if (!same()) throw new TwinmeshError('unavailable', 'The connection to the log was lost while it was trimmed.');
        const seq = Math.min(position, keepFrom);
        const { purged } = await this.#manager.streams.purge(this.settings.stream, {
          filter: this.subject(shard),
          seq,
        });
        this.#trimmed.set(shard, seq);
        done.messages += purged;
      }
    };
    try {
      await Promise.all(Array.from({ length: TRIMS_AT_ONCE }, one));
    } catch (error) {
      throw failure(error);
    }
    return done;
  }

  /** What was trimmed says nothing of a log that went back. */
  forgetTrimmed(): void {
    this.#trimmed.clear();
  }

  async #mark(query: { seq: number }, shard: number): Promise<LogMark | null> {
    try {
      const found = await this.#manager.streams.getMessage(this.settings.stream, query);
      if (found.subject !== this.subject(shard)) return null;
      return { id: found.header.get('Nats-Msg-Id'), appendedAt: millisecondsOf(found.timestamp) };
    } catch (error) {
      if (apiCode(error) === NO_MESSAGE) return null;
      throw failure(error);
    }
  }

  /** Creates the stream, or changes what differs from our settings. Answers whether it is another one than before. */
  async configure(logger: NatsLogger | undefined): Promise<boolean> {
    const { stream, prefix, maxBytes, replicas } = this.settings;
    const wanted: Partial<StreamConfig> & { name: string } = {
      name: stream,
      subjects: [`${prefix}.log.*`],
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      discard: DiscardPolicy.New,
      max_age: 0,
      max_msgs: -1,
      max_msgs_per_subject: -1,
      max_msg_size: -1,
      max_bytes: maxBytes,
      max_consumers: MAX_CONSUMERS,
      num_replicas: replicas,
      allow_direct: true,
      duplicate_window: DUPLICATE_WINDOW_NS,
    };
    let found: StreamInfo;
    try {
      found = await this.info();
    } catch (error) {
      if (apiCode(error) !== NO_STREAM) throw failure(error);
      found = await this.#change('created', () => this.#manager.streams.add(wanted));
      logger?.info({ stream, maxBytes, replicas }, 'log stream created');
    }
    const another = this.#made !== '' && this.isAnother(found);
    this.#made = String(found.created);
    const config = found.config as unknown as Record<string, unknown>;
    for (const fixed of ['storage', 'retention'] as const) {
      if (config[fixed] !== wanted[fixed])
        throw new TwinmeshError(
          'bad_settings',
          `The stream ${stream} exists with ${fixed} ${config[fixed]}, and twinmesh needs ${wanted[fixed]}, which NATS cannot change later. Move the stream away (nats stream backup) and remove it.`,
        );
    }
    if (config.mirror || (Array.isArray(config.sources) && config.sources.length > 0) || config.sealed === true)
      throw new TwinmeshError('bad_settings', `The stream ${stream} is a mirror, has sources or is sealed.`);
    if (wanted.max_bytes! > 0 && found.state.bytes > wanted.max_bytes!) {
      logger?.warn(
        { stream, bytes: found.state.bytes, maxBytes, kept: config.max_bytes },
        'the log holds more than its new bound; the old bound stays until it has been trimmed',
      );
      wanted.max_bytes = config.max_bytes as number;
    }
    // older servers cannot change it, and have no bound of their own
    if (!atLeast(this.#connection.info?.version, 2, 12)) delete wanted.max_consumers;
    const differs = Object.entries(wanted).filter(([name, value]) => {
      const is = config[name] ?? (name === 'max_msg_size' ? -1 : undefined);
      return JSON.stringify(is) !== JSON.stringify(value);
    });
    if (differs.length === 0) return another;
    await this.#change('updated', () => this.#manager.streams.update(stream, wanted));
    logger?.warn({ stream, changed: Object.fromEntries(differs) }, 'log stream updated');
    return another;
  }

  async #change(what: string, change: () => Promise<StreamInfo>): Promise<StreamInfo> {
    try {
      return await change();
    } catch (error) {
      if (error instanceof NatsError && error.isJetStreamError())
        throw new TwinmeshError(
          'bad_settings',
          `The stream ${this.settings.stream} could not be ${what}: ${messageOf(error)}. Look at LOG_MAX_BYTES and LOG_REPLICAS, at the disk and limits of the NATS server, and at the rights of this user.`,
          undefined,
          { cause: error },
        );
      throw failure(error);
    }
  }
}

function atLeast(version: string | undefined, major: number, minor: number): boolean {
  const [first = 0, second = 0] = (version ?? '').split('.').map(Number);
  return first > major || (first === major && second >= minor);
}

/** RFC 3339 with nanoseconds → ms, cut off; the same rule as for the nanoseconds of a delivery. */
export function millisecondsOf(timestamp: string): number {
  return Date.parse(timestamp.replace(/(\.\d{3})\d+/, '$1'));
}

/** The server has no such stream: somebody removed it, or its disk is another one. */
export function isNoStream(error: unknown): boolean {
  return apiCode(error) === NO_STREAM;
}

export function apiCode(error: unknown): number {
  return error instanceof NatsError ? (error.api_error?.err_code ?? 0) : 0;
}

function codeOf(error: unknown): string {
  return error instanceof NatsError ? String(error.code) : '';
}

/** What the caller of the log gets for an error of the client. */
export function failure(error: unknown): TwinmeshError {
  if (error instanceof TwinmeshError) return error;
  const reason = codeOf(error) === '503' ? 'JetStream does not answer' : messageOf(error);
  return new TwinmeshError('unavailable', `The log cannot be reached: ${reason}.`, undefined, { cause: error });
}
