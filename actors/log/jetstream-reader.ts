import { AckPolicy, DeliverPolicy, type Msg } from 'nats';
import { messageOf } from '../protocol/errors.ts';
import type { Deliveries } from './jetstream-deliveries.ts';
import { isNoStream } from './jetstream-stream.ts';
import type { LogMessage, LogReader } from './port.ts';

/**
 * Reads one shard: a consumer that lives in the server's memory, asked for more only while there is room here.
 *
 * Owns what has arrived and was not taken, as bytes: it is decoded when it is taken. Does not own the subscription that
 * all readers of a process share (jetstream-deliveries.ts).
 *
 * Invariants:
 *  1  Messages are handed out in the order of the stream, each once, none left out: a delivery whose number is not the
 *     next one is dropped, and reading starts again after what was taken last.
 *  2  Whatever ended the consumer, what was not taken is forgotten and read again, and the host is told before anything
 *     of the next one can be taken: the log may have gone back in between.
 *  3  At most one request is open, and only while less than half of the room is used.
 */
const FETCH_MESSAGES = 512;
const FETCH_EXPIRES_MS = 60_000;
/** A request that the server has not closed so long after its end is lost. */
const FETCH_GRACE_MS = 10_000;
/** The server forgets a consumer that nobody asked for so long; it is made anew then. */
const CONSUMER_IDLE_NS = 300 * 1e9;
const REMAKE_MS = { first: 100, most: 5_000 };

interface Arrived {
  position: number;
  appendedAt: number;
  message: Msg;
  /** Decoded, but one too many for the take that looked at it. */
  decoded?: LogMessage;
}

/** Where a delivery comes from and lies, out of its reply subject. */
export interface Delivery {
  consumer: string;
  position: number;
  /** Running number of the consumer's deliveries. */
  number: number;
  appendedAt: number;
  /** Messages of the shard that lie above it. */
  pending: number;
}

export class ShardReader implements LogReader {
  readonly shard: number;
  readonly #deliveries: Deliveries;
  readonly #onReadable: () => void;
  readonly #onReconnect: (() => void) | undefined;
  /** Position of the newest message that has arrived, and of the newest that was taken. */
  arrived: number;
  #taken: number;
  #buffer: Arrived[] = [];
  #next = 0;
  #bufferedBytes = 0;
  #pending = 0;
  #number = 0;
  /** Messages that the open request may still bring; 0: none is open. */
  #expected = 0;
  #requests = 0;
  #requestedAt = 0;
  #broughtSome = false;
  /** The next message is larger than a request may bring: it is fetched alone, without a bound. */
  #large = false;
  /** Name of the consumer; null while there is none. */
  consumer: string | null = null;
  #generation = 0;
  #remakeMs = REMAKE_MS.first;
  #closed = false;

  constructor(
    deliveries: Deliveries,
    shard: number,
    afterPosition: number,
    onReadable: () => void,
    onReconnect: (() => void) | undefined,
  ) {
    this.#deliveries = deliveries;
    this.shard = shard;
    this.arrived = afterPosition;
    this.#taken = afterPosition;
    this.#onReadable = onReadable;
    this.#onReconnect = onReconnect;
    this.#make(false, 0);
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /** Messages that were not taken, as of the newest delivery. */
  get behind(): number {
    return this.#buffer.length - this.#next + this.#pending;
  }

  /** It waits for the server, and nothing it has brought is left. */
  get isHungry(): boolean {
    return !this.#closed && this.consumer !== null && this.#expected > 0 && this.#next === this.#buffer.length;
  }

  take(maxReadings: number): LogMessage[] {
    const taken: LogMessage[] = [];
    let readings = 0;
    while (!this.#closed && this.#next < this.#buffer.length) {
      const first = this.#buffer[this.#next];
      const { position, appendedAt, message } = first;
      const decoded = first.decoded ?? this.#deliveries.decode(this.shard, position, appendedAt, message);
      if (decoded !== null && taken.length > 0 && readings + decoded.readings.length > maxReadings) {
        first.decoded = decoded;
        break;
      }
      this.#next++;
      this.#bufferedBytes -= message.data.length;
      this.#taken = position;
      if (decoded === null) continue;
      readings += decoded.readings.length;
      this.#deliveries.counters.readings += decoded.readings.length;
      taken.push(decoded);
      if (readings >= maxReadings) break;
    }
    if (this.#next === this.#buffer.length || this.#next > 256) {
      this.#buffer = this.#buffer.slice(this.#next);
      this.#next = 0;
    }
    this.#fetch();
    return taken;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#forget();
    this.#deliveries.closed(this);
  }

  /** The connection is gone. Another consumer is made when `reconnected` is called. */
  disconnected(): void {
    this.#forget();
  }

  reconnected(): void {
    if (!this.#closed) this.#make(true, 0);
  }

  /** This consumer brings nothing more that can be trusted. */
  remake(why: string): void {
    if (this.#closed || this.consumer === null) return;
    this.#deliveries.complain(this.shard, why);
    this.#forget();
    this.#deliveries.doubted();
    this.#make(true, this.#remakeMs);
    this.#remakeMs = Math.min(this.#remakeMs * 2, REMAKE_MS.most);
  }

  deliver(delivery: Delivery, message: Msg): void {
    if (this.#expected > 0) this.#expected--;
    this.#broughtSome = true;
    if (delivery.number !== this.#number + 1) {
      this.#deliveries.counters.gaps++;
      this.remake(`delivery ${delivery.number} came after ${this.#number}`);
      return;
    }
    this.#number = delivery.number;
    if (delivery.position <= this.arrived) {
      // it was asked for what lies above: the stream is not the one that was read before
      this.remake(`position ${delivery.position} came after ${this.arrived}`);
      return;
    }
    this.arrived = delivery.position;
    this.#pending = delivery.pending;
    this.#remakeMs = REMAKE_MS.first;
    this.#large = false;
    this.#bufferedBytes += message.data.length;
    const wasEmpty = this.#next === this.#buffer.length;
    this.#buffer.push({ position: delivery.position, appendedAt: delivery.appendedAt, message });
    if (this.#expected === 0) this.#fetch();
    if (wasEmpty) this.#onReadable();
  }

  /** What the server says of a request. */
  status(request: number, code: number, description: string): void {
    if (this.consumer === null || request !== this.#requests || code === 100) return;
    const text = description.toLowerCase();
    if (code === 409 && text.includes('maxbytes')) {
      this.#large = !this.#broughtSome;
      this.#expected = 0;
      this.#fetch();
    } else if (code === 404 || code === 408 || (code === 409 && text.includes('batch completed'))) {
      this.#expected = 0;
      this.#fetch();
    } else this.remake(`${code} ${description}`);
  }

  /** Looks for a request that was never answered. */
  watch(nowMs: number): void {
    if (this.#expected === 0 || this.consumer === null) return;
    if (nowMs - this.#requestedAt <= FETCH_EXPIRES_MS + FETCH_GRACE_MS) return;
    this.#deliveries.counters.stalls++;
    this.remake('a request was never answered');
  }

  #forget(): void {
    this.#generation++;
    if (this.consumer !== null) this.#deliveries.dropConsumer(this.consumer);
    this.consumer = null;
    this.#buffer = [];
    this.#next = 0;
    this.#bufferedBytes = 0;
    this.#expected = 0;
    this.arrived = this.#taken;
  }

  #fetch(): void {
    if (this.consumer === null || this.#expected > 0) return;
    const room = this.#deliveries.roomOfReader;
    if (this.#bufferedBytes > room / 2) return;
    this.#expected = this.#large ? 1 : FETCH_MESSAGES;
    this.#broughtSome = false;
    this.#requestedAt = this.#deliveries.clock.monotonic();
    this.#requests++;
    this.#deliveries.request(this.consumer, this.#requests, {
      batch: this.#expected,
      expires: FETCH_EXPIRES_MS * 1e6,
      ...(this.#large ? {} : { max_bytes: room }),
    });
  }

  #make(again: boolean, afterMs: number): void {
    const generation = this.#generation;
    const stale = (): boolean => this.#closed || generation !== this.#generation;
    const attempt = async (): Promise<void> => {
      if (stale() || !this.#deliveries.connected) return;
      const name = this.#deliveries.newConsumerName(this.shard);
      try {
        await this.#deliveries.make({
          name,
          ack_policy: AckPolicy.None,
          deliver_policy: DeliverPolicy.StartSequence,
          opt_start_seq: this.#taken + 1,
          filter_subject: this.#deliveries.subject(this.shard),
          inactive_threshold: CONSUMER_IDLE_NS,
          mem_storage: true,
          num_replicas: 1,
        });
      } catch (error) {
        if (stale() || !this.#deliveries.connected) return;
        this.#deliveries.complain(this.shard, messageOf(error));
        if (isNoStream(error)) this.#deliveries.streamGone();
        this.#deliveries.clock.after(this.#remakeMs, () => void attempt());
        this.#remakeMs = Math.min(this.#remakeMs * 2, REMAKE_MS.most);
        return;
      }
      if (stale()) {
        this.#deliveries.dropConsumer(name);
        return;
      }
      this.consumer = name;
      this.#number = 0;
      this.#deliveries.madeConsumer(name, this);
      if (again) this.#onReconnect?.();
      // the host may have closed this reader for what it was told
      if (!stale()) this.#fetch();
    };
    if (afterMs === 0) void attempt();
    else this.#deliveries.clock.after(afterMs, () => void attempt());
  }
}
