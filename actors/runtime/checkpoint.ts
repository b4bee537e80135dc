import { sleep } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import { twinIdOf } from '../protocol/twin-id.ts';
import { CommitAborted, type Cut, OutcomeUnknown } from '../store/port.ts';
import type { Activation } from './activation.ts';
import { addSnapshot, addSummary } from './closing.ts';
import {
  condemnedKey,
  createActivation,
  type Deferred,
  type FoldingContext,
  foldCommands,
  foldMessages,
  foldTicks,
  judgeReading,
  Poisoned,
} from './folding.ts';
import type { Host } from './host.ts';
import { applyLate, decideLate } from './late.ts';
import { Part } from './part.ts';
import { activate } from './recovery.ts';
import type { HostedShard } from './shard.ts';
import { SUSPECT, SUSPICIONS, suspicionOf, timesNamed } from './suspicion.ts';

/**
 * Makes and commits cuts: gathers work of all shards, folds it, and sends it as one statement; the next cut is folded
 * while this one commits.
 *
 * Owns the loop and the cut under construction. Does not own what shards there are (host.ts) or what a turn does (turn.ts).
 *
 * Invariants:
 *  1  One cut is on its way at a time, so `commit_no` as last seen is known when the next one goes out.
 *  2  A part that did not commit takes the memory of its shard with it, and what was folded on top of it.
 *  3  Snapshots, summaries and cursors are taken when the cut closes: they say what the cut says.
 *  4  Work of a shard in a careful mode travels alone.
 */
const SNAPSHOTS_A_CUT = 2_000;
const CURSOR_EVERY_MS = 1_000;
const RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;

export class Checkpoint {
  readonly #host: Host;
  readonly #context: FoldingContext;
  #building = new Map<HostedShard, Part>();
  #inFlight: Promise<void> | null = null;
  #wake: (() => void) | null = null;
  #signalled = false;
  #stopped = false;
  #loop: Promise<void> | null = null;
  #rotation = 0;
  #exclusiveTurn = false;
  /** Shard whose next reading has been named as suspect: nothing else is folded before that reading, or it would be blamed for it. */
  #named: HostedShard | null = null;
  #lastSummaries = Number.NEGATIVE_INFINITY;
  readonly #unsummarised = new Set<Activation>();
  readonly #cursors = new Map<string, { sink: string; shard: number; seq: number; since: number }>();
  #leaving: Activation[] = [];

  constructor(host: Host) {
    this.#host = host;
    const { clock, kinds } = host.options;
    this.#context = {
      clock,
      kinds,
      counters: host.counters,
      wakes: host.wakes,
      tunings: host.tunings,
      condemned: host.condemned,
      watched: host.watchers,
    };
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.signal();
    await this.#loop;
    await this.#inFlight;
  }

  signal(): void {
    this.#signalled = true;
    this.#wake?.();
  }

  /** A sink has come further; written with the next cut of the shard, or within a second. */
  cursorMoved(sink: string, shard: number, seq: number): void {
    const key = `${sink}/${shard}`;
    const since = this.#cursors.get(key)?.since ?? this.#host.options.clock.monotonic();
    this.#cursors.set(key, { sink, shard, seq, since });
  }

  /** The shard's memory is gone: so is what it has in the cut under construction. */
  discard(shard: HostedShard): void {
    const part = this.#building.get(shard);
    if (!part) return;
    this.#building.delete(shard);
    for (const waiter of part.waiters) waiter.lost();
  }

  /** True when a cut is due though no new work may come: summaries, cursors, shards to give up, twins to put away. */
  due(): boolean {
    const now = this.#host.options.clock.monotonic();
    if (this.#leaving.length > 0) return true;
    if (this.#unsummarised.size > 0 && now - this.#lastSummaries >= this.#host.options.summaryEveryMs) return true;
    for (const { since } of this.#cursors.values()) if (now - since >= CURSOR_EVERY_MS) return true;
    for (const shard of this.#host.shards.values()) if (shard.draining) return true;
    return false;
  }

  /** Chooses the twins that leave memory: idle ones, and the longest untouched beyond the memory bound. */
  sweep(): void {
    const { clock, passivateAfterMs, maxResidentBytes } = this.#host.options;
    const now = clock.monotonic();
    const staying: Activation[] = [];
    let bytes = 0;
    for (const shard of this.#host.shards.values()) {
      for (const activation of shard.twins.values()) {
        if (activation.part !== null || activation.leaving !== null) continue;
        if (now - activation.touchedAt >= passivateAfterMs) {
          this.#leaving.push(activation);
        } else {
          bytes += activation.bytes;
          staying.push(activation);
        }
      }
    }
    if (bytes <= maxResidentBytes) return;
    staying.sort((a, b) => a.touchedAt - b.touchedAt);
    for (const activation of staying) {
      if (bytes <= maxResidentBytes * 0.9) break;
      bytes -= activation.bytes;
      this.#leaving.push(activation);
    }
  }

  // ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────────

  async #run(): Promise<void> {
    const { clock, cutMaxEntries, logger } = this.#host.options;
    let retryMs = RETRY_MS;
    while (!this.#stopped) {
      this.#signalled = false;
      let progressed = false;
      try {
        progressed = await this.#gatherSome();
        retryMs = RETRY_MS;
      } catch (error) {
        if (error instanceof TwinmeshError && error.code !== 'store_down')
          logger.error({ error: error.message }, 'gathering failed');
        this.#host.storeFailed(error);
        await sleep(clock, retryMs);
        retryMs = Math.min(MAX_RETRY_MS, retryMs * 2);
        progressed = true;
      }
      // what was being gathered may lack its late readings: nothing of it goes out, the log has it still
      if (this.#stopped) break;
      if (this.#inFlight === null) {
        if (this.#send()) continue;
      } else if (this.#size() >= cutMaxEntries) {
        await this.#inFlight;
        continue;
      }
      if (!progressed && !this.#signalled && !this.#stopped) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      } else if (progressed) {
        // timers, sockets and the worker's answers get their turn between two gatherings
        await this.#host.options.breathe();
      }
    }
  }

  #size(): number {
    let size = 0;
    for (const part of this.#building.values()) size += part.size;
    return size;
  }

  async #gatherSome(): Promise<boolean> {
    const careful: HostedShard[] = [];
    const normal: HostedShard[] = [];
    for (const shard of this.#host.shards.values()) {
      if (shard.hasWork && !shard.poisoned) (shard.mode === 'normal' ? normal : careful).push(shard);
    }
    const { cutMaxEntries } = this.#host.options;
    if (this.#named !== null && (this.#named.dead || this.#named.poisoned || this.#named.draining)) this.#named = null;
    if (this.#named !== null) {
      if (this.#building.size > 0 || this.#inFlight !== null) return false;
      return this.#gather([this.#named], 1);
    }
    if (careful.length > 0 && (this.#exclusiveTurn || normal.length === 0)) {
      // travels alone: first what is under way
      if (this.#building.size > 0 || this.#inFlight !== null) return false;
      this.#exclusiveTurn = false;
      const shard = careful[this.#rotation++ % careful.length];
      return this.#gather([shard], shard.mode === 'single' ? 1 : cutMaxEntries);
    }
    this.#exclusiveTurn = true;
    const room = cutMaxEntries - this.#size();
    if (normal.length === 0 || room <= 0) return false;
    const start = this.#rotation++ % normal.length;
    return this.#gather([...normal.slice(start), ...normal.slice(0, start)], room);
  }

  async #gather(shards: readonly HostedShard[], budget: number): Promise<boolean> {
    const missing = new Map<HostedShard, Set<string>>();
    const share = Math.max(1, Math.ceil(budget / shards.length));
    for (const shard of shards) this.#collect(shard, share, missing);
    const unknown = missing.size > 0 ? await this.#activateAll(missing) : new Map<HostedShard, Set<string>>();
    const deferred = new Map<HostedShard, Deferred[]>();
    let progressed = false;
    let left = budget;
    for (const shard of shards) {
      if (shard.dead || shard.poisoned || left <= 0) continue;
      const late: Deferred[] = [];
      try {
        left -= this.#foldShard(shard, Math.min(share, left), late, unknown.get(shard));
        progressed = true;
      } catch (error) {
        if (!(error instanceof Poisoned)) throw error;
        this.#poisoned(shard, error);
        continue;
      }
      if (late.length > 0) deferred.set(shard, late);
    }
    if (deferred.size > 0) await this.#decide(deferred);
    return progressed;
  }

  /** Takes messages from the log and names the twins that have to be resident. */
  #collect(shard: HostedShard, share: number, missing: Map<HostedShard, Set<string>>): void {
    let ids: Set<string> | null = null;
    const want = (twinId: string): void => {
      if (shard.twins.has(twinId)) return;
      if (ids === null) {
        ids = missing.get(shard) ?? new Set();
        missing.set(shard, ids);
      }
      ids.add(twinId);
    };
    if (!shard.draining && shard.readable && shard.doubted === 0 && shard.inbox.length === 0) {
      const taken = shard.reader!.take(share);
      if (taken.length === 0) shard.readable = false;
      for (const message of taken) {
        shard.inbox.push(message);
        for (const reading of message.readings) want(twinIdOf(reading.kind, reading.id));
      }
    }
    // a twin may have left memory since its message was taken
    const waiting = shard.current ?? (shard.inbox.length > 0 ? { message: shard.inbox[0], index: 0 } : null);
    if (waiting !== null) {
      const { readings } = waiting.message;
      for (let i = waiting.index; i < readings.length; i++) want(twinIdOf(readings[i].kind, readings[i].id));
    }
    for (const { twinId } of shard.commands) want(twinId);
    for (const { twinId } of shard.reads) want(twinId);
    for (const twinId of shard.wakes) want(twinId);
  }

  /** Loads what is stored of the missing twins; answers which are stored nowhere. */
  async #activateAll(missing: ReadonlyMap<HostedShard, Set<string>>): Promise<Map<HostedShard, Set<string>>> {
    const unknown = new Map<HostedShard, Set<string>>();
    const { store, kinds, clock } = this.#host.options;
    await Promise.all(
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
        }
        unknown.set(shard, ids);
      }),
    );
    this.#host.storeAnswered();
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
    for (const twinId of shard.wakes) {
      const activation = shard.twins.get(twinId);
      if (activation) shard.ticks.push(activation);
      if (activation || unknown.has(twinId)) shard.wakes.delete(twinId);
    }
    const part = this.#building.get(shard) ?? new Part(shard);
    // work that turns out to change nothing leaves no part behind
    const had = this.#building.has(shard);
    this.#building.set(shard, part);
    let judged = 0;
    if (shard.commands.length > 0) foldCommands(shard, part, unknown, this.#context);
    if (shard.ticks.length > 0) foldTicks(shard, part, this.#context);
    if (!shard.draining) {
      if (shard.mode !== 'single') judged = foldMessages(shard, part, budget, late, this.#context);
      else if (this.#vouch(shard, part)) {
        judged = foldMessages(shard, part, 1, late, this.#context);
        if (judged > 0 && this.#named === shard) this.#named = null;
        shard.careful -= judged;
        // what killed or aborted was read before: once nothing is left of that, there is nothing to be careful about
        const drained = shard.inbox.length === 0 && shard.current === null && !shard.readable;
        if (shard.careful <= 0 || drained) shard.mode = 'normal';
      }
    }
    for (const activation of part.touched) this.#unsummarised.add(activation);
    if (!had && part.empty && part.waiters.length === 0) this.#building.delete(shard);
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
    const activation = shard.twins.get(twinIdOf(reading.kind, reading.id));
    if (activation === undefined || judgeReading(activation, reading) !== 'accepted') return true;
    const mark = suspicionOf(message.position, index, 0);
    if (shard.vouched === mark) return true;
    const named = timesNamed(this.#host.suspects.get(shard.shard) ?? 0, message.position, index);
    if (named >= SUSPICIONS) {
      this.#host.condemned.set(condemnedKey(message.id, index), 'The process died whenever this reading was folded.');
      return true;
    }
    shard.vouched = mark;
    this.#named = shard;
    part.cursors.push({ sink: SUSPECT, shard: shard.shard, seq: suspicionOf(message.position, index, named + 1) });
    return false;
  }

  /** Late readings of this gathering: history as of all commits before, then this cut's own rows. */
  async #decide(deferred: ReadonlyMap<HostedShard, Deferred[]>): Promise<void> {
    const { store, clock } = this.#host.options;
    await this.#inFlight;
    let retryMs = RETRY_MS;
    for (const [shard, late] of deferred) {
      while (!shard.dead && !this.#stopped) {
        try {
          const known = await decideLate(store, late);
          const part = this.#building.get(shard);
          if (part && !shard.dead && !shard.poisoned) applyLate(part, late, known, this.#context);
          break;
        } catch (error) {
          this.#host.storeFailed(error);
          await sleep(clock, retryMs);
          retryMs = Math.min(MAX_RETRY_MS, retryMs * 2);
        }
      }
    }
  }

  #poisoned(shard: HostedShard, error: Poisoned): void {
    this.#host.poisoned(error.twinId, error.message);
    if (error.key !== null) this.#host.condemned.set(error.key, `Folding this reading failed: ${error.message}`);
    this.abandon(shard, `a turn of ${error.twinId} threw: ${error.message}`);
  }

  /** What the shard has in memory is worth nothing: it is claimed anew, from what is stored. */
  abandon(shard: HostedShard, why: string): void {
    if (shard.dead || shard.poisoned) return;
    // the commit under way holds good work of this shard: only then can it be read back
    const reclaim = (): void => this.#host.reclaim(shard, why);
    shard.poisoned = true;
    this.discard(shard);
    if (this.#inFlight) void this.#inFlight.then(reclaim);
    else reclaim();
  }

  // ── closing and sending ───────────────────────────────────────────────────────────────────────────────────────────

  #part(shard: HostedShard): Part {
    let part = this.#building.get(shard);
    if (!part) {
      part = new Part(shard);
      this.#building.set(shard, part);
    }
    return part;
  }

  /** The shard of an activation, or null when what it holds is worth nothing. */
  #shardOf(activation: Activation): HostedShard | null {
    const shard = this.#host.ownerOf(activation);
    return shard === null || shard.poisoned ? null : shard;
  }

  /** Closes the cut under construction and sends it. False when there is nothing to send. */
  #send(): boolean {
    this.#close();
    for (const [shard, part] of this.#building) if (part.empty) this.#dismiss(shard, part);
    if (this.#building.size === 0) return false;
    const parts = [...this.#building.values()].sort((a, b) => a.shard.shard - b.shard.shard);
    this.#building = new Map();
    for (const part of parts) part.shard.inFlight = part;
    this.#inFlight = this.#commit(parts).finally(() => {
      this.#inFlight = null;
      for (const part of parts) part.shard.inFlight = null;
      this.signal();
    });
    return true;
  }

  /** A part with nothing to write: whoever waited for it waited for what has committed already. */
  #dismiss(shard: HostedShard, part: Part): void {
    this.#building.delete(shard);
    for (const waiter of part.waiters) waiter.committed();
  }

  #close(): void {
    const { clock, summaryEveryMs } = this.#host.options;
    const now = clock.monotonic();
    const exclusive = [...this.#building.keys()].some((shard) => shard.mode !== 'normal');
    for (const part of this.#building.values()) {
      // a new twin has its row from its first commit on
      for (const activation of part.touched) if (activation.summarised < 0) addSummary(part, activation);
    }
    if (!exclusive) {
      if (now - this.#lastSummaries >= summaryEveryMs) this.#summarise(now);
      this.#putAway();
      this.#boundTail();
    }
    for (const shard of this.#host.shards.values()) if (shard.draining && !shard.poisoned) this.#finish(shard);
    for (const [key, cursor] of this.#cursors) {
      const shard = this.#host.shards.get(cursor.shard);
      if (!shard) {
        this.#cursors.delete(key);
        continue;
      }
      if (shard.poisoned || (exclusive && !this.#building.has(shard))) continue;
      if (this.#building.has(shard) || now - cursor.since >= CURSOR_EVERY_MS) {
        this.#part(shard).cursors.push({ sink: cursor.sink, shard: cursor.shard, seq: cursor.seq });
        this.#cursors.delete(key);
      }
    }
    for (const part of this.#building.values()) part.clean = part.shard.dirty.size === 0;
  }

  #summarise(now: number): void {
    this.#lastSummaries = now;
    for (const activation of this.#unsummarised) {
      const shard = this.#shardOf(activation);
      if (shard && activation.summarised !== activation.revision) addSummary(this.#part(shard), activation);
    }
    this.#unsummarised.clear();
  }

  #putAway(): void {
    for (const activation of this.#leaving.splice(0, SNAPSHOTS_A_CUT)) {
      const shard = this.#shardOf(activation);
      if (!shard || activation.part !== null || activation.leaving !== null) continue;
      if (activation.tail === 0 && activation.summarised === activation.revision) {
        shard.twins.delete(activation.twinId);
        this.#host.counters.passivations++;
        continue;
      }
      const part = this.#part(shard);
      activation.leaving = part;
      addSnapshot(part, activation, this.#host.options.clock);
      if (activation.summarised !== activation.revision) addSummary(part, activation);
    }
  }

  /** Snapshots of the oldest tails until the host's whole tail is within its bound. */
  #boundTail(): void {
    const { tailMaxEntries, clock } = this.#host.options;
    let tail = 0;
    const dirty: HostedShard[] = [];
    for (const shard of this.#host.shards.values()) {
      if (shard.dirty.size === 0 || shard.poisoned) continue;
      dirty.push(shard);
      for (const activation of shard.dirty) tail += activation.tail;
    }
    for (let taken = 0; tail > tailMaxEntries && taken < SNAPSHOTS_A_CUT; taken++) {
      const shard = dirty[this.#rotation++ % dirty.length];
      const [oldest] = shard.dirty;
      if (oldest === undefined) continue;
      tail -= oldest.tail;
      addSnapshot(this.#part(shard), oldest, clock);
    }
  }

  /** The final part of a shard that is given up: snapshots of all that has a tail. */
  #finish(shard: HostedShard): void {
    const part = this.#part(shard);
    for (const activation of [...shard.dirty]) addSnapshot(part, activation, this.#host.options.clock);
    for (const activation of shard.twins.values())
      if (activation.summarised !== activation.revision) addSummary(part, activation);
    part.final = true;
  }

  async #commit(parts: Part[]): Promise<void> {
    const host = this.#host;
    const { store, clock, onCut } = host.options;
    const cut = cutOf(host.options.node, parts);
    const startedAt = clock.monotonic();
    let committed: Set<number>;
    for (let retryMs = RETRY_MS; ; retryMs = Math.min(MAX_RETRY_MS, retryMs * 2)) {
      try {
        committed = await store.commit(cut);
        host.cannotWrite = false;
        host.storeAnswered();
        break;
      } catch (error) {
        host.cannotWrite = false;
        if (error instanceof OutcomeUnknown) {
          host.counters.unknownOutcomes++;
          for (const part of parts) {
            host.remember(part);
            this.#lose(part, () => host.reclaim(part.shard, `the outcome of a commit is unknown: ${error.message}`));
          }
          return;
        }
        if (error instanceof CommitAborted || !(error instanceof TwinmeshError)) {
          host.counters.aborted++;
          this.#aborted(parts, messageOf(error));
          return;
        }
        // nothing has landed: the same cut again when the store is back
        host.cannotWrite = true;
        host.storeFailed(error);
        if (this.#stopped) {
          for (const part of parts) for (const waiter of part.waiters) waiter.lost();
          return;
        }
        await sleep(clock, retryMs);
      }
    }
    let readings = 0;
    for (const part of parts) {
      if (committed.has(part.shard.shard)) {
        readings += part.readings.length;
        host.landed(part);
        if (part.final && !part.shard.dead) host.release(part.shard);
      } else {
        host.counters.fenced++;
        this.#lose(part, () => host.drop(part.shard.shard, 'fenced: another node owns it now'));
      }
    }
    host.counters.commits++;
    onCut?.({ readings, shards: parts.length, durationMs: clock.monotonic() - startedAt });
  }

  #lose(part: Part, drop: () => void): void {
    if (!part.shard.dead) drop();
    for (const waiter of part.waiters) waiter.lost();
  }

  /** Smaller and smaller until one reading is left, which is condemned. */
  #aborted(parts: readonly Part[], why: string): void {
    for (const part of parts) {
      const { shard } = part;
      const single = shard.mode === 'single' && parts.length === 1;
      if (single && part.lastKey !== null)
        this.#host.condemned.set(part.lastKey, `Storing this reading failed: ${why}`);
      const mode = parts.length > 1 ? 'alone' : 'single';
      this.#lose(part, () => this.#host.reclaim(shard, `the commit was aborted: ${why}`, mode));
    }
  }
}

const NONE: ReadonlySet<string> = new Set();

function cutOf(node: string, parts: readonly Part[]): Cut {
  const cut: Cut = {
    node,
    shards: [],
    readings: [],
    entries: [],
    events: [],
    snapshots: [],
    summaries: [],
    deadLetters: [],
    cursors: [],
  };
  for (const part of parts) {
    cut.shards.push(part.fence());
    for (const row of part.readings) cut.readings.push(row);
    for (const row of part.entries) cut.entries.push(row);
    for (const row of part.events) cut.events.push(row);
    for (const row of part.snapshots) cut.snapshots.push(row);
    for (const row of part.summaries) cut.summaries.push(row);
    for (const row of part.deadLetters) cut.deadLetters.push(row);
    for (const row of part.cursors) cut.cursors.push(row);
  }
  return cut;
}
