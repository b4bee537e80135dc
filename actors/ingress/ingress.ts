import type { Log, LogBatch } from '../log/port.ts';
import { type Clock, sleep } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { Kind, RawReading } from '../protocol/kind.ts';
import type { Outcome } from '../protocol/reading.ts';
import { shardOf, twinIdOf } from '../protocol/twin-id.ts';
import type { DeadLetter } from './dead-letters.ts';
import { Door, type DoorLimits } from './door.ts';
import { type Intake, type Item, resultOf, type Source, type SubmitResult } from './intake.ts';
import { type JsonLimits, type Parsed, parseLines, parseMessages } from './json.ts';
import { generic, type Kinds, Routes } from './route.ts';
import { mayTell } from './speaker.ts';
import { Tally } from './tally.ts';

/**
 * Ingress: from the bytes of a payload to readings in the log.
 *
 * Owns: decoding, the door, dead letters of what it refuses, grouping by shard, and how much may be on its way.
 * Does not own: connections (they hold their acknowledgement until `store` says so), nor what the twins make of it.
 *
 * Invariants:
 *  I1  A payload is done only when each of its readings is in the log (`wait: 'commit'`: committed) or refused.
 *  I2  A message is refused alone; the good ones beside it go their way.
 *  I3  Readings keep the order in which they came within a shard, as long as they go out in one `store`.
 *  I4  At most `maxInFlightBytes` of payloads are between `store` and done: above it the impatient are refused
 *      (`overloaded`), the patient wait.
 *  I5  A batch that is tried again keeps its id and its times: what may have landed is recognised.
 */
export interface IngressOptions {
  log: Log;
  kinds: Kinds;
  clock: Clock;
  shards: number;
  door: DoorLimits;
  json: JsonLimits;
  deadLetters: { add(letter: DeadLetter): void };
  /** Makes batch ids unique over all processes that ever wrote to the log. */
  batchPrefix: string;
  limits?: Partial<IngressLimits>;
}

export interface IngressLimits {
  maxInFlightBytes: number;
  /** Readings of one log message. */
  maxBatchReadings: number;
}

export interface StoreOptions {
  wait: 'durable' | 'commit';
  /** Tries again for as long as it takes, so that a source that cannot be told "later" is simply not acknowledged. */
  patient: boolean;
}

export interface ReadOptions {
  /** One message a line. */
  ndjson?: boolean;
  /** Bytes of the whole payload; default: as for one message. */
  maxBytes?: number;
  /** What is refused is a dead letter already: it is not written again. */
  replay?: boolean;
}

/** What a decoded reading counts for in `maxInFlightBytes`. */
const DECODED_BYTES = 200;
const RETRY_MS = { first: 50, most: 2000 };

interface Group {
  items: Item[];
  intakes: Pending[];
}

interface Pending {
  intake: Intake;
  open: number;
  error: TwinmeshError | null;
  done(error: TwinmeshError | null): void;
}

export class Ingress {
  readonly tally = new Tally();
  readonly #options: IngressOptions;
  readonly #limits: IngressLimits;
  readonly #routes: Routes;
  readonly #door: Door;
  readonly #waiting: (() => void)[] = [];
  #inFlightBytes = 0;
  #batches = 0;
  #paused: { since: number; reason: string } | null = null;
  #failing = 0;
  #closed = false;

  constructor(options: IngressOptions) {
    this.#options = options;
    this.#limits = { maxInFlightBytes: 64 * 2 ** 20, maxBatchReadings: 1000, ...options.limits };
    this.#routes = new Routes(options.kinds);
    this.#door = new Door(options.door);
  }

  /** Since when and why the log takes nothing; null when it does. */
  get paused(): { since: number; reason: string } | null {
    return this.#paused;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /** Fields of messages that meant nothing to their kind. */
  get ignoredFields(): number {
    return this.#door.ignored;
  }

  /** A payload read: what is good in it, what is refused. Never throws; refusals are in the dead letters when it returns. */
  read(source: Source, payload: Uint8Array | string, options?: ReadOptions): Intake {
    const receivedAt = this.#options.clock.now();
    const intake: Intake = { source, receivedAt, bytes: payload.length, items: [], replay: options?.replay === true };
    this.tally.message(source.protocol);
    try {
      const route = this.#routes.of(source.protocol, source.address);
      if (route.type === 'status') {
        if (source.speaker) mayTell(source.speaker, route.kind.kind, route.id);
        intake.status = { twinId: twinIdOf(route.kind.kind, route.id), online: saysOnline(payload) };
        return intake;
      }
      const parsed = this.#parse(payload, options);
      if (parsed.length === 0) throw new TwinmeshError('not_json', 'The payload holds no message.');
      for (const message of parsed)
        intake.items.push(this.#item(intake, message, (value) => this.#routes.decode(route, value)));
    } catch (error) {
      const text = () => asText(payload);
      intake.items = [this.#refused(intake, { reading: null, refusal: asRefusal(error), outcome: null, text }, null)];
    }
    return intake;
  }

  /** Readings that have been decoded already (a file, by its map): the door decides about them as about any other. */
  readDecoded(source: Source, kind: Kind, raws: readonly RawReading[]): Intake {
    const bytes = raws.length * DECODED_BYTES;
    const intake: Intake = { source, receivedAt: this.#options.clock.now(), bytes, items: [], replay: false };
    this.tally.message(source.protocol);
    for (const raw of raws) {
      const message: Parsed = { value: raw, text: () => generic(kind, raw) };
      intake.items.push(this.#item(intake, message, () => ({ kind, raw })));
    }
    return intake;
  }

  /** Counts and keeps what was refused before there was a payload to read. */
  refuse(source: Source, refusal: TwinmeshError): void {
    const item: Item = { reading: null, refusal, outcome: null, text: () => '' };
    this.#refused(
      { source, receivedAt: this.#options.clock.now(), bytes: 0, items: [item], replay: false },
      item,
      null,
    );
  }

  /** Stores what `read` found good. `done` is called once for each intake, with the error that kept it from the log. */
  async store(
    intakes: readonly Intake[],
    options: StoreOptions,
    done: (intake: Intake, error: TwinmeshError | null) => void,
  ): Promise<void> {
    let bytes = 0;
    for (const intake of intakes) bytes += intake.bytes;
    try {
      await this.#enter(bytes, options.patient);
    } catch (error) {
      for (const intake of intakes) done(intake, asRefusal(error));
      return;
    }
    try {
      const groups = this.#group(intakes, done);
      await Promise.all(groups.map((group) => this.#append(group.batch, group, options)));
    } finally {
      this.#leave(bytes);
    }
  }

  /**
   * Reads and stores one payload and answers what became of each message. Throws what kept it from the log: `overloaded`,
   * `unavailable`, `store_down`, `deadline_exceeded` (after `deadlineMs`; it may still be stored, sending it again is safe).
   */
  submit(
    source: Source,
    payload: Uint8Array | string,
    options: StoreOptions & ReadOptions & { deadlineMs: number },
  ): Promise<SubmitResult> {
    const intake = this.read(source, payload, options);
    return new Promise((resolve, reject) => {
      const timer = this.#options.clock.after(options.deadlineMs, () => {
        const message = `Not committed within ${options.deadlineMs} ms; sending it again is safe.`;
        reject(new TwinmeshError('deadline_exceeded', message));
      });
      void this.store([intake], options, (_, error) => {
        timer.cancel();
        if (error) reject(error);
        else resolve(resultOf(intake));
      });
    });
  }

  /** Lets go of those who wait; what is in the log already is finished by it. */
  close(): void {
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #parse(payload: Uint8Array | string, options: ReadOptions | undefined): Parsed[] {
    const { json } = this.#options;
    if (options?.ndjson !== true)
      return parseMessages(payload, { ...json, maxBytes: options?.maxBytes ?? json.maxBytes });
    if (options.maxBytes !== undefined && payload.length > options.maxBytes) {
      throw new TwinmeshError(
        'too_large',
        `${payload.length} bytes are more than the ${options.maxBytes} that are allowed.`,
      );
    }
    return parseLines(payload, json);
  }

  #item(intake: Intake, message: Parsed, decode: (value: unknown) => ReturnType<Routes['decode']>): Item {
    const item: Item = { reading: null, refusal: null, outcome: null, text: message.text };
    let twinId: string | null = null;
    try {
      if (message.error) throw message.error;
      const { kind, raw } = decode(message.value);
      const reading = this.#door.admit(kind, raw, intake.receivedAt);
      if (intake.source.speaker !== null) {
        twinId = twinIdOf(reading.kind, reading.id);
        mayTell(intake.source.speaker, reading.kind, reading.id);
      }
      item.reading = reading;
      return item;
    } catch (error) {
      item.refusal = asRefusal(error);
      return this.#refused(intake, item, twinId);
    }
  }

  #refused(intake: Intake, item: Item, twinId: string | null): Item {
    const { code, message } = item.refusal as TwinmeshError;
    const { protocol, address } = intake.source;
    this.tally.refused(protocol, code);
    if (intake.replay) return item;
    this.#options.deadLetters.add({
      receivedAt: intake.receivedAt,
      source: `${protocol}:${address}`,
      code,
      message,
      twinId,
      payload: item.text(),
    });
    return item;
  }

  #group(intakes: readonly Intake[], done: (intake: Intake, error: TwinmeshError | null) => void) {
    const groups: (Group & { batch: LogBatch })[] = [];
    const filling = new Map<number, Group & { batch: LogBatch }>();
    const empty: Intake[] = [];
    for (const intake of intakes) {
      const pending: Pending = { intake, open: 0, error: null, done: (error) => done(intake, error) };
      for (const item of intake.items) {
        const reading = item.reading;
        if (reading === null) continue;
        const shard = shardOf(twinIdOf(reading.kind, reading.id), this.#options.shards);
        let group = filling.get(shard);
        if (group === undefined || group.items.length >= this.#limits.maxBatchReadings) {
          const id = `${this.#options.batchPrefix}-${(++this.#batches).toString(36)}`;
          group = { items: [], intakes: [], batch: { shard, id, receivedAt: intake.receivedAt, readings: [] } };
          filling.set(shard, group);
          groups.push(group);
        }
        group.batch.readings.push(reading);
        group.items.push(item);
        group.intakes.push(pending);
        pending.open++;
      }
      if (pending.open === 0) empty.push(intake);
    }
    // Only now, so that nobody is called back while the groups are being filled.
    for (const intake of empty) done(intake, null);
    return groups;
  }

  async #append(batch: LogBatch, group: Group, options: StoreOptions): Promise<void> {
    let failure: TwinmeshError | null = null;
    let retryMs = RETRY_MS.first;
    let failing = false;
    for (;;) {
      try {
        const appended = await this.#options.log.append(batch, { wait: options.wait });
        this.#settle(group, appended.outcomes);
        this.#takes(failing);
        break;
      } catch (error) {
        failure = asFailure(error);
        if (!failing) this.#fails(failure);
        failing = true;
        if (!options.patient || this.#closed) {
          this.#failing--;
          break;
        }
        failure = null;
        await sleep(this.#options.clock, retryMs);
        retryMs = Math.min(retryMs * 2, RETRY_MS.most);
      }
    }
    for (const pending of group.intakes) {
      pending.error ??= failure;
      if (--pending.open === 0) pending.done(pending.error);
    }
  }

  /** Outcomes are there when the log waited for the commit; else the readings are durable and their fate is the twins'. */
  #settle(group: Group, outcomes: readonly Outcome[] | undefined): void {
    group.items.forEach((item, i) => {
      const outcome = outcomes?.[i] ?? 'accepted';
      const { intake } = group.intakes[i];
      item.outcome = outcome;
      if (outcome === 'accepted' || outcome === 'backfill' || outcome === 'duplicate') {
        this.tally.stored(intake.source.protocol, outcome);
        return;
      }
      const reading = item.reading!;
      const twinId = twinIdOf(reading.kind, reading.id);
      item.refusal = new TwinmeshError(outcome, SENTENCES[outcome](twinId, reading.at));
      // The host has kept poison in the transaction that moved past it.
      if (outcome === 'poison') this.tally.refused(intake.source.protocol, outcome);
      else this.#refused(intake, item, twinId);
    });
  }

  async #enter(bytes: number, patient: boolean): Promise<void> {
    const full = () => this.#inFlightBytes > 0 && this.#inFlightBytes + bytes > this.#limits.maxInFlightBytes;
    while (full()) {
      if (!patient) throw new TwinmeshError('overloaded', 'Too much is waiting to be stored.');
      if (this.#closed) break;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#closed) throw new TwinmeshError('unavailable', 'The node is stopping.');
    this.#inFlightBytes += bytes;
  }

  #leave(bytes: number): void {
    this.#inFlightBytes -= bytes;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #fails(error: TwinmeshError): void {
    this.#failing++;
    this.#paused ??= { since: this.#options.clock.now(), reason: error.message };
  }

  /** The log took a batch: once nobody is still trying, it takes them again. */
  #takes(afterFailing: boolean): void {
    if (afterFailing) this.#failing--;
    if (this.#failing === 0) this.#paused = null;
  }
}

const SENTENCES: Record<'conflicting_duplicate' | 'retired' | 'poison', (twinId: string, at: number) => string> = {
  conflicting_duplicate: (twinId, at) =>
    `${twinId} has a reading of ${new Date(at).toISOString()} with other values; the first stands.`,
  retired: (twinId) => `${twinId} is retired and takes nothing new.`,
  poison: (twinId) => `Folding the reading into ${twinId} failed; it is kept as a dead letter.`,
};

/** `online` or `offline`, plain or as a JSON string. Throws `wrong_type`. */
function saysOnline(payload: Uint8Array | string): boolean {
  const text = asText(payload)
    .slice(0, 64)
    .trim()
    .replace(/^"(.*)"$/, '$1')
    .toLowerCase();
  if (text === 'online') return true;
  if (text === 'offline') return false;
  throw new TwinmeshError('wrong_type', 'A status is the text online or offline.');
}

function asText(payload: Uint8Array | string): string {
  if (typeof payload === 'string') return payload.slice(0, 65_536);
  return Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.byteLength, 65_536)).toString('utf8');
}

/** A fault of the door that is no refusal is ours: the reading is refused all the same, and nothing else suffers. */
function asRefusal(error: unknown): TwinmeshError {
  return error instanceof TwinmeshError
    ? error
    : new TwinmeshError('internal', messageOf(error), undefined, { cause: error });
}

function asFailure(error: unknown): TwinmeshError {
  return error instanceof TwinmeshError
    ? error
    : new TwinmeshError('unavailable', messageOf(error), undefined, { cause: error });
}
