import type { Entry } from '../protocol/entry.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import { Ledger } from './memory-ledger.ts';
import type { Claim, Cut, HistoryRow, NodeRow, ShardRow, Store, StoredTwin } from './port.ts';

export interface MemoryStoreOptions {
  /**
   * Awaited before and after the effect of every operation, as `before:commit` and `after:commit`: a simulated network
   * delays there, and loses requests (throw before) or answers (throw after).
   */
  delay?: (op: string) => Promise<void>;
}

/**
 * The reference of the port: what S1 to S6 mean, in memory, without timers and clocks. Several nodes of a simulation
 * share one ledger through `MemoryStore.over(ledger, …)`, each with its own network.
 *
 *  1 What comes in is copied before the first await, what goes out is a copy: as if it had crossed a wire.
 *  2 An effect is one synchronous step of the ledger.
 */
export class MemoryStore implements Store {
  readonly ledger: Ledger;
  readonly #delay: ((op: string) => Promise<void>) | undefined;

  constructor(options: MemoryStoreOptions = {}, ledger: Ledger = new Ledger()) {
    this.ledger = ledger;
    this.#delay = options.delay;
  }

  /** Another connection to the same data. */
  static over(ledger: Ledger, options: MemoryStoreOptions = {}): MemoryStore {
    return new MemoryStore(options, ledger);
  }

  async open(kinds: readonly Kind[], shards: number): Promise<void> {
    if (!Number.isInteger(shards) || shards < 1 || shards > 4096) {
      throw new TwinmeshError('wrong_shard_count', `The shard count must be 1 to 4096, not ${shards}.`, {
        asked: shards,
      });
    }
    await this.#step('open', () => this.ledger.open(kinds, shards));
  }

  async close(): Promise<void> {}

  ping(): Promise<void> {
    return this.#step('ping', () => undefined);
  }

  beat(node: string, leaving = false): Promise<void> {
    return this.#step('beat', () => this.ledger.beat(node, leaving));
  }

  nodes(): Promise<NodeRow[]> {
    return this.#step('nodes', () => this.ledger.nodes());
  }

  removeNode(node: string): Promise<void> {
    return this.#step('removeNode', () => this.ledger.removeNode(node));
  }

  shards(): Promise<ShardRow[]> {
    return this.#step('shards', () => this.ledger.shards());
  }

  claim(node: string, wanted: readonly Claim[]): Promise<ShardRow[]> {
    const copy = wanted.map((claim) => ({ ...claim }));
    return this.#step('claim', () => this.ledger.claim(node, copy));
  }

  release(node: string, shards: readonly { shard: number; epoch: number }[]): Promise<void> {
    const copy = shards.map((shard) => ({ ...shard }));
    return this.#step('release', () => this.ledger.release(node, copy));
  }

  async commit(cut: Cut): Promise<Set<number>> {
    const copy = this.ledger.copyOf(cut);
    return await this.#step('commit', () => this.ledger.commit(copy));
  }

  highestTwin(shard: number): Promise<number> {
    return this.#step('highestTwin', () => this.ledger.highestTwin(shard));
  }

  loadTwins(shard: number, twinIds: readonly string[]): Promise<StoredTwin[]> {
    const copy = [...twinIds];
    return this.#step('loadTwins', () => this.ledger.loadTwins(shard, copy));
  }

  loadTail(shard: number): Promise<StoredTwin[]> {
    return this.#step('loadTail', () => this.ledger.loadTail(shard));
  }

  lookup(kind: string, wanted: readonly { twin: number; at: number }[]): Promise<HistoryRow[]> {
    const copy = wanted.map((row) => ({ ...row }));
    return this.#step('lookup', () => this.ledger.lookup(kind, copy));
  }

  dueWakes(
    shards: readonly number[],
    nowMs: number,
    limit: number,
    skip = 0,
  ): Promise<{ shard: number; twinId: string }[]> {
    const copy = [...shards];
    return this.#step('dueWakes', () => this.ledger.dueWakes(copy, nowMs, limit, skip));
  }

  journal(twin: { twin: number; twinId: string }, afterRevision: number, limit: number): Promise<Entry[]> {
    const copy = { ...twin };
    return this.#step('journal', () => this.ledger.journal(copy, afterRevision, limit));
  }

  events(shard: number, afterSeq: number, limit: number): Promise<TwinEvent[]> {
    return this.#step('events', () => this.ledger.events(shard, afterSeq, limit));
  }

  cursors(sink: string, shards: readonly number[]): Promise<Map<number, number>> {
    const copy = [...shards];
    return this.#step('cursors', () => this.ledger.cursors(sink, copy));
  }

  async #step<T>(op: string, effect: () => T): Promise<T> {
    if (this.#delay) await this.#delay(`before:${op}`);
    const result = effect();
    if (this.#delay) await this.#delay(`after:${op}`);
    return result;
  }
}
