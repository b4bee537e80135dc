import type { Clock } from '../protocol/clock.ts';
import type { Entry } from '../protocol/entry.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { Emitted } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import type { Outcome, Reading } from '../protocol/reading.ts';
import type { Tracer } from '../protocol/trace.ts';
import { Activation } from './activation.ts';
import { refuse } from './commands.ts';
import type { HostCounters } from './host-api.ts';
import { judgeReading } from './judging.ts';
import { H } from './layout.ts';
import type { Part } from './part.ts';
import type { HostedShard, PendingCommand } from './shard.ts';
import { newState } from './state.ts';
import { beginTurn, endTurn } from './traced.ts';
import type { Tunings } from './tunings.ts';
import { fold } from './turn.ts';
import { viewOf } from './view.ts';
import type { Wakes } from './wakes.ts';

/**
 * Folds the work of one shard into one part of the cut: messages, commands, ticks. Synchronous throughout; what needs the
 * store (activation, look-ups of old readings) has been brought before or is deferred to after.
 *
 * Invariants:
 *  1  Work of a shard is folded in order; it stops at the first twin that is not resident, and goes on when it is.
 *  2  A reading is judged before it is folded: duplicate, conflict, retired, older than the window, or new. Only the new
 *     get a revision.
 *  3  A turn that throws condemns the reading and throws the shard's memory away: `Poisoned` carries which.
 */
export interface FoldingContext {
  clock: Clock;
  kinds: { get(kind: string): Kind };
  counters: HostCounters;
  wakes: Wakes;
  tunings: Tunings;
  /** Readings known to kill or abort, as `message id:index`. */
  condemned: ReadonlyMap<string, string>;
  watched: ReadonlySet<string> | ReadonlyMap<string, unknown>;
  /** The twin has its first change in a part. */
  changed(activation: Activation): void;
  tracer?: Tracer;
}

/** A reading older than the lateness window: history decides what it is. */
export interface Deferred {
  activation: Activation;
  reading: Reading;
  receivedAt: number;
  outcomes: Outcome[];
  index: number;
}

/** The turn threw: nothing this shard has folded in this cut may be kept. */
export class Poisoned extends Error {
  readonly key: string | null;
  readonly twinId: string;

  constructor(key: string | null, twinId: string, cause: unknown) {
    super(messageOf(cause), { cause });
    this.name = 'Poisoned';
    this.key = key;
    this.twinId = twinId;
  }
}

export function condemnedKey(messageId: string, index: number): string {
  return `${messageId}:${index}`;
}

/** Folds messages until `budget` readings, the queue's end, or a twin that is not resident. Answers how many readings it judged. */
export function foldMessages(
  shard: HostedShard,
  part: Part,
  budget: number,
  deferred: Deferred[],
  context: FoldingContext,
): number {
  let judged = 0;
  while (judged < budget) {
    shard.current ??= next(shard);
    const current = shard.current;
    if (current === null) break;
    const { message, outcomes } = current;
    if (message.trace !== undefined && current.turn === undefined) beginTurn(shard, current, context.tracer);
    const { readings } = message;
    while (current.index < readings.length && judged < budget) {
      const reading = readings[current.index];
      const activation = shard.twins.of(reading.kind, reading.id);
      if (activation === undefined) return judged;
      const key = context.condemned.size > 0 ? condemnedKey(message.id, current.index) : '';
      const verdict = context.condemned.get(key);
      if (verdict !== undefined) {
        condemn(part, activation, reading, message.receivedAt, verdict, context);
        outcomes[current.index] = 'poison';
      } else {
        const outcome = judgeReading(activation, reading);
        if (outcome === 'old') {
          deferred.push({ activation, reading, receivedAt: message.receivedAt, outcomes, index: current.index });
          outcomes[current.index] = 'backfill';
        } else {
          if (outcome === 'accepted') {
            try {
              foldReading(shard, part, activation, reading, message.receivedAt, context);
            } catch (error) {
              current.turn?.span.end(messageOf(error));
              throw new Poisoned(condemnedKey(message.id, current.index), activation.twinId, error);
            }
          } else {
            count(part, activation, outcome, context);
          }
          outcomes[current.index] = outcome;
        }
      }
      part.judged++;
      if (shard.mode === 'single') part.lastKey = condemnedKey(message.id, current.index);
      judged++;
      current.index++;
    }
    if (current.index < readings.length) break;
    shard.position = message.position;
    shard.positionId = message.id;
    shard.positionAt = message.appendedAt;
    part.outcomes.push({ position: message.position, outcomes });
    if (current.turn !== undefined) endTurn(shard, part, current.turn);
    shard.current = null;
  }
  return judged;
}

function next(shard: HostedShard): HostedShard['current'] {
  const message = shard.inbox.shift();
  return message === undefined ? null : { message, index: 0, outcomes: new Array<Outcome>(message.readings.length) };
}

export function count(part: Part, activation: Activation, outcome: Outcome, context: FoldingContext): void {
  if (outcome === 'duplicate') {
    part.duplicates++;
    activation.counts.duplicates++;
    context.counters.duplicates++;
  } else if (outcome === 'conflicting_duplicate') {
    part.conflicts++;
    context.counters.conflicts++;
  }
}

/** Where the entry lies: readings in their own table, all else in `entries`. */
export function foldReading(
  shard: HostedShard,
  part: Part,
  activation: Activation,
  reading: Reading,
  receivedAt: number,
  context: FoldingContext,
): void {
  if (context.tunings.differs(activation.state)) {
    foldEntry(
      shard,
      part,
      activation,
      { type: 'tuning', revision: 0, receivedAt, tuning: context.tunings.of(activation.state.kind.kind) },
      context,
    );
  }
  const revision = activation.revision + 1;
  apply(shard, part, activation, { type: 'reading', revision, receivedAt, reading }, context);
  part.readings.push(journalReading(shard.shard, activation.key, reading, revision, receivedAt));
  part.accepted++;
  context.counters.accepted++;
}

export function journalReading(
  shard: number,
  twin: number,
  reading: Reading,
  revision: number | null,
  receivedAt: number,
) {
  return {
    shard,
    twin,
    kind: reading.kind,
    revision,
    at: reading.at,
    receivedAt,
    key: reading.key ?? null,
    seq: reading.seq ?? null,
    sensor: reading.sensor ?? null,
    attributes: reading.attributes ?? null,
    unit: reading.unit ?? null,
    values: reading.values,
  };
}

/** Folds an entry that is not a reading; the revision is filled in. */
export function foldEntry(
  shard: HostedShard,
  part: Part,
  activation: Activation,
  entry: Exclude<Entry, { type: 'reading' }>,
  context: FoldingContext,
): void {
  const numbered = { ...entry, revision: activation.revision + 1 };
  apply(shard, part, activation, numbered, context);
  part.entries.push({ shard: shard.shard, twin: activation.key, entry: numbered });
}

const emitted: Emitted[] = [];

function apply(shard: HostedShard, part: Part, activation: Activation, entry: Entry, context: FoldingContext): void {
  emitted.length = 0;
  if (activation.part !== part) {
    activation.touchedAt = context.clock.monotonic();
    part.keep(activation, activation.touchedAt);
  }
  const lateBefore = activation.state.n[H.LATE];
  fold(activation.state, entry, emitted);
  if (activation.state.n[H.LATE] > lateBefore) context.counters.late++;
  activation.tail++;
  if (activation.part !== part) {
    activation.part = part;
    part.touched.add(activation);
    shard.dirty.add(activation);
    context.changed(activation);
  }
  context.wakes.schedule(activation);
  for (let i = 0; i < emitted.length; i++) {
    const event = emitted[i];
    part.events.push({
      type: event.type,
      at: event.at,
      body: event.body,
      eventId: `${activation.twinId}~${entry.revision}~${i}`,
      shard: shard.shard,
      seq: ++shard.eventSeq,
      twin: activation.key,
      twinId: activation.twinId,
      revision: entry.revision,
      receivedAt: entry.receivedAt,
    });
  }
  context.counters.events += emitted.length;
  if (context.watched.size > 0 && context.watched.has(activation.twinId)) {
    const entries = part.watched.get(activation.twinId);
    if (entries) entries.push(entry);
    else part.watched.set(activation.twinId, [entry]);
  }
}

function condemn(
  part: Part,
  activation: Activation,
  reading: Reading,
  receivedAt: number,
  why: string,
  context: FoldingContext,
): void {
  context.counters.poison++;
  part.deadLetters.push({
    shard: part.shard.shard,
    twinId: activation.twinId,
    code: 'poison',
    message: why,
    source: 'host',
    receivedAt,
    payload: JSON.stringify({ twinId: activation.twinId, ...reading, at: new Date(reading.at).toISOString() }),
  });
}

/** Folds due ticks: the twin decides what the time means to it. */
export function foldTicks(shard: HostedShard, part: Part, context: FoldingContext): void {
  const now = context.clock.now();
  for (const activation of shard.ticks.splice(0)) {
    const wake = activation.state.n[H.WAKE];
    if (shard.twins.get(activation.twinId) !== activation || wake === 0) continue;
    if (wake > now) {
      // the clock has gone back, or the twin has changed, since it was found due
      context.wakes.schedule(activation);
      continue;
    }
    try {
      foldEntry(shard, part, activation, { type: 'tick', revision: 0, receivedAt: now }, context);
    } catch (error) {
      throw new Poisoned(null, activation.twinId, error);
    }
    context.counters.ticks++;
    context.wakes.schedule(activation);
  }
}

/** Folds commands whose twin is resident; the others stay. */
export function foldCommands(
  shard: HostedShard,
  part: Part,
  missing: ReadonlySet<string>,
  context: FoldingContext,
): void {
  for (const pending of shard.commands.splice(0)) {
    const activation = shard.twins.get(pending.twinId);
    if (activation === undefined) {
      if (missing.has(pending.twinId))
        pending.reject(new TwinmeshError('not_found', `There is no twin ${pending.twinId}.`));
      else shard.commands.push(pending);
      continue;
    }
    foldCommand(shard, part, activation, pending, context);
  }
}

function foldCommand(
  shard: HostedShard,
  part: Part,
  activation: Activation,
  pending: PendingCommand,
  context: FoldingContext,
): void {
  const { command, options } = pending;
  const { state } = activation;
  if (context.clock.monotonic() > pending.deadlineAt) {
    pending.reject(
      new TwinmeshError(
        'deadline_exceeded',
        `The deadline of ${command.name} passed before its turn; nothing was changed.`,
      ),
    );
    return;
  }
  const before = state.aside.commands?.find(([key]) => key === command.key);
  if (before === undefined) {
    const revision = activation.revision;
    if (options.expectedRevision !== undefined && options.expectedRevision !== revision) {
      pending.reject(
        new TwinmeshError(
          'precondition_failed',
          `${pending.twinId} is at revision ${revision}, not ${options.expectedRevision}.`,
          { revision },
        ),
      );
      return;
    }
    try {
      refuse(state, command);
    } catch (error) {
      pending.reject(error as Error);
      return;
    }
    try {
      if (context.tunings.differs(state)) {
        foldEntry(
          shard,
          part,
          activation,
          { type: 'tuning', revision: 0, receivedAt: context.clock.now(), tuning: context.tunings.of(state.kind.kind) },
          context,
        );
      }
      foldEntry(
        shard,
        part,
        activation,
        { type: 'command', revision: 0, receivedAt: context.clock.now(), command },
        context,
      );
    } catch (error) {
      pending.reject(new TwinmeshError('poison', `Folding ${command.name} failed: ${messageOf(error)}`));
      throw new Poisoned(null, activation.twinId, error);
    }
    context.counters.commands++;
  }
  const result = {
    revision: before?.[1] ?? activation.revision,
    view: viewOf(state, activation.counts, null),
    repeated: before !== undefined,
  };
  const waiter = { committed: () => pending.resolve(result), lost: () => shard.onLostCommand?.(pending) };
  if (activation.part === null) pending.resolve(result);
  else activation.part.waiters.push(waiter);
}

/** A twin that nobody has stored yet. */
export function createActivation(shard: HostedShard, kind: Kind, twinId: string, now: number): Activation {
  const activation = new Activation(shard.nextKey(), newState(kind, twinId), { duplicates: 0, backfilled: 0 }, now);
  shard.twins.set(twinId, activation);
  return activation;
}
