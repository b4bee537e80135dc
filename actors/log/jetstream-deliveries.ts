import { type ConsumerConfig, createInbox, type Msg, type NatsConnection, nuid, type Subscription } from 'nats';
import type { Clock, TimerHandle } from '../protocol/clock.ts';
import { messageOf } from '../protocol/errors.ts';
import type { NatsLogger } from './jetstream-connection.ts';
import { type Delivery, ShardReader } from './jetstream-reader.ts';
import type { LogCounters } from './jetstream-status.ts';
import { isNoStream, type LogStream } from './jetstream-stream.ts';
import type { LogMessage } from './port.ts';

/**
 * What all readers of a process share: one subscription, the making of consumers, and the watch over shards that stand
 * still although there is something to read.
 *
 * Invariants:
 *  1  So many consumers are made at once at most, whatever the number of shards.
 *  2  One look finds the shards that may stand still: how many messages each subject has moved, and nothing came. Only
 *     those are asked for one by one, and only what is still missing a second later is called a stall.
 */
export interface DeliveriesOptions {
  clock: Clock;
  counters: LogCounters;
  logger: NatsLogger | undefined;
  /** Bytes that may have arrived and wait to be taken, over all readers. */
  maxBufferedBytes: number;
  decode(shard: number, position: number, appendedAt: number, message: Msg): LogMessage | null;
  /** What is known of the log may not hold any more, although the connection stood. */
  doubted(): void;
  /** There is no stream, or another one than before. */
  streamGone(): void;
}

interface Looked {
  /** Messages of the shard in the stream. */
  messages: number;
  arrived: number;
  consumer: string | null;
}

const MAKE_AT_ONCE = 16;
const LOOK_MS = 20_000;
const WATCH_MS = 5_000;
const COMPLAIN_MS = 5_000;
const SETTLE_MS = 1_000;
const NEWEST_AT_ONCE = 8;
/** Together they stay below what a server holds for one connection (64 MiB) before it cuts it off as too slow. */
const READER_BYTES = { least: 16 * 1024, most: 1024 * 1024 };

export class Deliveries {
  readonly clock: Clock;
  readonly counters: LogCounters;
  readonly logger: NatsLogger | undefined;
  readonly decode: DeliveriesOptions['decode'];
  readonly doubted: () => void;
  readonly streamGone: () => void;
  readonly #stream: LogStream;
  readonly #connection: NatsConnection;
  readonly #maxBufferedBytes: number;
  readonly #inbox: string;
  readonly #subscription: Subscription;
  readonly #process = nuid.next();
  readonly #readers = new Map<number, ShardReader>();
  readonly #consumers = new Map<string, ShardReader>();
  readonly #waiting: (() => void)[] = [];
  /** Shard → what the last look found. */
  #looked = new Map<number, Looked>();
  #making = 0;
  #made = 0;
  #timer: TimerHandle | null = null;
  #lookedAt: number;
  #looking = false;
  #complaints = 0;
  #complainedAt = Number.NEGATIVE_INFINITY;
  #closed = false;
  connected = true;

  constructor(stream: LogStream, connection: NatsConnection, options: DeliveriesOptions) {
    this.#stream = stream;
    this.#connection = connection;
    this.clock = options.clock;
    this.counters = options.counters;
    this.logger = options.logger;
    this.decode = options.decode;
    this.doubted = options.doubted;
    this.streamGone = options.streamGone;
    this.#maxBufferedBytes = options.maxBufferedBytes;
    this.#inbox = createInbox();
    this.#subscription = connection.subscribe(`${this.#inbox}.>`, { callback: (_, message) => this.#arrived(message) });
    this.#lookedAt = this.clock.monotonic();
    this.#watch();
  }

  get readers(): number {
    return this.#readers.size;
  }

  get behind(): number {
    let messages = 0;
    for (const reader of this.#readers.values()) messages += reader.behind;
    return messages;
  }

  get bufferedBytes(): number {
    let bytes = 0;
    for (const reader of this.#readers.values()) bytes += reader.bufferedBytes;
    return bytes;
  }

  get roomOfReader(): number {
    const share = Math.floor(this.#maxBufferedBytes / Math.max(1, this.#readers.size));
    return Math.max(READER_BYTES.least, Math.min(READER_BYTES.most, share));
  }

  read(shard: number, after: number, onReadable: () => void, onReconnect: (() => void) | undefined): ShardReader {
    this.#readers.get(shard)?.close();
    const reader = new ShardReader(this, shard, after, onReadable, onReconnect);
    this.#readers.set(shard, reader);
    return reader;
  }

  closed(reader: ShardReader): void {
    if (this.#readers.get(reader.shard) === reader) this.#readers.delete(reader.shard);
  }

  disconnected(): void {
    this.connected = false;
    this.#consumers.clear();
    for (const reader of this.#readers.values()) reader.disconnected();
  }

  reconnected(): void {
    this.connected = true;
    this.#looked.clear();
    for (const reader of this.#readers.values()) reader.reconnected();
  }

  close(): void {
    this.#closed = true;
    for (const reader of [...this.#readers.values()]) reader.close();
    this.#timer?.cancel();
    this.#subscription.unsubscribe();
  }

  // what readers ask for

  subject(shard: number): string {
    return this.#stream.subject(shard);
  }

  newConsumerName(shard: number): string {
    return `twinmesh_${this.#process}_${shard}_${(++this.#made).toString(36)}`;
  }

  /** What ails one shard mostly ails all: told once in a while, with how many times. */
  complain(shard: number, why: string): void {
    this.#complaints++;
    const now = this.clock.monotonic();
    if (now - this.#complainedAt < COMPLAIN_MS) return;
    this.#complainedAt = now;
    this.logger?.warn({ shard, why, times: this.#complaints }, 'shards of the log are read anew');
    this.#complaints = 0;
  }

  async make(config: Partial<ConsumerConfig> & { name: string }): Promise<void> {
    if (this.#making >= MAKE_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#making++;
    try {
      await this.#stream.manager.consumers.add(this.#stream.settings.stream, config);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#making--;
    }
  }

  madeConsumer(name: string, reader: ShardReader): void {
    this.#consumers.set(name, reader);
  }

  /** Whoever is gone when this arrives is forgotten by the server after a while. */
  dropConsumer(name: string): void {
    this.#consumers.delete(name);
    if (!this.connected || this.#connection.isClosed()) return;
    this.#connection.publish(`$JS.API.CONSUMER.DELETE.${this.#stream.settings.stream}.${name}`);
  }

  request(consumer: string, number: number, what: { batch: number; expires: number; max_bytes?: number }): void {
    if (!this.connected || this.#connection.isClosed()) return;
    this.#connection.publish(
      `$JS.API.CONSUMER.MSG.NEXT.${this.#stream.settings.stream}.${consumer}`,
      JSON.stringify(what),
      { reply: `${this.#inbox}.${consumer}.${number}` },
    );
  }

  #arrived(message: Msg): void {
    // what the server says of a request comes under the subject of the request, a message under its own
    if (message.subject.startsWith(this.#inbox)) {
      const [consumer, request] = message.subject.slice(this.#inbox.length + 1).split('.');
      const { code = 0, description = '' } = message.headers ?? {};
      this.#consumers.get(consumer)?.status(Number(request), code, description);
      return;
    }
    const delivery = deliveryOf(message.reply);
    const reader = delivery && this.#consumers.get(delivery.consumer);
    if (!reader) return;
    this.counters.fetched++;
    reader.deliver(delivery, message);
  }

  #watch(): void {
    this.#timer = this.clock.after(WATCH_MS, () => {
      if (this.#closed) return;
      const now = this.clock.monotonic();
      if (this.connected) {
        for (const reader of this.#readers.values()) reader.watch(now);
        if (now - this.#lookedAt >= LOOK_MS) {
          this.#lookedAt = now;
          void this.look();
        }
      }
      this.#watch();
    });
  }

  /** Invariant 2. Answers the shards that stood still. */
  async look(): Promise<number[]> {
    if (this.#looking || this.#readers.size === 0) return [];
    this.#looking = true;
    try {
      return await this.#findStalls();
    } catch (error) {
      this.logger?.warn({ error: messageOf(error) }, 'the log could not be looked over');
      if (isNoStream(error)) this.streamGone();
      return [];
    } finally {
      this.#looking = false;
    }
  }

  async #findStalls(): Promise<number[]> {
    const info = await this.#stream.info(true);
    if (this.#stream.isAnother(info)) {
      this.streamGone();
      return [];
    }
    const { subjects = {} } = info.state;
    const looked = new Map<number, Looked>();
    const suspects: ShardReader[] = [];
    for (const reader of this.#readers.values()) {
      const messages = subjects[this.subject(reader.shard)] ?? 0;
      const before = this.#looked.get(reader.shard);
      looked.set(reader.shard, { messages, arrived: reader.arrived, consumer: reader.consumer });
      if (!reader.isHungry || messages === 0) continue;
      const same = before && before.consumer === reader.consumer && before.arrived === reader.arrived;
      if (!(same && before.messages === messages)) suspects.push(reader);
    }
    this.#looked = looked;
    const stalled: { reader: ShardReader; consumer: string | null; newest: number }[] = [];
    const work = suspects.values();
    const ask = async (): Promise<void> => {
      for (const reader of work) {
        const { consumer } = reader;
        const newest = await this.#stream.newest(reader.shard);
        if (newest > reader.arrived) stalled.push({ reader, consumer, newest });
      }
    };
    await Promise.all(Array.from({ length: NEWEST_AT_ONCE }, ask));
    if (stalled.length === 0) return [];
    await new Promise<void>((resolve) => this.clock.after(SETTLE_MS, resolve));
    const shards: number[] = [];
    for (const { reader, consumer, newest } of stalled) {
      if (!reader.isHungry || reader.consumer !== consumer || reader.arrived >= newest) continue;
      this.counters.stalls++;
      shards.push(reader.shard);
      // asked again at the next look whether it helped
      this.#looked.delete(reader.shard);
      reader.remake(`message ${newest} did not come`);
    }
    return shards;
  }
}

/** `$JS.ACK.[domain.account.]stream.consumer.deliveries.position.number.nanoseconds.pending[.token]` */
function deliveryOf(reply: string | undefined): Delivery | null {
  if (reply === undefined || !reply.startsWith('$JS.ACK.')) return null;
  const tokens = reply.split('.');
  const at = tokens.length === 9 ? 3 : 5;
  const position = Number(tokens[at + 2]);
  const number = Number(tokens[at + 3]);
  const appendedAt = Number(tokens[at + 4]?.slice(0, -6));
  if (!Number.isSafeInteger(position) || !Number.isSafeInteger(number) || !Number.isSafeInteger(appendedAt))
    return null;
  const pending = Number(tokens[at + 5]);
  return { consumer: tokens[at], position, number, appendedAt, pending: Number.isSafeInteger(pending) ? pending : 0 };
}
