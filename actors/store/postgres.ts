import type { Entry } from '../protocol/entry.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import type { Claim, Cut, HistoryRow, NodeRow, ShardRow, Store, StoredTwin } from './port.ts';
import { Checkpoint } from './postgres/commit.ts';
import { journal } from './postgres/journal.ts';
import { Loads } from './postgres/loads.ts';
import { lookup } from './postgres/lookup.ts';
import * as membership from './postgres/membership.ts';
import { migrate } from './postgres/migrate.ts';
import * as outbox from './postgres/outbox.ts';
import * as recover from './postgres/recover.ts';
import type { Sql } from './sql.ts';

/**
 * The store in plain SQL, the same on PGlite and on PostgreSQL; one verb a file in postgres/.
 * It does not own the `Sql` it speaks through: whoever opened that closes it.
 * Every method may throw SqlError (`store_down` when the database cannot be reached).
 */
export class PostgresStore implements Store {
  readonly #sql: Sql;
  readonly #checkpoint: Checkpoint;
  readonly #loads: Loads;
  #kinds: ReadonlyMap<string, Kind> = new Map();

  /** `commitAnswerMs`: how long the answer to a commit is waited for; left out, longer than for anything else with priority. */
  constructor(sql: Sql, options: { commitAnswerMs?: number } = {}) {
    this.#sql = sql;
    this.#checkpoint = new Checkpoint(sql, options.commitAnswerMs);
    this.#loads = new Loads(sql, () => this.#kinds);
  }

  async open(kinds: readonly Kind[], shards: number): Promise<void> {
    await migrate(this.#sql, kinds, shards);
    this.#kinds = new Map(kinds.map((kind) => [kind.kind, kind]));
  }

  async close(): Promise<void> {}

  async ping(): Promise<void> {
    await this.#sql.query('select 1', [], { priority: true });
  }

  beat(node: string, leaving = false): Promise<void> {
    return membership.beat(this.#sql, node, leaving);
  }

  nodes(): Promise<NodeRow[]> {
    return membership.nodes(this.#sql);
  }

  removeNode(node: string): Promise<void> {
    return membership.removeNode(this.#sql, node);
  }

  shards(): Promise<ShardRow[]> {
    return membership.shards(this.#sql);
  }

  claim(node: string, wanted: readonly Claim[]): Promise<ShardRow[]> {
    return membership.claim(this.#sql, node, wanted);
  }

  release(node: string, shards: readonly { shard: number; epoch: number }[]): Promise<void> {
    return membership.release(this.#sql, node, shards);
  }

  commit(cut: Cut): Promise<Set<number>> {
    return this.#checkpoint.commit(cut, this.#kinds);
  }

  highestTwin(shard: number): Promise<number> {
    return recover.highestTwin(this.#sql, shard);
  }

  loadTwins(shard: number, twinIds: readonly string[]): Promise<StoredTwin[]> {
    return this.#loads.load(shard, twinIds);
  }

  loadTail(shard: number): Promise<StoredTwin[]> {
    return recover.loadTail(this.#sql, this.#kinds, shard);
  }

  lookup(kind: string, wanted: readonly { twin: number; at: number }[]): Promise<HistoryRow[]> {
    return lookup(this.#sql, this.#kinds, kind, wanted);
  }

  dueWakes(
    shards: readonly number[],
    nowMs: number,
    limit: number,
    skip = 0,
  ): Promise<{ shard: number; twinId: string }[]> {
    return outbox.dueWakes(this.#sql, shards, nowMs, limit, skip);
  }

  journal(twin: { twin: number; twinId: string }, afterRevision: number, limit: number): Promise<Entry[]> {
    return journal(this.#sql, this.#kinds, twin, afterRevision, limit);
  }

  events(shard: number, afterSeq: number, limit: number): Promise<TwinEvent[]> {
    return outbox.events(this.#sql, shard, afterSeq, limit);
  }

  cursors(sink: string, shards: readonly number[]): Promise<Map<number, number>> {
    return outbox.cursors(this.#sql, sink, shards);
  }
}
