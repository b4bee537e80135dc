import { H } from './layout.ts';
import type { Part } from './part.ts';
import { residentBytes, type TwinState } from './state.ts';
import type { IngestCounts } from './view.ts';

/** A twin in memory: its state and what the host has to know about it. Lives from activation to passivation. */
export class Activation {
  /** Key of the twin in the store. */
  readonly key: number;
  readonly state: TwinState;
  readonly counts: IngestCounts;
  /** Newest part that holds changes of this twin and has not committed; null: what is in memory is committed. */
  part: Part | null = null;
  /** Entries folded since its newest snapshot. */
  tail = 0;
  /** Revision of the newest stored summary, −1 before the first. */
  summarised = -1;
  /** Monotonic time of that summary. */
  summarisedAt = Number.NEGATIVE_INFINITY;
  /** Waits for its next summary. */
  owesSummary = false;
  /** Monotonic time of the last fold or read, for passivation. */
  touchedAt: number;
  /** Monotonic time of the last read. */
  readAt = Number.NEGATIVE_INFINITY;
  /** When the wake heap will look at it next; 0: not at all. */
  scheduledWake = 0;
  /** Bit per prediction that is being asked for, waits to be, or waits for its turn in a cut (asking.ts). */
  asking = 0;
  /** By the index of a prediction: since when its model has no answer for this twin, wall time; null: every model has. */
  refused: Map<number, number> | null = null;
  /** Leaves memory once the part that holds its snapshot has committed. */
  leaving: Part | null = null;

  constructor(key: number, state: TwinState, counts: IngestCounts, touchedAt: number) {
    this.key = key;
    this.state = state;
    this.counts = counts;
    this.touchedAt = touchedAt;
  }

  get twinId(): string {
    return this.state.twinId;
  }

  get revision(): number {
    return this.state.n[H.REVISION];
  }

  get bytes(): number {
    return residentBytes(this.state) + 200;
  }
}
