import type { LogMessage } from '../log/port.ts';
import { sleep } from '../protocol/clock.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import { twinIdOf } from '../protocol/twin-id.ts';
import { foldAnswers } from './answer.ts';
import type { Building } from './building.ts';
import type { Closing } from './closing.ts';
import {
  condemnedKey,
  createActivation,
  type Deferred,
  type FoldingContext,
  foldCommands,
  foldMessages,
  foldTicks,
  Poisoned,
} from './folding.ts';
import type { Host } from './host.ts';
import { judgeReading } from './judging.ts';
import { applyLate, decideLate } from './late.ts';
import { Part } from './part.ts';
import { activate } from './recovery.ts';
import type { HostedShard } from './shard.ts';
import { SUSPECT, SUSPICIONS, suspicionOf, timesNamed } from './suspicion.ts';

/**
 * Gathers work of the shards and folds it into the cut under construction.
 *
 * Owns whose turn it is and what has to be in memory before a shard is folded. Does not own when the cut goes out.
 *
 * Invariants:
 *  1  Work of a shard in a careful mode travels alone.
 *  2  No shard waits for ever: whoever was served longest ago comes first, behind those that somebody waits for.
 *  3  Folding is synchronous; what it needs of the store is brought before it, late readings are decided after it.
 */
/**
 * Readings that a shard may bring at a time, though its fair share may be less: a run of one shard finds its twins and their
 * pages in the caches, of the host as of the database, and a cut of few shards has few fences.
 */
const RUN_READINGS = 256;
const RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;
const NONE: ReadonlySet<string> = new Set();

/** What the gathering has to know of the loop that drives it. */
export interface Course {
  readonly inFlight: Promise<void> | null;
  readonly stopped: boolean;
  poisoned(shard: HostedShard, error: Poisoned): void;
}

export class Gathering {
  readonly #host: Host;
  readonly #course: Course;
  readonly #building: Building;
  readonly #context: FoldingContext;
  #rotation = 0;
  #served = 0;
  #exclusiveTurn = false;
  /** Shard whose next reading has been named as suspect: nothing else is folded before that reading, or it would be blamed for it. */
  #named: HostedShard | null = null;
  /** Shard → the reading that this process named last. */
  readonly #namedHere = new Map<number, number>();

  constructor(host: Host, course: Course, building: Building, closing: Closing) {
    this.#host = host;
    this.#course = course;
    this.#building = building;
    const { clock, kinds, tracer } = host.options;
    this.#context = {
      clock,
      kinds,
      tracer,
      counters: host.counters,
      wakes: host.wakes,
      tunings: host.tunings,
      condemned: host.condemned,
      watched: host.watchers,
      changed: (activation) => closing.changed(activation),
    };
  }

  async gatherSome(): Promise<boolean> {
    const careful: HostedShard[] = [];
    const normal: HostedShard[] = [];
    for (const shard of this.#host.custody.shards.values()) {
      if (shard.hasWork && !shard.poisoned) (shard.mode === 'normal' ? normal : careful).push(shard);
    }
    const { cutMaxEntries } = this.#host.options;
    if (this.#named !== null && (this.#named.dead || this.#named.poisoned || this.#named.draining)) this.#named = null;
    if (this.#named !== null) {
      if (this.#building.parts.size > 0 || this.#course.inFlight !== null) return false;
      return this.#gather([this.#named], 1);
    }
    if (careful.length > 0 && (this.#exclusiveTurn || normal.length === 0)) {
      // travels alone: first what is under way
      if (this.#building.parts.size > 0 || this.#course.inFlight !== null) return false;
      this.#exclusiveTurn = false;
      const shard = careful[this.#rotation++ % careful.length];
      return this.#gather([shard], shard.mode === 'single' ? 1 : cutMaxEntries);
    }
    this.#exclusiveTurn = true;
    const room = cutMaxEntries - this.#building.size;
    if (normal.length === 0 || room <= 0) return false;
    return this.#gather(normal.sort(byNeed), room);
  }

  async #gather(shards: readonly HostedShard[], budget: number): Promise<boolean> {
    const missing = new Map<HostedShard, Set<string>>();
    const fair = Math.max(1, Math.ceil(budget / shards.length));
    const run = Math.min(budget, Math.max(fair, RUN_READINGS));
    const chosen: [shard: HostedShard, share: number][] = [];
    for (let planned = 0, i = 0; i < shards.length && planned < budget; i++) {
      const shard = shards[i];
      // those that are let in front must not take the place of all others
      const share = isPressing(shard) ? fair : run;
      planned += Math.min(share, this.#collect(shard, share, missing));
      shard.served = ++this.#served;
      chosen.push([shard, share]);
    }
    const unknown = missing.size > 0 ? await this.#activateAll(missing) : new Map<HostedShard, Set<string>>();
    const deferred = new Map<HostedShard, Deferred[]>();
    let progressed = false;
    let left = budget;
    for (const [shard, share] of chosen) {
      if (shard.dead || shard.poisoned || left <= 0) continue;
      const late: Deferred[] = [];
      try {
        left -= this.#foldShard(shard, Math.min(share, left), late, unknown.get(shard));
        progressed = true;
      } catch (error) {
        if (!(error instanceof Poisoned)) throw error;
        this.#course.poisoned(shard, error);
        continue;
      }
      if (late.length > 0) deferred.set(shard, late);
    }
    if (deferred.size > 0) await this.#decide(deferred);
    return progressed;
  }

  /** Takes messages from the log and names the twins that have to be resident. Answers how many readings wait. */
  #collect(shard: HostedShard, share: number, missing: Map<HostedShard, Set<string>>): number {
    let ids: Set<string> | null = null;
    const { twins } = shard;
    const want = (twinId: string): void => {
      if (twins.has(twinId)) return;
      if (ids === null) {
        ids = missing.get(shard) ?? new Set();
        missing.set(shard, ids);
      }
      ids.add(twinId);
    };
    const wantAll = ({ readings }: LogMessage, from: number): void => {
      for (let i = from; i < readings.length; i++) {
        const { kind, id } = readings[i];
        if (twins.of(kind, id) === undefined) want(twinIdOf(kind, id));
      }
    };
    if (!shard.draining && shard.readable && shard.doubted === 0 && shard.inbox.length === 0) {
      const taken = shard.reader!.take(share);
      if (taken.length === 0) shard.readable = false;
      for (const message of taken) shard.inbox.push(message);
      if (taken.length > 0) shard.seenResident = -1;
    }
    // a twin may have left memory since its message was taken
    if (shard.seenResident !== twins.departures) {
      if (shard.current !== null) wantAll(shard.current.message, shard.current.index);
      for (const message of shard.inbox) wantAll(message, 0);
      if (ids === null) shard.seenResident = twins.departures;
    }
    for (const { twinId } of shard.commands) want(twinId);
    for (const { twinId } of shard.reads) want(twinId);
    for (const twinId of shard.wakes) want(twinId);
    if (shard.draining) return 0;
    let waiting = shard.current === null ? 0 : shard.current.message.readings.length - shard.current.index;
    for (const { readings } of shard.inbox) waiting += readings.length;
    return waiting;
  }

  /** Loads what is stored of the missing twins; answers which are stored nowhere. */
  async #activateAll(missing: ReadonlyMap<HostedShard, Set<string>>): Promise<Map<HostedShard, Set<string>>> {
    const unknown = new Map<HostedShard, Set<string>>();
    const { store, kinds, clock } = this.#host.options;
    // none may outlive this gathering: an answer that came later would bring back a twin as it was then
    const loads = await Promise.allSettled(
      [...missing].map(async ([shard, ids]) => {
        const stored = await store.loadTwins(shard.shard, [...ids]);
        if (stored.length < ids.size && shard.highestKey < 0) shard.highestKey = await store.highestTwin(shard.shard);
        if (shard.dead) return;
        const now = clock.monotonic();
        for (const twin of stored) {
          ids.delete(twin.twinId);
          if (shard.twins.has(twin.twinId)) continue;
          const { activation, carried } = activate(twin, kinds, this.#host.tunings, now);
          if (carried) this.#host.carried(twin.twinId);
          activation.summarised = activation.revision;
          shard.twins.set(twin.twinId, activation);
          if (activation.tail > 0) shard.dirty.add(activation);
          this.#host.counters.activations++;
          this.#host.wakes.schedule(activation);
          this.#host.asking.consider(shard, activation);
        }
        unknown.set(shard, ids);
      }),
    );
    for (const load of loads) if (load.status === 'rejected') throw load.reason;
    this.#host.staleness.storeAnswered();
    return unknown;
  }

  #foldShard(shard: HostedShard, budget: number, late: Deferred[], unknown: ReadonlySet<string> = NONE): number {
    const host = this.#host;
    const now = host.options.clock.monotonic();
    if (unknown.size > 0) this.#create(shard, unknown, now);
    for (const read of shard.reads.splice(0)) {
      const activation = shard.twins.get(read.twinId);
      if (activation) read.resolve(activation);
      else if (unknown.has(read.twinId))
        read.reject(new TwinmeshError('not_found', `There is no twin ${read.twinId}.`));
      else shard.reads.push(read);
    }
    if (shard.sealed) return 0;
    for (const twinId of shard.wakes) {
      const activation = shard.twins.get(twinId);
      if (activation) shard.ticks.push(activation);
      if (activation || unknown.has(twinId)) shard.wakes.delete(twinId);
    }
    const part = this.#building.parts.get(shard) ?? new Part(shard);
    // work that turns out to change nothing leaves no part behind
    const had = this.#building.parts.has(shard);
    this.#building.parts.set(shard, part);
    part.keepsAll = host.staleness.isStoreFailing;
    let judged = 0;
    if (shard.commands.length > 0) foldCommands(shard, part, unknown, this.#context);
    if (shard.ticks.length > 0) foldTicks(shard, part, this.#context);
    if (shard.answers.length > 0) foldAnswers(shard, part, this.#context, host.asking);
    if (!shard.draining) {
      if (shard.mode !== 'single') judged = foldMessages(shard, part, budget, late, this.#context);
      else if (this.#vouch(shard, part)) {
        judged = foldMessages(shard, part, 1, late, this.#context);
        if (judged > 0 && this.#named === shard) this.#named = null;
        shard.careful -= judged;
      }
    }
    if (!had && part.empty && part.waiters.length === 0) this.#building.parts.delete(shard);
    return judged;
  }

  #create(shard: HostedShard, unknown: ReadonlySet<string>, now: number): void {
    const wanted = new Set<string>();
    for (const message of shard.current ? [shard.current.message, ...shard.inbox] : shard.inbox) {
      for (const { kind, id } of message.readings) wanted.add(twinIdOf(kind, id));
    }
    for (const { twinId, options } of shard.commands) if (options.create) wanted.add(twinId);
    for (const twinId of unknown) {
      if (!wanted.has(twinId) || shard.twins.has(twinId)) continue;
      createActivation(shard, this.#host.options.kinds.get(twinId.slice(0, twinId.indexOf(':'))), twinId, now);
      this.#host.counters.activations++;
    }
  }

  /**
   * In single mode: names the next new reading in the store before it is folded, and how often it has been named, so that
   * the next owner knows which one killed this one. An owner may be lost for many a reason while a reading is named:
   * only one that was named by several in a row is condemned. Answers whether folding may go on in this cut.
   */
  #vouch(shard: HostedShard, part: Part): boolean {
    const message = shard.current?.message ?? shard.inbox[0];
    if (message === undefined) return false;
    const index = shard.current?.index ?? 0;
    const reading = message.readings[index];
    const activation = shard.twins.of(reading.kind, reading.id);
    if (activation === undefined || judgeReading(activation, reading) !== 'accepted') return true;
    const mark = suspicionOf(message.position, index, 0);
    if (shard.vouched === mark) return true;
    const times = timesNamed(this.#host.suspects.get(shard.shard) ?? 0, message.position, index);
    // named by this very process, which lives: whatever the shard was lost for, it was not this reading
    const survived = this.#namedHere.get(shard.shard) === mark;
    if (times >= SUSPICIONS && !survived) {
      this.#host.condemned.set(condemnedKey(message.id, index), 'The process died whenever this reading was folded.');
      return true;
    }
    shard.vouched = mark;
    this.#namedHere.set(shard.shard, mark);
    this.#named = shard;
    part.cursors.push({
      sink: SUSPECT,
      shard: shard.shard,
      seq: suspicionOf(message.position, index, survived ? times : times + 1),
    });
    return false;
  }

  /** Late readings of this gathering: history as of all commits before, then this cut's own rows. */
  async #decide(deferred: ReadonlyMap<HostedShard, Deferred[]>): Promise<void> {
    const { store, clock } = this.#host.options;
    await this.#course.inFlight;
    let retryMs = RETRY_MS;
    for (const [shard, late] of deferred) {
      while (!shard.dead && !this.#course.stopped) {
        try {
          const known = await decideLate(store, late);
          const part = this.#building.parts.get(shard);
          if (part && !shard.dead && !shard.poisoned) applyLate(part, late, known, this.#context);
          break;
        } catch (error) {
          this.#host.staleness.storeFailed(error);
          await sleep(clock, retryMs);
          retryMs = Math.min(MAX_RETRY_MS, retryMs * 2);
        }
      }
    }
  }
}

function isPressing(shard: HostedShard): boolean {
  return shard.commands.length > 0 || shard.reads.length > 0;
}

function byNeed(a: HostedShard, b: HostedShard): number {
  return Number(isPressing(b)) - Number(isPressing(a)) || a.served - b.served;
}
