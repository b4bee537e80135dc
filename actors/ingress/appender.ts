import type { Log, LogBatch } from '../log/port.ts';
import { type Clock, sleep } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { Outcome } from '../protocol/reading.ts';
import type { Span, Tracer } from '../protocol/trace.ts';
import { shardOf, twinIdOf } from '../protocol/twin-id.ts';
import type { Intake, Item } from './intake.ts';

/**
 * Brings the readings of intakes into the log: by shard, in batches, bounded, again and again where that is asked for.
 *
 * Invariants:
 *  1  An intake is done when each of its readings is in the log (`wait: 'commit'`: committed), or when what kept one of
 *     them out is given up on. It waits for its own shards only.
 *  2  Readings keep their order within a shard, as long as they go out in one call.
 *  3  At most `maxInFlightBytes` of intakes are not done: above it the impatient are refused (`overloaded`), the patient
 *     wait their turn.
 *  4  A batch that is tried again keeps its id and its times: what may have landed is recognised.
 */
export interface AppenderOptions {
  log: Log;
  clock: Clock;
  shards: number;
  /** Makes batch ids unique over all processes that ever wrote to the log. */
  batchPrefix: string;
  maxInFlightBytes: number;
  /** Readings of one log message. */
  maxBatchReadings: number;
  tracer: Tracer;
  onOutcome(intake: Intake, item: Item, outcome: Outcome): void;
}

export interface StoreOptions {
  wait: 'durable' | 'commit';
  /** Tries again for as long as it takes, so that a source that cannot be told "later" is simply not acknowledged. */
  patient: boolean;
}

export type Done = (intake: Intake, error: TwinmeshError | null) => void;

interface Pending {
  intake: Intake;
  open: number;
  error: TwinmeshError | null;
}

interface Group {
  batch: LogBatch;
  items: Item[];
  intakes: Pending[];
  /** One for each traced intake; the batch carries the trace of the first. */
  spans: Span[] | null;
}

const RETRY_MS = { first: 50, most: 2000 };
/** Where nobody tries any more, a refusal says for so long that the log takes nothing: only who tries again finds out. */
const DOUBTED_MS = 10_000;

export class Appender {
  readonly #options: AppenderOptions;
  readonly #waiting: (() => void)[] = [];
  #inFlightBytes = 0;
  #batches = 0;
  #paused: { since: number; reason: string } | null = null;
  #failing = 0;
  #failedAt = 0;
  #closed = false;

  constructor(options: AppenderOptions) {
    this.#options = options;
  }

  /** Since when and why the log takes nothing; null when it does. */
  get paused(): { since: number; reason: string } | null {
    if (this.#failing === 0 && this.#options.clock.monotonic() - this.#failedAt >= DOUBTED_MS) this.#paused = null;
    return this.#paused;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /** `done` is called once for each intake, with the error that kept it from the log. */
  async store(intakes: readonly Intake[], options: StoreOptions, done: Done): Promise<void> {
    let bytes = 0;
    for (const intake of intakes) bytes += intake.bytes;
    try {
      await this.#enter(bytes, options.patient);
    } catch (error) {
      for (const intake of intakes) done(intake, asFailure(error));
      return;
    }
    const leave: Done = (intake, error) => {
      this.#leave(intake.bytes);
      done(intake, error);
    };
    await Promise.all(this.#group(intakes, leave).map((group) => this.#append(group, options, leave)));
  }

  /** Lets go of those who wait; what is in the log already is finished by it. */
  close(): void {
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #group(intakes: readonly Intake[], done: Done): Group[] {
    const { shards, maxBatchReadings, batchPrefix } = this.#options;
    const groups: Group[] = [];
    const filling = new Map<number, Group>();
    const empty: Intake[] = [];
    for (const intake of intakes) {
      const pending: Pending = { intake, open: 0, error: null };
      for (const item of intake.items) {
        const reading = item.reading;
        if (reading === null) continue;
        const shard = shardOf(twinIdOf(reading.kind, reading.id), shards);
        let group = filling.get(shard);
        if (group === undefined || group.items.length >= maxBatchReadings) {
          const id = `${batchPrefix}-${(++this.#batches).toString(36)}`;
          group = {
            items: [],
            intakes: [],
            spans: null,
            batch: { shard, id, receivedAt: intake.receivedAt, readings: [] },
          };
          filling.set(shard, group);
          groups.push(group);
        }
        if (intake.span !== undefined && group.intakes[group.intakes.length - 1] !== pending)
          this.#trace(group, intake.span);
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

  #trace(group: Group, parent: Span): void {
    const { batch } = group;
    const span = this.#options.tracer.start('append', parent.trace, {
      'twinmesh.shard': batch.shard,
      'twinmesh.batch': batch.id,
    });
    if (span === null) return;
    if (batch.trace === undefined) batch.trace = span.trace;
    else span.link(batch.trace);
    group.spans ??= [];
    group.spans.push(span);
  }

  async #append({ batch, items, intakes, spans }: Group, { wait, patient }: StoreOptions, done: Done): Promise<void> {
    const { log, clock, onOutcome } = this.#options;
    let failure: TwinmeshError | null = null;
    let failing = false;
    for (let retryMs = RETRY_MS.first; ; retryMs = Math.min(retryMs * 2, RETRY_MS.most)) {
      try {
        const { outcomes } = await log.append(batch, { wait });
        this.#takes(failing);
        // Without outcomes the readings are durable, and what becomes of them is the twins' affair.
        for (const [i, item] of items.entries()) onOutcome(intakes[i].intake, item, outcomes?.[i] ?? 'accepted');
        break;
      } catch (error) {
        const reason = asFailure(error);
        if (!failing) this.#fails(reason);
        failing = true;
        this.#failedAt = clock.monotonic();
        if (!patient || this.#closed) {
          this.#failing--;
          failure = reason;
          break;
        }
        await sleep(clock, retryMs);
      }
    }
    for (const span of spans ?? []) span.end(failure?.message);
    for (const pending of intakes) {
      pending.error ??= failure;
      if (--pending.open === 0) done(pending.intake, pending.error);
    }
  }

  async #enter(bytes: number, patient: boolean): Promise<void> {
    const { maxInFlightBytes } = this.#options;
    // Nothing is too large to go alone.
    while (this.#inFlightBytes > 0 && this.#inFlightBytes + bytes > maxInFlightBytes && !this.#closed) {
      if (!patient) throw new TwinmeshError('overloaded', 'Too much is waiting to be stored.');
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

function asFailure(error: unknown): TwinmeshError {
  if (error instanceof TwinmeshError) return error;
  return new TwinmeshError('unavailable', messageOf(error), undefined, { cause: error });
}
