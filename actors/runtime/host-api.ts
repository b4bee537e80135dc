import type { Ownership } from '../placement/directory.ts';
import type { Command, Entry, Tuning } from '../protocol/entry.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { TwinId } from '../protocol/twin-id.ts';
import type { Stale, TwinView } from '../protocol/view.ts';

/** What the rest of the system sees of the twin host of its node. Everything it answers is committed. */
export interface TwinHost {
  start(): Promise<void>;
  /** Gives up all shards in order, a few at a time (snapshots, final commit, release), and ends. */
  stop(): Promise<void>;
  /** Gives up all shards and claims none until `undrain`, but stays alive: reads answer not_owner. Resolves when the last is released, or when it is stopped or undrained meanwhile. `patienceMs`: how long a store that does not answer is waited for; default: for ever. */
  drain(patienceMs?: number): Promise<void>;
  /** Takes its share again, in the time that it takes. */
  undrain(): Promise<void>;
  /** Ownership may have changed: looks at once instead of in its next round. Costs two small reads; many together are one. */
  nudge(): void;
  /** Who owns what, by shard, as last read from the store. */
  ownership(): Ownership[];
  /** Living nodes that want shards, in order of name, as last read; without this one while it drains. */
  living(): string[];

  /** The twin as committed; waits for the commit of what it has folded already. Throws not_found, not_owner, unavailable, bad_id, unknown_kind. */
  get(twinId: TwinId): Promise<TwinView>;
  /** The last committed state, marked `stale`, where `get` refuses (not_owner, unavailable). Throws not_found, store_down. */
  last(twinId: TwinId): Promise<TwinView>;
  /**
   * Journals a command and answers after its commit. The same idempotency key again answers the first result.
   * `expectedRevision` (If-Match) throws precondition_failed. Creates the twin only for `desired` and `attributes` with `create: true`.
   * Throws not_found, not_owner, deadline_exceeded, conflict, retired, overloaded.
   */
  command(twinId: TwinId, command: Command, options?: CommandOptions): Promise<CommandResult>;
  /** Committed journal entries above a revision, in order. */
  journal(twinId: TwinId, afterRevision: number, limit: number): Promise<Entry[]>;
  /** Committed entries of one twin as they commit, in order; the return value ends it. */
  watch(twinId: TwinId, listener: (entries: Entry[]) => void): () => void;
  /**
   * Committed events of all twins of this node, in order within a shard. `heardAt`: of those that follow from the answer of a
   * model, when the newest reading it was asked about was received; `receivedAt` of the event is when the answer came.
   */
  onEvents(listener: TwinEventListener): () => void;
  /** Rules and lateness in force for a kind; each twin journals a change before its next fold. */
  setTuning(kind: string, tuning: Tuning): void;
  tuning(kind: string): Tuning;
  /** Asked on every read: since when the log takes nothing (ms), or null when it does. Twins show it as stale. */
  followIngest(pausedSince: () => number | null): void;
  status(): HostStatus;
  /** A sink gets every event at least once, in order of (shard, seq), and its cursor is part of the checkpoint. */
  addSink(sink: EventSink): void;
}

export type TwinEventListener = (events: TwinEvent[], heardAt: ReadonlyMap<TwinEvent, number>) => void;

export interface CommandOptions {
  deadlineMs?: number;
  expectedRevision?: number;
  create?: boolean;
}

export interface CommandResult {
  revision: number;
  view: TwinView;
  /** True when the idempotency key had been seen before. */
  repeated: boolean;
}

export interface EventSink {
  readonly name: string;
  /** Resolves when the receiver has them. A rejection is retried with backoff; telemetry does not wait. */
  deliver(events: readonly TwinEvent[]): Promise<void>;
}

export interface HostStatus {
  node: string;
  /** `drained`: it owns nothing and wants nothing, until it is undrained. */
  state: 'starting' | 'running' | 'draining' | 'drained' | 'stopped';
  /** `draining` and `easing` (about to drain) are among the owned; `recovering`: claimed, not served yet. */
  shards: { owned: number; total: number; easing: number; draining: number; recovering: number };
  twins: { resident: number };
  /** Why telemetry may not be moving; null when it does. */
  stale: Stale | null;
  counters: HostCounters;
  inference: InferenceStatus;
}

/** Predictions of this host, counted by twin and model since start: those asked for are answered, refused, dropped, failed, or under way. */
export interface InferenceCounters {
  asked: number;
  /** Journaled with a cut. */
  answered: number;
  /** The model's answer was none, or not one that can be used. */
  refused: number;
  /** The twin, its memory or its shard had gone before the answer came. */
  dropped: number;
  /** The call failed, or took too long; asked again later. */
  failed: number;
  /** Waited for predictionsPerSecond before they were asked. */
  throttled: number;
}

export interface InferenceStatus extends InferenceCounters {
  /** Questions that wait to be asked. */
  waiting: number;
  /** Since when one of the models, or all, do not answer, ISO 8601; null while all do. */
  failingSince: string | null;
  /** Which. */
  failing: string[];
}

/** Monotonic since start. */
export interface HostCounters {
  accepted: number;
  late: number;
  duplicates: number;
  conflicts: number;
  backfilled: number;
  poison: number;
  commits: number;
  fenced: number;
  aborted: number;
  unknownOutcomes: number;
  activations: number;
  passivations: number;
  ticks: number;
  commands: number;
  events: number;
}
