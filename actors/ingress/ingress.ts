import type { Log } from '../log/port.ts';
import type { Clock } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { Kind, RawReading } from '../protocol/kind.ts';
import type { Outcome } from '../protocol/reading.ts';
import { NO_TRACER, type Traceparent, type Tracer } from '../protocol/trace.ts';
import { isId, twinIdOf } from '../protocol/twin-id.ts';
import { Appender, type Done, type StoreOptions } from './appender.ts';
import type { DeadLetter } from './dead-letters.ts';
import { Door, type DoorLimits } from './door.ts';
import { type Intake, type Item, resultOf, type Source, type SubmitResult } from './intake.ts';
import { type JsonLimits, type Parsed, parseLines, parseMessages } from './json.ts';
import { type Decoded, generic, type Kinds, Routes } from './route.ts';
import { mayTell } from './speaker.ts';
import { Tally } from './tally.ts';

/**
 * Ingress: from the bytes of a payload to readings in the log.
 *
 * Owns: decoding, the door, the dead letters of what it refuses, and how readings get into the log (appender.ts). Does not
 * own: connections (they hold their acknowledgement until `store` says so), nor what the twins make of it.
 *
 * Invariants:
 *  I1  A payload is done only when each of its readings is in the log (`wait: 'commit'`: committed) or refused.
 *  I2  A message is refused alone; the good ones beside it go their way.
 *  I3  Every refusal is counted, and given to the dead letters once.
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
  /** Payloads that are on their way at once, bytes; default 64 MiB. */
  maxInFlightBytes?: number;
  /** Readings of one log message; default 1,000. */
  maxBatchReadings?: number;
  tracer?: Tracer;
}

export interface ReadOptions {
  /** One message a line. */
  ndjson?: boolean;
  /** Bytes of the whole payload; default: as for one message. */
  maxBytes?: number;
  /** What is refused is a dead letter already: it is not written again. */
  replay?: boolean;
  /** When the payload first arrived, ms: the time of a message that carries none, so that sending it again changes nothing. */
  arrivedAt?: number;
  /** The trace it belongs to; null: it was decided that it is not traced. Left out, that is decided here. */
  trace?: Traceparent | null;
}

/** What a decoded reading counts for in `maxInFlightBytes`. */
const DECODED_BYTES = 200;
const MAX_IN_FLIGHT_BYTES = 64 * 2 ** 20;
const MAX_BATCH_READINGS = 1000;

export class Ingress {
  readonly tally = new Tally();
  readonly #options: IngressOptions;
  readonly #routes: Routes;
  readonly #door: Door;
  readonly #appender: Appender;
  readonly #tracer: Tracer;

  constructor(options: IngressOptions) {
    this.#options = options;
    this.#routes = new Routes(options.kinds);
    this.#door = new Door(options.door);
    this.#tracer = options.tracer ?? NO_TRACER;
    this.#appender = new Appender({
      maxInFlightBytes: MAX_IN_FLIGHT_BYTES,
      maxBatchReadings: MAX_BATCH_READINGS,
      ...options,
      tracer: this.#tracer,
      onOutcome: (intake, item, outcome) => this.#outcome(intake, item, outcome),
    });
  }

  /** Since when and why the log takes nothing; null when it does. */
  get paused(): { since: number; reason: string } | null {
    return this.#appender.paused;
  }

  get inFlightBytes(): number {
    return this.#appender.inFlightBytes;
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
    if (options?.trace !== null) this.#trace(intake, options?.trace ?? null);
    try {
      const route = this.#routes.of(source.protocol, source.address);
      if (route.type === 'status') {
        if (source.speaker) mayTell(source.speaker, route.kind.kind, route.id);
        intake.status = { twinId: twinIdOf(route.kind.kind, route.id), online: saysOnline(payload) };
        intake.span?.end();
        return intake;
      }
      const parsed = this.#parse(payload, options);
      if (parsed.length === 0) throw new TwinmeshError('not_json', 'The payload holds no message.');
      for (const message of parsed)
        intake.items.push(
          this.#item(intake, message, (value) => this.#routes.decode(route, value), options?.arrivedAt),
        );
    } catch (error) {
      const text = () => asText(payload);
      intake.items = [this.#refused(intake, { reading: null, refusal: asRefusal(error), outcome: null, text }, null)];
    }
    // What holds nothing good need not be stored, so that nobody else would end it.
    if (intake.span !== undefined && intake.items.every((item) => item.reading === null)) endSpan(intake, null);
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
  store(intakes: readonly Intake[], options: StoreOptions, done: Done): Promise<void> {
    if (intakes.every((intake) => intake.span === undefined)) return this.#appender.store(intakes, options, done);
    return this.#appender.store(intakes, options, (intake, error) => {
      endSpan(intake, error);
      done(intake, error);
    });
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
    this.#appender.close();
  }

  #trace(intake: Intake, parent: Traceparent | null): void {
    const { protocol, address } = intake.source;
    const facts = { 'twinmesh.protocol': protocol, 'twinmesh.address': address, 'twinmesh.bytes': intake.bytes };
    const span = this.#tracer.start('ingest', parent, facts);
    if (span !== null) intake.span = span;
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

  #item(intake: Intake, message: Parsed, decode: (value: unknown) => Decoded, arrivedAt?: number): Item {
    const item: Item = { reading: null, refusal: null, outcome: null, text: message.text };
    let decoded: Decoded | null = null;
    try {
      if (message.error) throw message.error;
      decoded = decode(message.value);
      const reading = this.#door.admit(decoded.kind, decoded.raw, intake.receivedAt, arrivedAt);
      if (intake.source.speaker !== null) mayTell(intake.source.speaker, reading.kind, reading.id);
      item.reading = reading;
      return item;
    } catch (error) {
      item.refusal = asRefusal(error);
      return this.#refused(intake, item, decoded && twinOf(decoded));
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

  #outcome(intake: Intake, item: Item, outcome: Outcome): void {
    const { protocol } = intake.source;
    item.outcome = outcome;
    if (outcome === 'accepted' || outcome === 'backfill' || outcome === 'duplicate') {
      this.tally.stored(protocol, outcome);
      return;
    }
    const { kind, id, at } = item.reading!;
    const twinId = twinIdOf(kind, id);
    item.refusal = new TwinmeshError(outcome, SENTENCES[outcome](twinId, at));
    // The host has kept poison in the transaction that moved past it.
    if (outcome === 'poison') this.tally.refused(protocol, outcome);
    else this.#refused(intake, item, twinId);
  }
}

const SENTENCES: Record<
  'conflicting_duplicate' | 'retired' | 'too_many_metrics' | 'poison',
  (twinId: string, at: number) => string
> = {
  conflicting_duplicate: (twinId, at) =>
    `${twinId} has a reading of ${new Date(at).toISOString()} with other values; the first stands.`,
  too_many_metrics: (twinId) => `${twinId} has learned as many metrics as a twin may; this one is not taken.`,
  retired: (twinId) => `${twinId} is retired and takes nothing new.`,
  poison: (twinId) => `Folding the reading into ${twinId} failed; it is kept as a dead letter.`,
};

function endSpan({ span, items }: Intake, error: TwinmeshError | null): void {
  if (span === undefined) return;
  let refused = 0;
  for (const item of items) if (item.refusal !== null) refused++;
  span.note({ 'twinmesh.readings': items.length - refused, 'twinmesh.refused': refused });
  span.end(error === null ? undefined : `${error.code}: ${error.message}`);
}

/** Whose reading was refused, where that much is sure. */
function twinOf({ kind, raw }: Decoded): string | null {
  const id = typeof raw.id === 'number' ? String(raw.id) : raw.id;
  return isId(id) ? twinIdOf(kind.kind, id) : null;
}

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
