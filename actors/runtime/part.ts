import type { MessageOutcome } from '../log/port.ts';
import type { Entry } from '../protocol/entry.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { TracedTurn } from '../protocol/trace.ts';
import type {
  Cursor,
  CutShard,
  JournalEntry,
  JournalReading,
  ShardDeadLetter,
  Snapshot,
  Summary,
} from '../store/port.ts';
import type { Activation } from './activation.ts';
import { giveBack, type Kept, keptOf } from './kept.ts';
import type { HostedShard } from './shard.ts';

/** Somebody who waits for a commit: a read that saw uncommitted changes, or a command. */
export interface Waiter {
  committed(): void;
  /** The part did not commit: try again on the owner as it then is. */
  lost(): void;
  /** The store does not take the part now, and nobody knows for how long: whoever cannot wait may leave. */
  stalled?(): void;
}

/** A copy costs more than the turn it is made before: with hundreds of shards a cut, a few of each are thousands. */
const KEPT_A_PART = 4;
const READ_LATELY_MS = 600_000;

/** What one cut writes for one shard. Commits whole or not at all. */
export class Part {
  readonly shard: HostedShard;
  readonly readings: JournalReading[] = [];
  readonly entries: JournalEntry[] = [];
  readonly events: TwinEvent[] = [];
  /** Of events that follow from the answer of a model: when the newest reading it was asked about was received. Not stored. */
  readonly heardAt = new Map<TwinEvent, number>();
  readonly snapshots: Snapshot[] = [];
  readonly summaries: Summary[] = [];
  readonly deadLetters: ShardDeadLetter[] = [];
  readonly cursors: Cursor[] = [];
  readonly outcomes: MessageOutcome[] = [];
  readonly touched = new Set<Activation>();
  readonly waiters: Waiter[] = [];
  /** Twins as they were before this part: for reads while the store does not take it. */
  readonly before = new Map<Activation, Kept>();
  /** The store does not take what was folded before: all twins are kept. */
  keepsAll = false;
  /** Messages in it whose way is traced. */
  traced: TracedTurn[] | null = null;
  /** Entries of twins that somebody watches. */
  readonly watched = new Map<string, Entry[]>();
  /** Readings whose outcome this part decides, duplicates included. */
  judged = 0;
  accepted = 0;
  duplicates = 0;
  backfilled = 0;
  conflicts = 0;
  clean = false;
  /** `message id:index` of the reading judged last. */
  lastKey: string | null = null;
  /** The last part of a shard that is being released. */
  final = false;

  constructor(shard: HostedShard) {
    this.shard = shard;
  }

  /** The twin is about to be changed for the first time. At full load only some are kept: those that somebody asks for, and a few. */
  keep(activation: Activation, now: number): void {
    if (!this.keepsAll && this.before.size >= KEPT_A_PART && now - activation.readAt > READ_LATELY_MS) return;
    if (activation.revision > 0) this.before.set(activation, keptOf(activation));
  }

  /** It has landed: what was before it is past. */
  forget(): void {
    for (const kept of this.before.values()) giveBack(kept);
    this.before.clear();
  }

  get size(): number {
    return this.judged + this.entries.length;
  }

  get empty(): boolean {
    return (
      this.judged === 0 &&
      this.outcomes.length === 0 &&
      this.entries.length === 0 &&
      this.snapshots.length === 0 &&
      this.summaries.length === 0 &&
      this.cursors.length === 0 &&
      this.deadLetters.length === 0 &&
      !this.final
    );
  }

  /** The fence and the new marks, as of now: called when the cut goes out. */
  fence(): CutShard {
    const s = this.shard;
    return {
      shard: s.shard,
      epoch: s.epoch,
      commitNo: s.commitNo,
      position: s.position,
      positionId: s.positionId,
      positionAt: s.positionAt,
      eventSeq: s.eventSeq,
      clean: this.clean,
    };
  }
}
