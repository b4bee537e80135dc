import { SNAPSHOT_KEEP_EVERY } from '../store/port.ts';
import type { Activation } from './activation.ts';
import type { Building } from './building.ts';
import type { Host } from './host.ts';
import type { HostedShard } from './shard.ts';
import { addSnapshot, addSummary } from './snapshots.ts';

/**
 * What goes into a cut when it closes, beside what was folded: summaries, snapshots, cursors of sinks, final parts.
 *
 * Owns what is owed: twins that have changed since their summary, twins that are to leave memory, cursors that have moved.
 *
 * Invariants:
 *  1  Everything is taken as of the closing: it says what the cut says.
 *  2  Nothing is taken of a shard whose memory is worth nothing.
 *  3  A change is summarised at once, or as soon as `summaryEveryMs` have passed since the summary before. A cut takes only so
 *     many: where the host is at its limit history comes first, and summaries wait their turn.
 */
const SNAPSHOTS_A_CUT = 2_000;
/** Of shards that are on their way out: where somebody waits for the cut, and where nobody does. */
const EASED_A_BUSY_CUT = 250;
const EASED_A_CUT = 1_000;
const CURSOR_EVERY_MS = 1_000;
/** A cut takes so many summaries, or one for so many entries where that is more. */
const SUMMARIES_A_CUT = 500;
const ENTRIES_A_SUMMARY = 16;

export class Closing {
  readonly #host: Host;
  readonly #building: Building;
  /** New twins: their row comes with their first commit. */
  #fresh: Activation[] = [];
  /** Twins whose summary is due, and those that had one less than `summaryEveryMs` ago, in the order of their changes. */
  readonly #due = new Line();
  readonly #later = new Line();
  readonly #cursors = new Map<string, { sink: string; shard: number; seq: number; since: number }>();
  #leaving: Activation[] = [];
  /** Twins whose own tail is long: replay to a moment of theirs opens at their next snapshot. */
  #long: Activation[] = [];
  #rotation = 0;
  /** More is in memory than may be. */
  #crowded = false;

  constructor(host: Host, building: Building) {
    this.#host = host;
    this.#building = building;
  }

  /** The twin has changed: its summary is owed. */
  changed(activation: Activation): void {
    if (activation.summarised < 0) this.#fresh.push(activation);
    if (activation.tail >= SNAPSHOT_KEEP_EVERY) this.#long.push(activation);
    if (activation.owesSummary) return;
    activation.owesSummary = true;
    if (activation.touchedAt - activation.summarisedAt >= this.#host.options.summaryEveryMs) this.#due.push(activation);
    else this.#later.push(activation);
  }

  /** A sink has come further; written with the next cut of the shard, or within a second. */
  cursorMoved(sink: string, shard: number, seq: number): void {
    const key = `${sink}/${shard}`;
    const since = this.#cursors.get(key)?.since ?? this.#host.options.clock.monotonic();
    this.#cursors.set(key, { sink, shard, seq, since });
  }

  /** True when a cut is due though no new work may come: summaries, cursors, shards to give up, twins to put away. */
  due(): boolean {
    const now = this.#host.options.clock.monotonic();
    if (this.#leaving.length > 0 || this.#host.standing.drains.size > 0) return true;
    if (this.#owing(now) !== null) return true;
    for (const { since } of this.#cursors.values()) if (now - since >= CURSOR_EVERY_MS) return true;
    return false;
  }

  /** Chooses the twins that leave memory: idle ones, and the longest untouched beyond the memory bound. */
  sweep(): void {
    const { clock, passivateAfterMs, maxResidentBytes } = this.#host.options;
    const now = clock.monotonic();
    // chosen anew: who is still here is chosen again, who has spoken meanwhile stays, and who has left is not held on to
    this.#leaving = [];
    const staying: Activation[] = [];
    let bytes = 0;
    let oldest = now;
    for (const shard of this.#host.custody.shards.values()) {
      for (const activation of shard.twins.values()) {
        if (activation.leaving !== null) continue;
        // what is in a cut cannot leave yet, and memory holds it
        bytes += activation.bytes;
        if (activation.part !== null) continue;
        if (now - activation.touchedAt >= passivateAfterMs) {
          bytes -= activation.bytes;
          this.#leaving.push(activation);
        } else {
          if (activation.touchedAt < oldest) oldest = activation.touchedAt;
          staying.push(activation);
        }
      }
    }
    this.#crowded = bytes > maxResidentBytes;
    if (this.#crowded) longestUntouched(staying, bytes - maxResidentBytes * 0.9, oldest, now, this.#leaving);
  }

  close(): void {
    const now = this.#host.options.clock.monotonic();
    const exclusive = [...this.#building.parts.keys()].some((shard) => shard.mode !== 'normal');
    for (const activation of this.#fresh) {
      const { part } = activation;
      if (part !== null && this.#building.parts.get(part.shard) === part && activation.summarised < 0)
        addSummary(part, activation, now);
    }
    this.#fresh = [];
    if (!exclusive) {
      this.#summarise(now);
      this.#putAway(now);
      this.#shorten();
      this.#boundTail();
    }
    for (const shard of this.#host.custody.shards.values())
      if (shard.draining && !shard.poisoned && !shard.sealed) this.#finish(shard, now);
    if (!exclusive) this.#ease(now);
    for (const [key, cursor] of this.#cursors) {
      const shard = this.#host.custody.shards.get(cursor.shard);
      if (!shard) {
        this.#cursors.delete(key);
        continue;
      }
      if (shard.poisoned || (exclusive && !this.#building.parts.has(shard))) continue;
      if (this.#building.parts.has(shard) || now - cursor.since >= CURSOR_EVERY_MS) {
        this.#building.part(shard).cursors.push({ sink: cursor.sink, shard: cursor.shard, seq: cursor.seq });
        this.#cursors.delete(key);
      }
    }
    for (const part of this.#building.parts.values()) part.clean = part.shard.dirty.size === 0;
  }

  #summarise(now: number): void {
    let left = Math.max(SUMMARIES_A_CUT, Math.ceil(this.#building.size / ENTRIES_A_SUMMARY));
    for (let line = this.#owing(now); line !== null && left > 0; line = this.#owing(now)) {
      const activation = line.shift();
      activation.owesSummary = false;
      if (activation.summarised === activation.revision) continue;
      const shard = this.#building.shardOf(activation);
      if (shard === null) continue;
      addSummary(this.#building.part(shard), activation, now);
      left--;
    }
  }

  /** The line whose first twin is to be summarised now. */
  #owing(now: number): Line | null {
    if (this.#due.first !== null) return this.#due;
    const next = this.#later.first;
    return next !== null && now - next.summarisedAt >= this.#host.options.summaryEveryMs ? this.#later : null;
  }

  #putAway(now: number): void {
    // beyond the bound as many leave as come, or memory would grow for as long as new twins do
    const most = this.#crowded ? Math.max(SNAPSHOTS_A_CUT, this.#building.size / 2) : SNAPSHOTS_A_CUT;
    for (const activation of this.#leaving.splice(0, most)) {
      const shard = this.#building.shardOf(activation);
      if (!shard || activation.part !== null || activation.leaving !== null) continue;
      if (activation.tail === 0 && activation.summarised === activation.revision) {
        shard.twins.delete(activation.twinId);
        this.#host.counters.passivations++;
        continue;
      }
      const part = this.#building.part(shard);
      activation.leaving = part;
      addSnapshot(part, activation, this.#host.options.clock);
      if (activation.summarised !== activation.revision) addSummary(part, activation, now);
    }
  }

  #shorten(): void {
    for (const activation of this.#long.splice(0)) {
      if (activation.tail < SNAPSHOT_KEEP_EVERY) continue;
      const shard = this.#building.shardOf(activation);
      if (shard !== null) addSnapshot(this.#building.part(shard), activation, this.#host.options.clock);
    }
  }

  /** Snapshots of the oldest tails until the host's whole tail is within its bound. */
  #boundTail(): void {
    const { tailMaxEntries, clock } = this.#host.options;
    let tail = 0;
    const dirty: HostedShard[] = [];
    for (const shard of this.#host.custody.shards.values()) {
      if (shard.dirty.size === 0 || shard.poisoned) continue;
      dirty.push(shard);
      for (const activation of shard.dirty) tail += activation.tail;
    }
    for (let taken = 0; tail > tailMaxEntries && taken < SNAPSHOTS_A_CUT; taken++) {
      const shard = dirty[this.#rotation++ % dirty.length];
      const [oldest] = shard.dirty;
      if (oldest === undefined) continue;
      tail -= oldest.tail;
      addSnapshot(this.#building.part(shard), oldest, clock);
    }
  }

  /** Most of what the final parts would have to write, while the shards still serve. */
  #ease(now: number): void {
    let left = this.#building.size > 0 ? EASED_A_BUSY_CUT : EASED_A_CUT;
    for (const shard of this.#host.standing.drains.easing()) {
      if (left <= 0) break;
      const before = left;
      for (const activation of shard.dirty) {
        if (left-- <= 0) break;
        const part = this.#building.part(shard);
        addSnapshot(part, activation, this.#host.options.clock);
        if (activation.summarised !== activation.revision) addSummary(part, activation, now);
      }
      left = Math.max(0, left);
      this.#host.standing.drains.eased(shard, before - left);
    }
  }

  /** The final part of a shard that is given up: snapshots of all that has a tail. */
  #finish(shard: HostedShard, now: number): void {
    const part = this.#building.part(shard);
    for (const activation of [...shard.dirty]) addSnapshot(part, activation, this.#host.options.clock);
    for (const activation of shard.twins.values())
      if (activation.summarised !== activation.revision) addSummary(part, activation, now);
    part.final = true;
    shard.sealed = true;
  }
}

const AGES = 512;

/**
 * Adds those that were touched longest ago, about `bytes` of them, to `chosen`. By age class and not in strict order: hundreds
 * of thousands would have to be sorted every second.
 */
function longestUntouched(
  staying: readonly Activation[],
  bytes: number,
  oldest: number,
  now: number,
  chosen: Activation[],
): void {
  const width = Math.max(1e-6, (now - oldest) / AGES);
  const ageOf = ({ touchedAt }: Activation): number => Math.min(AGES - 1, Math.floor((touchedAt - oldest) / width));
  const held = new Float64Array(AGES);
  for (const activation of staying) held[ageOf(activation)] += activation.bytes;
  let limit = 0;
  for (let sum = 0; limit < AGES && sum + held[limit] <= bytes; limit++) sum += held[limit];
  let left = bytes;
  for (const activation of staying) if (ageOf(activation) < limit) left -= activation.bytes;
  for (const activation of staying) {
    const age = ageOf(activation);
    if (age > limit || (age === limit && left <= 0)) continue;
    if (age === limit) left -= activation.bytes;
    chosen.push(activation);
  }
}

/** First come, first served. */
class Line {
  #waiting: Activation[] = [];
  #next = 0;

  get first(): Activation | null {
    return this.#waiting[this.#next] ?? null;
  }

  push(activation: Activation): void {
    this.#waiting.push(activation);
  }

  shift(): Activation {
    const first = this.#waiting[this.#next++];
    if (this.#next === this.#waiting.length || this.#next > 4_096) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
    return first;
  }
}
