import type { Outcome, Reading } from '../protocol/reading.ts';

/**
 * The log between ingest and twin hosts: ordered batches per shard.
 *
 * Invariants, checked by test/conformance/log.ts:
 *  L1  Positions of a shard only grow, and a reader sees messages in that order.
 *  L2  `append` resolves when the batch is durable as the adapter states; a batch not resolved may or may not be there.
 *  L3  A message stays readable until `committed` has passed its position (and a reserve, where the adapter keeps one).
 *  L4  A full log makes `append` wait or reject with `overloaded`; it never drops a message.
 */
export interface Log {
  /** True where `append` resolves before the commit and survives the death of any process. */
  readonly durable: boolean;
  /** Moves whenever the connection was lost: what `at` and `seek` answered before says nothing of the log after. Absent where there is none to lose. */
  readonly connections?: number;
  /** Appends one batch of one shard. `wait: 'commit'` resolves after the twins have it, with the outcome of each reading. */
  append(batch: LogBatch, options?: { wait?: 'durable' | 'commit' }): Promise<Appended>;
  /**
   * Starts reading a shard after a position. One reader a shard: an older one is closed. `onReconnect`: the connection was
   * lost and is back, so the log may have gone back meanwhile; called before anything of the new connection can be taken,
   * and what was not taken before is read again.
   */
  read(shard: number, afterPosition: number, onReadable: () => void, onReconnect?: () => void): LogReader;
  /** The host has committed up to here; outcomes are those of the messages since the last call. */
  committed(shard: number, position: number, outcomes: readonly MessageOutcome[]): void;
  /** What stands at a position, to notice a log that went back: null when nothing does, 'untracked' where the adapter cannot go back. */
  at(shard: number, position: number): Promise<LogMark | null | 'untracked'>;
  /** The position before the first message appended at or after `sinceMs`: reading after it misses none of those. */
  seek(shard: number, sinceMs: number): Promise<number>;
  /**
   * The positions that all shards have committed, as the database has them, from one node about once a minute: what lies
   * below is not needed again and is thrown away, less the newest `reserveMessages` of the log. The message at each
   * position stays, so that it can be looked at. A position may be older than the newest, or of a log that went back
   * since: then nothing of its shard is touched. Absent where `committed` is enough.
   */
  trim?(positions: Iterable<LogPosition>, reserveMessages: number): Promise<unknown>;
  close(): Promise<void>;
}

/** Up to where a shard has been committed, and what stands there; null before the first message. */
export interface LogPosition {
  shard: number;
  position: number;
  positionId: string | null;
  positionAt: number | null;
}

export interface LogMark {
  id: string;
  appendedAt: number;
}

export interface LogBatch {
  shard: number;
  /** Unique id of the message. */
  id: string;
  /** When ingest received the readings, ms. */
  receivedAt: number;
  readings: Reading[];
  /** W3C traceparent of a sampled message in the batch; whoever folds the batch goes on in that trace. */
  trace?: string;
}

export interface LogMessage extends LogBatch {
  position: number;
  /** When it was appended, ms. */
  appendedAt: number;
}

export interface MessageOutcome {
  position: number;
  outcomes: Outcome[];
}

export interface Appended {
  position: number;
  /** In the order of the batch; only with `wait: 'commit'` and on logs that wait anyway. */
  outcomes?: Outcome[];
}

export interface LogReader {
  /** Messages that are ready, oldest first, up to about `maxReadings`; at least one message if any is ready. */
  take(maxReadings: number): LogMessage[];
  close(): void;
}
