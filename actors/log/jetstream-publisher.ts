import { createInbox, headers, type Msg, type NatsConnection, type Subscription } from 'nats';
import { type Clock, sleep, type TimerHandle } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { LogCounters } from './jetstream-status.ts';

/**
 * Puts messages into the stream: many at once, each resolved by its own acknowledgement.
 *
 * Owns what is under way. Does not own what a message holds or who waits for its commit.
 *
 * Invariants:
 *  1  At most `maxInFlightBytes` are under way; more wait, first come first served, so that messages leave in order.
 *  2  A message is done when the stream says that it has it; whatever else happens it is refused with an error that says
 *     whether trying again helps. What was refused may still be there: it is sent again under the same id, and the
 *     stream recognises it for two minutes, the twins for ever.
 *  3  A lost connection refuses all that is under way at once.
 */
export interface Stored {
  position: number;
  duplicate: boolean;
}

interface Outgoing {
  subject: string;
  id: string;
  /** Token of whoever waits for the commit. */
  reply: string | null;
  bytes: Uint8Array;
  resolve(stored: Stored): void;
  reject(error: TwinmeshError): void;
  /** Monotonic ms; 0 while it waits its turn. */
  sentAt: number;
}

/** Header of a message whose sender waits for the outcomes. */
export const REPLY_HEADER = 'Twinmesh-Reply';
export const ID_HEADER = 'Nats-Msg-Id';
const ACK_WITHIN_MS = 10_000;
const SWEEP_MS = 1_000;
/** Room of the subject, the headers and the protocol in the largest payload. */
const OVERHEAD_BYTES = 1_024;
/** The stream or the server has no room: 10023, 10028 and 10047 are the account's and the server's bounds, 10077 the stream's. */
const FULL = new Set([10023, 10028, 10047, 10077, 10122]);
const ID_FORM = /^[\x21-\x7e]{1,200}$/;

export class Publisher {
  readonly #connection: NatsConnection;
  readonly #clock: Clock;
  readonly #counters: LogCounters;
  readonly #maxInFlightBytes: number;
  readonly #stream: string;
  readonly #nobody: (() => void) | undefined;
  readonly #inbox: string;
  readonly #subscription: Subscription;
  readonly #underWay = new Map<string, Outgoing>();
  readonly #waiting: Outgoing[] = [];
  #number = 0;
  #bytes = 0;
  #sweep: TimerHandle | null = null;
  #connected = true;
  #closed = false;

  constructor(
    connection: NatsConnection,
    stream: string,
    options: {
      clock: Clock;
      counters: LogCounters;
      maxInFlightBytes: number;
      /** Nobody listens for what is appended: there is no stream, or JetStream is away. */
      nobody?(): void;
    },
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.#clock = options.clock;
    this.#counters = options.counters;
    this.#maxInFlightBytes = options.maxInFlightBytes;
    this.#nobody = options.nobody;
    this.#inbox = createInbox();
    this.#subscription = connection.subscribe(`${this.#inbox}.*`, {
      callback: (_, message) => this.#answered(message),
    });
  }

  get inFlightBytes(): number {
    return this.#bytes;
  }

  /** Largest content of a message, bytes. */
  get maxBytes(): number {
    return (this.#connection.info?.max_payload ?? 1_048_576) - OVERHEAD_BYTES;
  }

  publish(subject: string, id: string, reply: string | null, bytes: Uint8Array): Promise<Stored> {
    if (!ID_FORM.test(id))
      return Promise.reject(
        new TwinmeshError('bad_request', 'The id of a batch is 1 to 200 printable ASCII characters.'),
      );
    if (this.#closed)
      return Promise.reject(new TwinmeshError('unavailable', 'The log is closed: the node is stopping.'));
    if (!this.#connected) return Promise.reject(lost());
    return new Promise((resolve, reject) => {
      const outgoing: Outgoing = { subject, id, reply, bytes, resolve, reject, sentAt: 0 };
      if (this.#waiting.length === 0 && this.#hasRoom(bytes.length)) this.#send(outgoing);
      else this.#waiting.push(outgoing);
    });
  }

  /** Nothing that is under way will be answered any more. */
  disconnected(): void {
    this.#connected = false;
    for (const key of [...this.#underWay.keys()]) this.#settle(key)?.reject(lost());
    for (const outgoing of this.#waiting.splice(0)) outgoing.reject(lost());
  }

  reconnected(): void {
    this.#connected = true;
  }

  /** Takes no more; what is under way has `withinMs` to be acknowledged. */
  async close(withinMs: number): Promise<void> {
    this.#closed = true;
    const until = this.#clock.monotonic() + withinMs;
    while (this.#underWay.size + this.#waiting.length > 0 && this.#connected && this.#clock.monotonic() < until)
      await sleep(this.#clock, 10);
    this.disconnected();
    this.#sweep?.cancel();
    this.#sweep = null;
    this.#subscription.unsubscribe();
  }

  #hasRoom(bytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= this.#maxInFlightBytes;
  }

  #send(outgoing: Outgoing): void {
    const key = `${this.#inbox}.${(++this.#number).toString(36)}`;
    const head = headers();
    try {
      head.set(ID_HEADER, outgoing.id);
      head.set('Nats-Expected-Stream', this.#stream);
      if (outgoing.reply !== null) head.set(REPLY_HEADER, outgoing.reply);
      this.#connection.publish(outgoing.subject, outgoing.bytes, { reply: key, headers: head });
    } catch (error) {
      outgoing.reject(new TwinmeshError('unavailable', `The log cannot be reached: ${messageOf(error)}.`));
      return;
    }
    outgoing.sentAt = this.#clock.monotonic();
    this.#underWay.set(key, outgoing);
    this.#bytes += outgoing.bytes.length;
    this.#sweep ??= this.#clock.after(SWEEP_MS, () => this.#giveUpOld());
  }

  #settle(key: string): Outgoing | undefined {
    const outgoing = this.#underWay.get(key);
    if (!outgoing) return undefined;
    this.#underWay.delete(key);
    this.#bytes -= outgoing.bytes.length;
    return outgoing;
  }

  #answered(message: Msg): void {
    const outgoing = this.#settle(message.subject);
    if (!outgoing) return;
    this.#next();
    if (message.data.length === 0) this.#nobody?.();
    const answer = parse(message);
    if ('refusal' in answer) {
      outgoing.reject(answer.refusal);
      return;
    }
    if (answer.duplicate) this.#counters.duplicates++;
    else this.#counters.published++;
    outgoing.resolve(answer);
  }

  #next(): void {
    while (this.#waiting.length > 0 && this.#hasRoom(this.#waiting[0].bytes.length)) this.#send(this.#waiting.shift()!);
  }

  /** They are in the order in which they were sent. */
  #giveUpOld(): void {
    this.#sweep = null;
    const before = this.#clock.monotonic() - ACK_WITHIN_MS;
    for (const [key, { sentAt }] of this.#underWay) {
      if (sentAt > before) break;
      this.#settle(key)?.reject(
        new TwinmeshError('unavailable', `The log did not acknowledge a batch within ${ACK_WITHIN_MS / 1000} s.`),
      );
    }
    this.#next();
    if (this.#underWay.size > 0) this.#sweep = this.#clock.after(SWEEP_MS, () => this.#giveUpOld());
  }
}

function parse(message: Msg): Stored | { refusal: TwinmeshError } {
  if (message.data.length === 0)
    return { refusal: new TwinmeshError('unavailable', 'The log has no stream: JetStream does not answer.') };
  let answer: { seq?: unknown; duplicate?: unknown; error?: { err_code?: number; description?: string } };
  try {
    answer = message.json();
  } catch {
    return { refusal: new TwinmeshError('unavailable', 'The log answered something that is no acknowledgement.') };
  }
  if (answer.error) {
    const { err_code: code = 0, description = 'no reason given' } = answer.error;
    return {
      refusal: FULL.has(code)
        ? new TwinmeshError('overloaded', `The log is full: ${description}.`, { errCode: code })
        : new TwinmeshError('unavailable', `The log refuses: ${description}.`, { errCode: code }),
    };
  }
  if (!Number.isSafeInteger(answer.seq) || (answer.seq as number) < 1)
    return { refusal: new TwinmeshError('unavailable', 'The log answered something that is no acknowledgement.') };
  return { position: answer.seq as number, duplicate: answer.duplicate === true };
}

function lost(): TwinmeshError {
  return new TwinmeshError('unavailable', 'The connection to the log is lost.');
}
