import { type JetStreamManager, type NatsConnection, NatsError, type SeqMsgRequest, type StoredMsg } from 'nats';
import type { Clock } from '../protocol/clock.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import { connectNats, type NatsAccess } from './jetstream-connection.ts';
import { ID_HEADER, Publisher, type Stored } from './jetstream-publisher.ts';
import { newCounters } from './jetstream-status.ts';
import { apiCode, failure, LogStream, millisecondsOf } from './jetstream-stream.ts';
import type { LogMark } from './port.ts';

/**
 * Messages of the log as they lie there, read by number and put into another stream: for backup and restore.
 *
 * Owns its connection. Does not own what is copied (services/backup) nor what the bytes mean (batch-encoding.ts).
 *
 * Invariants:
 *  1  Reading changes nothing: no consumer is made, no stream is made or given other settings.
 *  2  The leader is asked: a replica that lags would say that a message is missing.
 *  3  Messages of a shard are put in the order in which `append` was called.
 */
export interface CopiedMessage {
  shard: number;
  position: number;
  /** Empty where whoever wrote it gave it none. */
  id: string;
  /** ms. */
  appendedAt: number;
  bytes: Uint8Array;
}

const STREAM = 'TWINS';
const PREFIX = 'twins';
const REQUEST_MS = 10_000;
const NO_MESSAGE = 10037;
const NO_STREAM = 10059;
const IN_FLIGHT_BYTES = 16 * 1024 * 1024;
const CLOSE_MS = 5_000;

export class StreamCopy {
  readonly #connection: NatsConnection;
  readonly #manager: JetStreamManager;
  readonly #stream: LogStream;
  readonly #clock: Clock;
  #publisher: Publisher | null = null;

  private constructor(connection: NatsConnection, manager: JetStreamManager, stream: LogStream, clock: Clock) {
    this.#connection = connection;
    this.#manager = manager;
    this.#stream = stream;
    this.#clock = clock;
  }

  /** `maxBytes` and `replicas` are those of the stream that `make` makes. Throws `bad_settings`, `unavailable`. */
  static async open(
    access: NatsAccess & { firstWithinMs: number },
    bounds: { maxBytes: number; replicas: number },
    clock: Clock,
  ): Promise<StreamCopy> {
    const connection = await connectNats({ ...access, clock });
    try {
      const manager = await connection.jetstreamManager({ timeout: REQUEST_MS });
      const stream = new LogStream({ stream: STREAM, prefix: PREFIX, ...bounds }, connection, manager);
      return new StreamCopy(connection, manager, stream, clock);
    } catch (error) {
      await connection.close();
      if (error instanceof NatsError && error.code === '503')
        throw new TwinmeshError('bad_settings', 'The NATS server has no JetStream, or not for this account.');
      throw failure(error);
    }
  }

  /** How many messages there are, and the number of the newest that there ever was; null where there is no stream. */
  async state(): Promise<{ messages: number; newest: number } | null> {
    try {
      const { state } = await this.#stream.info();
      return { messages: state.messages, newest: state.last_seq };
    } catch (error) {
      if (apiCode(error) === NO_STREAM) return null;
      throw failure(error);
    }
  }

  at(shard: number, position: number): Promise<LogMark | null> {
    return this.#stream.at(shard, position);
  }

  /** The first message of the shard above a position; null where there is none. */
  async next(shard: number, after: number): Promise<CopiedMessage | null> {
    // the client's type leaves out what the server takes since 2.2
    const query = { seq: after + 1, next_by_subj: this.#stream.subject(shard) } as SeqMsgRequest;
    let found: StoredMsg;
    try {
      found = await this.#manager.streams.getMessage(STREAM, query);
    } catch (error) {
      if (apiCode(error) === NO_MESSAGE) return null;
      throw failure(error);
    }
    return {
      shard,
      position: found.seq,
      id: found.header?.get(ID_HEADER) ?? '',
      appendedAt: millisecondsOf(found.timestamp),
      bytes: found.data,
    };
  }

  /** Makes the stream as nodes make it. */
  async make(): Promise<void> {
    await this.#stream.configure(undefined);
  }

  /** Resolves when the stream has it. */
  append(message: Pick<CopiedMessage, 'shard' | 'id' | 'bytes'>): Promise<Stored> {
    this.#publisher ??= new Publisher(this.#connection, STREAM, {
      clock: this.#clock,
      counters: newCounters(),
      maxInFlightBytes: IN_FLIGHT_BYTES,
    });
    return this.#publisher.publish(this.#stream.subject(message.shard), message.id, null, message.bytes);
  }

  async close(): Promise<void> {
    await this.#publisher?.close(CLOSE_MS);
    await this.#connection.close();
  }
}
