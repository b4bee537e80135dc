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
 */
const SNAPSHOTS_A_CUT = 2_000;
/** Of shards that are on their way out: where somebody waits for the cut, and where nobody does. */
const EASED_A_BUSY_CUT = 250;
const EASED_A_CUT = 1_000;
const CURSOR_EVERY_MS = 1_000;

export class Closing {
  readonly #host: Host;
  readonly #building: Building;
  #lastSummaries = Number.NEGATIVE_INFINITY;
  readonly #unsummarised = new Set<Activation>();
  readonly #cursors = new Map<string, { sink: string; shard: number; seq: number; since: number }>();
  #leaving: Activation[] = [];
  #rotation = 0;

  constructor(host: Host, building: Building) {
    this.#host = host;
    this.#building = building;
  }

  /** The twin has changed: its summary is owed. */
  changed(activation: Activation): void {
    this.#unsummarised.add(activation);
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
    if (this.#unsummarised.size > 0 && now - this.#lastSummaries >= this.#host.options.summaryEveryMs) return true;
    for (const { since } of this.#cursors.values()) if (now - since >= CURSOR_EVERY_MS) return true;
    return false;
  }

  /** Chooses the twins that leave memory: idle ones, and the longest untouched beyond the memory bound. */
  sweep(): void {
    const { clock, passivateAfterMs, maxResidentBytes } = this.#host.options;
    const now = clock.monotonic();
    const staying: Activation[] = [];
    let bytes = 0;
    for (const shard of this.#host.custody.shards.values()) {
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

  close(): void {
    const { clock, summaryEveryMs } = this.#host.options;
    const now = clock.monotonic();
    const exclusive = [...this.#building.parts.keys()].some((shard) => shard.mode !== 'normal');
    for (const part of this.#building.parts.values()) {
      // a new twin has its row from its first commit on
      for (const activation of part.touched) if (activation.summarised < 0) addSummary(part, activation);
    }
    if (!exclusive) {
      if (now - this.#lastSummaries >= summaryEveryMs) this.#summarise(now);
      this.#putAway();
      this.#boundTail();
    }
    for (const shard of this.#host.custody.shards.values())
      if (shard.draining && !shard.poisoned && !shard.sealed) this.#finish(shard);
    if (!exclusive) this.#ease();
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
    this.#lastSummaries = now;
    for (const activation of this.#unsummarised) {
      const shard = this.#building.shardOf(activation);
      if (shard && activation.summarised !== activation.revision) addSummary(this.#building.part(shard), activation);
    }
    this.#unsummarised.clear();
  }

  #putAway(): void {
    for (const activation of this.#leaving.splice(0, SNAPSHOTS_A_CUT)) {
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
      if (activation.summarised !== activation.revision) addSummary(part, activation);
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
  #ease(): void {
    let left = this.#building.size > 0 ? EASED_A_BUSY_CUT : EASED_A_CUT;
    for (const shard of this.#host.standing.drains.easing()) {
      if (left <= 0) break;
      const before = left;
      for (const activation of shard.dirty) {
        if (left-- <= 0) break;
        const part = this.#building.part(shard);
        addSnapshot(part, activation, this.#host.options.clock);
        if (activation.summarised !== activation.revision) addSummary(part, activation);
      }
      left = Math.max(0, left);
      this.#host.standing.drains.eased(shard, before - left);
    }
  }

  /** The final part of a shard that is given up: snapshots of all that has a tail. */
  #finish(shard: HostedShard): void {
    const part = this.#building.part(shard);
    for (const activation of [...shard.dirty]) addSnapshot(part, activation, this.#host.options.clock);
    for (const activation of shard.twins.values())
      if (activation.summarised !== activation.revision) addSummary(part, activation);
    part.final = true;
    shard.sealed = true;
  }
}
