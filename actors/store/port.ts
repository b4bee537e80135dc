import type { Entry } from '../protocol/entry.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import type { Health } from '../protocol/view.ts';

/**
 * The store as the runtime needs it: membership, ownership, the fenced checkpoint, recovery, cursors.
 * Queries of people (lists, history, exports) go through `Sql` (sql.ts) instead.
 *
 * Invariants, checked by test/conformance/store.ts against every adapter:
 *  S1  A commit lands for exactly those shards whose (owner, epoch, commit_no) are as the cut says; their rows all
 *      land in one transaction, the others' rows not at all.
 *  S2  Every commit moves commit_no of each of its shards by one.
 *  S3  `claim` is a compare-and-set on (owner, epoch) and moves the epoch by one.
 *  S4  A commit that throws CommitAborted left nothing; one that throws OutcomeUnknown may or may not have landed.
 *  S5  Reads see only what has committed.
 *  S6  A summary and a cursor only ever move forward.
 */
export interface Store {
  /** Applies migrations, creates the tables of the kinds, fixes the shard count. Throws wrong_shard_count, newer_schema, store_down, data_dir. */
  open(kinds: readonly Kind[], shards: number): Promise<void>;
  close(): Promise<void>;
  /** Throws when the store cannot answer. */
  ping(): Promise<void>;

  // membership
  /** Counts the node's beat up. `leaving`: it lives, but wants no shards: it gives up what it has. */
  beat(node: string, leaving?: boolean): Promise<void>;
  /** Every node that was ever there. */
  nodes(): Promise<NodeRow[]>;
  removeNode(node: string): Promise<void>;

  // ownership
  shards(): Promise<ShardRow[]>;
  /** Takes the shards that still have this owner and epoch; answers the rows as they now are, the refused left out. */
  claim(node: string, wanted: readonly Claim[]): Promise<ShardRow[]>;
  /** Sets owner null where owner and epoch still match. */
  release(node: string, shards: readonly { shard: number; epoch: number }[]): Promise<void>;

  // checkpoint
  /** Answers the shards whose part has committed. Throws CommitAborted or OutcomeUnknown. */
  commit(cut: Cut): Promise<Set<number>>;

  // recovery
  /** Highest twin key of a shard, 0 if none: the next key follows it. */
  highestTwin(shard: number): Promise<number>;
  /** What is stored of twins by id; unknown ids are left out. `tail` holds entries above the snapshot, in order of revision. */
  loadTwins(shard: number, twinIds: readonly string[]): Promise<StoredTwin[]>;
  /** Twins of a shard with entries above their snapshot, with those entries. */
  loadTail(shard: number): Promise<StoredTwin[]>;
  /** History rows of the given (twin, at), set-based: for recognising duplicates older than the lateness window. */
  lookup(kind: string, wanted: readonly { twin: number; at: number }[]): Promise<HistoryRow[]>;
  /** Twins of these shards whose stored wakeAt is due, oldest first, the first `skip` left out. The wake stored of a resident twin is old: the host knows better. */
  dueWakes(
    shards: readonly number[],
    nowMs: number,
    limit: number,
    skip?: number,
  ): Promise<{ shard: number; twinId: string }[]>;
  /** Journal entries of one twin with `after < revision`, in order, for streams and time travel. */
  journal(twin: { twin: number; twinId: string }, afterRevision: number, limit: number): Promise<Entry[]>;

  // outbox
  events(shard: number, afterSeq: number, limit: number): Promise<TwinEvent[]>;
  cursors(sink: string, shards: readonly number[]): Promise<Map<number, number>>;
}

export interface NodeRow {
  node: string;
  /** Only ever grows. */
  beat: number;
  /** It wants no shards: it is leaving, as long as its beat moves, or has left. */
  leaving: boolean;
}

export interface ShardRow {
  shard: number;
  owner: string | null;
  epoch: number;
  commitNo: number;
  /** Position in the log of the last message folded, 0 before the first. */
  position: number;
  positionId: string | null;
  /** When that message was appended, ms. */
  positionAt: number | null;
  eventSeq: number;
  /** commit_no at which every entry was covered by a snapshot; equal to commitNo means: no tail. */
  snapshotFloor: number;
  attempts: number;
}

export interface Claim {
  shard: number;
  owner: string | null;
  epoch: number;
}

/** Everything that one checkpoint writes. Arrays keep the order in which things happened. */
export interface Cut {
  node: string;
  shards: CutShard[];
  readings: JournalReading[];
  entries: JournalEntry[];
  events: TwinEvent[];
  snapshots: Snapshot[];
  summaries: Summary[];
  deadLetters: ShardDeadLetter[];
  cursors: Cursor[];
}

export interface CutShard {
  shard: number;
  epoch: number;
  /** commit_no as last seen: the fence. */
  commitNo: number;
  position: number;
  positionId: string | null;
  positionAt: number | null;
  eventSeq: number;
  /** After this commit every entry of the shard is covered by a snapshot. */
  clean: boolean;
}

/** A row of `<kind>_readings`. `revision` null: backfill, stored but never folded. */
export interface JournalReading {
  shard: number;
  twin: number;
  kind: string;
  revision: number | null;
  at: number;
  receivedAt: number;
  key: string | null;
  seq: number | null;
  sensor: string | null;
  attributes: Record<string, string | number | boolean> | null;
  unit: string | null;
  values: Record<string, number>;
}

/** A row of `entries`: every entry that is not a reading. */
export interface JournalEntry {
  shard: number;
  twin: number;
  entry: Exclude<Entry, { type: 'reading' }>;
}

export interface Snapshot {
  shard: number;
  twin: number;
  twinId: string;
  revision: number;
  /** Version of the encoding of `state`. */
  shape: number;
  /** Version of the kind that folded it. */
  kindVersion: number;
  state: Uint8Array;
  /** No entry above this snapshot has an event time at or below it: bounds the scan of the tail. ms. */
  floorAt: number;
  /** When the twin wants a tick, ms of received time; null for never. */
  wakeAt: number | null;
  receivedAt: number;
}

/** What lists and search see of a twin; at most a second behind, further where a host is at its limit. */
export interface Summary {
  shard: number;
  twin: number;
  twinId: string;
  kind: string;
  revision: number;
  at: number | null;
  receivedAt: number;
  health: Health;
  online: boolean;
  retired: boolean;
  reported: Record<string, number>;
  attributes: Record<string, string | number | boolean>;
  /** Highest severity of a standing alert and how many there are. */
  alerts: number;
  /** The twin has its row already: it only has to be brought up to date. Absent where that is not known. */
  known?: boolean;
}

export interface ShardDeadLetter {
  shard: number;
  twinId: string;
  code: string;
  message: string;
  source: string;
  receivedAt: number;
  /** The payload as JSON text. */
  payload: string;
}

export interface Cursor {
  sink: string;
  shard: number;
  seq: number;
}

export interface StoredTwin {
  twin: number;
  twinId: string;
  shard: number;
  snapshot: Snapshot | null;
  tail: Entry[];
}

export interface HistoryRow {
  twin: number;
  at: number;
  key: string | null;
  seq: number | null;
  sensor: string | null;
  values: Record<string, number>;
}

/** The statement failed and nothing of it landed: the same cut may be tried again, or smaller. */
export class CommitAborted extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CommitAborted';
  }
}

/** The connection was lost in the commit: drop memory, claim again, read. */
export class OutcomeUnknown extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'OutcomeUnknown';
  }
}

/**
 * A twin gets a snapshot when so many entries lie above its last one, and a replaced snapshot stays, as long as the history it
 * opens, where so many entries lie between it and the one kept before. Replay to any moment folds a few times as many at most.
 */
export const SNAPSHOT_KEEP_EVERY = 2_500;

/** Twin keys: shard in the upper half, so that each owner hands them out alone and rows of a shard lie together. */
export const TWIN_KEYS_PER_SHARD = 2 ** 32;
