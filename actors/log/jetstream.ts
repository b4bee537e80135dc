import { Events, type Msg, type NatsConnection } from 'nats';
import type { Clock } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { Outcome } from '../protocol/reading.ts';
import { decodeBatch, encodeBatch, MAX_READINGS } from './batch-encoding.ts';
import { Commits } from './jetstream-commits.ts';
import { connectNats, type NatsAccess, type NatsLogger } from './jetstream-connection.ts';
import { Deliveries } from './jetstream-deliveries.ts';
import { ID_HEADER, Publisher, REPLY_HEADER } from './jetstream-publisher.ts';
import { type LogCounters, type LogStatus, newCounters } from './jetstream-status.ts';
import { type CommittedPosition, failure, LogStream, type Trimmed } from './jetstream-stream.ts';
import type { Appended, Log, LogBatch, LogMark, LogMessage, LogReader, MessageOutcome } from './port.ts';

/**
 * The log on NATS JetStream: one stream, one subject a shard, one message a batch. A position is the number of the
 * message in the stream, so positions of a shard grow but have holes.
 *
 * Owns when the connection counts as lost and who is told. The parts do the work: jetstream-publisher.ts appends,
 * jetstream-deliveries.ts and -reader.ts read, jetstream-commits.ts waits for commits, jetstream-stream.ts knows the stream.
 *
 * Invariants:
 *  1  `append` resolves when JetStream has acknowledged the message: it survives the death of any process, and the loss
 *     of power as the server's `sync_interval` and the number of replicas say.
 *  2  A message that cannot be decoded is told of (`onUndecodable`, with its bytes), counted and skipped; it stays in the
 *     stream until later ones of its shard have been committed.
 *  3  `connections` moves before anything learnt over the next connection can be used.
 *  4  A stream that was removed under a standing connection is made anew, and that counts as a lost connection: what was
 *     known of the one before says nothing of this one.
 */
export interface JetStreamLogOptions {
  /** An open connection, which stays the caller's; or how to make one, which the log closes with itself. */
  connection: NatsConnection | (NatsAccess & { firstWithinMs?: number });
  clock: Clock;
  shards: number;
  logger?: NatsLogger;
  /** Name of the stream: TWINS. */
  stream?: string;
  /** First token of all subjects: twins. */
  prefix?: string;
  /** What the stream may hold. */
  maxBytes: number;
  replicas?: number;
  /** Committed positions as the database has them (`store.shards()`), for those who wait for a commit whose note was lost. */
  positions?: () => Promise<Iterable<CommittedPosition>>;
  /** How long a note of a commit may take before the database is asked. */
  askAfterMs?: number;
  /** Told of a message that cannot be read, which is skipped; may keep its bytes. */
  onUndecodable?(message: Undecodable): void;
  /** The stream is another one than before: it was removed, or the server lost its disk, and it has been made anew. */
  onRemade?(): void;
  maxInFlightBytes?: number;
  maxBufferedBytes?: number;
}

export interface Undecodable {
  shard: number;
  position: number;
  appendedAt: number;
  /** Id of the message, where it has one. */
  id: string | null;
  bytes: Uint8Array;
  reason: string;
}

const IN_FLIGHT_BYTES = 32 * 1024 * 1024;
const BUFFERED_BYTES = 32 * 1024 * 1024;
const ASK_AFTER_MS = 2_000;
const CLOSE_MS = 5_000;
/** A stream that is missing is looked for so often at most. */
const RESTORE_EVERY_MS = 2_000;

export class JetStreamLog implements Log {
  readonly durable = true;
  connections = 0;
  readonly #options: JetStreamLogOptions;
  readonly #connection: NatsConnection;
  readonly #ownsConnection: boolean;
  readonly #stream: LogStream;
  readonly #counters: LogCounters = newCounters();
  readonly #publisher: Publisher;
  readonly #deliveries: Deliveries;
  readonly #commits: Commits;
  /** Shard → position of a message that was taken → whom to tell of its commit. */
  readonly #askers = new Map<number, Map<number, { id: string; token: string }>>();
  #connected = true;
  #closed = false;
  #restoredAt = Number.NEGATIVE_INFINITY;

  /** Throws `bad_settings` for a stream that cannot be as it has to be, `unavailable` when JetStream does not answer. */
  static async open(options: JetStreamLogOptions): Promise<JetStreamLog> {
    const given = options.connection;
    const owns = !isConnection(given);
    const connection = isConnection(given)
      ? given
      : await connectNats({ ...given, clock: options.clock, ...(options.logger ? { logger: options.logger } : {}) });
    try {
      const { stream = 'TWINS', prefix = 'twins', maxBytes, replicas = 1 } = options;
      const opened = await LogStream.open(connection, { stream, prefix, maxBytes, replicas }, options.logger);
      return new JetStreamLog(options, connection, owns, opened);
    } catch (error) {
      if (owns) await connection.close();
      throw error;
    }
  }

  /** Use `open`. */
  constructor(options: JetStreamLogOptions, connection: NatsConnection, ownsConnection: boolean, stream: LogStream) {
    const { clock, logger } = options;
    this.#options = options;
    this.#connection = connection;
    this.#ownsConnection = ownsConnection;
    this.#stream = stream;
    const counters = this.#counters;
    this.#publisher = new Publisher(connection, stream.settings.stream, {
      clock,
      counters,
      maxInFlightBytes: options.maxInFlightBytes ?? IN_FLIGHT_BYTES,
      nobody: () => void this.#restore(),
    });
    this.#deliveries = new Deliveries(stream, connection, {
      clock,
      counters,
      logger,
      maxBufferedBytes: options.maxBufferedBytes ?? BUFFERED_BYTES,
      decode: (shard, position, appendedAt, message) => this.#decode(shard, position, appendedAt, message),
      doubted: () => {
        this.connections++;
      },
      streamGone: () => void this.#restore(),
    });
    this.#commits = new Commits(connection, {
      clock,
      counters,
      logger,
      prefix: stream.settings.prefix,
      positions: options.positions,
      askAfterMs: options.askAfterMs ?? ASK_AFTER_MS,
      at: (shard, position) => this.at(shard, position),
    });
    void this.#follow();
  }

  async append(batch: LogBatch, options: { wait?: 'durable' | 'commit' } = {}): Promise<Appended> {
    const bytes = encodeBatch(batch);
    if (bytes.length > this.#publisher.maxBytes || batch.readings.length > MAX_READINGS)
      return await this.#appendHalves(batch, bytes.length, options);
    const subject = this.#stream.subject(batch.shard);
    if (options.wait !== 'commit') {
      const { position } = await this.#publisher.publish(subject, batch.id, null, bytes);
      return { position };
    }
    const { shard, id, readings } = batch;
    return await this.#commits.wait(shard, id, readings.length, () =>
      this.#publisher.publish(subject, id, this.#commits.token, bytes),
    );
  }

  read(shard: number, afterPosition: number, onReadable: () => void, onReconnect?: () => void): LogReader {
    if (this.#closed) throw new TwinmeshError('unavailable', 'The log is closed: the node is stopping.');
    // positions above may by now stand for other messages; whoever asked finds out from the database
    this.#askers.delete(shard);
    return this.#deliveries.read(shard, afterPosition, onReadable, onReconnect);
  }

  committed(shard: number, position: number, outcomes: readonly MessageOutcome[]): void {
    const askers = this.#askers.get(shard);
    if (!askers || askers.size === 0) return;
    const byPosition = new Map<number, Outcome[]>(outcomes.map((of) => [of.position, of.outcomes]));
    for (const [at, { id, token }] of askers) {
      if (at > position) break;
      askers.delete(at);
      this.#commits.tell(token, id, at, byPosition.get(at));
    }
  }

  at(shard: number, position: number): Promise<LogMark | null> {
    return this.#connected ? this.#stream.at(shard, position) : Promise.reject(lost());
  }

  seek(shard: number, sinceMs: number): Promise<number> {
    return this.#connected ? this.#stream.seek(shard, sinceMs) : Promise.reject(lost());
  }

  /**
   * Throws away what is committed, shard by shard, but never the message at a position nor the newest `reserveMessages`
   * of the stream. One node is enough; more do no harm. `positions`: the rows of `store.shards()`, read before.
   */
  async trim(positions: Iterable<CommittedPosition>, reserveMessages: number): Promise<Trimmed> {
    if (!this.#connected) throw lost();
    const { connections } = this;
    return await this.#stream.trim(
      positions,
      reserveMessages,
      () => this.#connected && !this.#closed && this.connections === connections,
    );
  }

  /** Bytes and messages that the stream holds, and its bound. */
  async size(): Promise<{ messages: number; bytes: number; maxBytes: number }> {
    if (!this.#connected) throw lost();
    try {
      const { state, config } = await this.#stream.info();
      return { messages: state.messages, bytes: state.bytes, maxBytes: config.max_bytes };
    } catch (error) {
      throw failure(error);
    }
  }

  status(): LogStatus {
    return {
      ...this.#counters,
      connected: this.#connected,
      readers: this.#deliveries.readers,
      bufferedBytes: this.#deliveries.bufferedBytes,
      behind: this.#deliveries.behind,
      inFlightBytes: this.#publisher.inFlightBytes,
      waiting: this.#commits.size,
    };
  }

  /** Looks at once for shards that stand still, as is done every 20 seconds. Answers those that did. */
  look(): Promise<number[]> {
    return this.#deliveries.look();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#deliveries.close();
    await this.#publisher.close(CLOSE_MS);
    this.#commits.close();
    this.#connected = false;
    if (!this.#ownsConnection) return;
    // drain would wait for a server that may be away
    await this.#connection.close();
  }

  async #appendHalves(batch: LogBatch, bytes: number, options: { wait?: 'durable' | 'commit' }): Promise<Appended> {
    const { readings } = batch;
    if (readings.length < 2)
      throw new TwinmeshError(
        'too_large',
        `A reading of ${bytes} bytes is larger than a message of the log may be (${this.#publisher.maxBytes}).`,
      );
    const middle = Math.ceil(readings.length / 2);
    const halves = [readings.slice(0, middle), readings.slice(middle)].map((half, i) =>
      this.append({ ...batch, id: `${batch.id}/${i}`, readings: half }, options),
    );
    const [first, second] = await Promise.all(halves);
    const { position } = second;
    return first.outcomes && second.outcomes
      ? { position, outcomes: [...first.outcomes, ...second.outcomes] }
      : { position };
  }

  #decode(shard: number, position: number, appendedAt: number, message: Msg): LogMessage | null {
    const id = message.headers?.get(ID_HEADER) ?? '';
    try {
      if (id === '') throw new Error('The message has no id.');
      const decoded = decodeBatch(message.data, { shard, shards: this.#options.shards });
      const token = message.headers?.get(REPLY_HEADER) ?? '';
      if (token !== '') this.#asks(shard, position, id, token);
      return { shard, id, position, appendedAt, ...decoded };
    } catch (error) {
      this.#counters.undecodable++;
      const reason = messageOf(error);
      this.#options.logger?.error(
        { shard, position, id, bytes: message.data.length, reason },
        'a message of the log cannot be read and is skipped',
      );
      this.#options.onUndecodable?.({ shard, position, appendedAt, id: id || null, bytes: message.data, reason });
      return null;
    }
  }

  #asks(shard: number, position: number, id: string, token: string): void {
    const askers = this.#askers.get(shard);
    if (askers) askers.set(position, { id, token });
    else this.#askers.set(shard, new Map([[position, { id, token }]]));
  }

  /** When its stream was made. */
  get made(): string {
    return this.#stream.made;
  }

  async #follow(): Promise<void> {
    for await (const { type } of this.#connection.status()) {
      if (this.#closed) return;
      if (type === Events.Disconnect) this.#lost();
      else if (type === Events.Reconnect) void this.#back();
    }
  }

  /** Invariant 4. */
  async #restore(): Promise<void> {
    const { clock, logger } = this.#options;
    if (this.#closed || !this.#connected || clock.monotonic() - this.#restoredAt < RESTORE_EVERY_MS) return;
    this.#restoredAt = clock.monotonic();
    const { connections } = this;
    let another: boolean;
    try {
      another = await this.#stream.configure(logger);
    } catch (error) {
      logger?.error({ error: messageOf(error) }, 'the stream of the log is not as it has to be');
      return;
    }
    if (!another || this.#closed || !this.#connected) return;
    if (this.connections === connections) this.connections++;
    logger?.error({ stream: this.#stream.settings.stream }, 'the stream of the log is another one than before');
    this.#options.onRemade?.();
    this.#parted();
    this.#whole();
  }

  #lost(): void {
    // also when it is lost again before it was whole
    this.connections++;
    if (!this.#connected) return;
    this.#connected = false;
    this.#parted();
  }

  #parted(): void {
    this.#publisher.disconnected();
    this.#deliveries.disconnected();
    this.#commits.disconnected();
  }

  async #back(): Promise<void> {
    if (this.#connected) return;
    const { connections } = this;
    this.#counters.reconnects++;
    try {
      // a server that lost its disk has no stream
      if (await this.#stream.configure(this.#options.logger)) this.#options.onRemade?.();
    } catch (error) {
      this.#options.logger?.error({ error: messageOf(error) }, 'the stream of the log is not as it has to be');
    }
    if (this.#closed || this.connections !== connections) return;
    this.#connected = true;
    this.#whole();
  }

  #whole(): void {
    this.#stream.forgetTrimmed();
    this.#publisher.reconnected();
    this.#deliveries.reconnected();
    this.#commits.reconnected();
  }
}

function isConnection(given: JetStreamLogOptions['connection']): given is NatsConnection {
  return 'publish' in given;
}

function lost(): TwinmeshError {
  return new TwinmeshError('unavailable', 'The connection to the log is lost.');
}
