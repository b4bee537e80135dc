import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { Ledger } from '../../actors/store/memory-ledger.ts';
import { CommitAborted, type Cut, OutcomeUnknown, type ShardRow, type Store } from '../../actors/store/port.ts';
import type { Process } from './clock.ts';
import { Lost, type Network } from './network.ts';

/** What the store tells those who watch it: effects as they happened, whoever still waits for the answer. */
export interface StoreWatcher {
  beaten(node: string): void;
  claimed(rows: readonly ShardRow[], node: string): void;
  committed(cut: Cut, landed: ReadonlySet<number>, process: Process): void;
}

/** The database of a simulation: the reference ledger behind a network, with a say in which cuts it refuses. */
export class StoreServer {
  readonly ledger = new Ledger();
  /** Why a cut is aborted, or null: set by faults. */
  refusal: (cut: Cut) => string | null = () => null;
  /** Cuts that are aborted whatever happens: rows that no database would take. */
  unstorable: (cut: Cut) => string | null = () => null;
  /** It answers every request that it cannot. */
  down = false;
  readonly #watcher: StoreWatcher;

  constructor(kinds: readonly Kind[], shards: number, watcher: StoreWatcher) {
    this.ledger.open(kinds, shards);
    this.#watcher = watcher;
  }

  up<T>(serve: () => T): T {
    if (this.down) throw new TwinmeshError('store_down', 'the store is out of sorts');
    return serve();
  }

  commit(cut: Cut, process: Process): Set<number> {
    const why = this.unstorable(cut) ?? this.refusal(cut);
    if (why !== null) throw new CommitAborted(why);
    const landed = this.ledger.commit(cut);
    this.#watcher.committed(cut, landed, process);
    return landed;
  }

  beat(node: string, leaving: boolean): void {
    this.ledger.beat(node, leaving);
    this.#watcher.beaten(node);
  }

  claim(node: string, wanted: Parameters<Store['claim']>[1]): ShardRow[] {
    const rows = this.ledger.claim(node, wanted);
    this.#watcher.claimed(rows, node);
    return rows;
  }
}

/** How long a process waits for an answer of the store, ms. */
export const STORE_TIMEOUT_MS = 1_500;

/** One process's connections to the store. */
export function connectStore(server: StoreServer, network: Network, process: Process): Store {
  const { ledger } = server;
  const ask = async <T>(serve: () => T): Promise<T> => {
    try {
      return await network.request(process, 'store', () => server.up(serve), STORE_TIMEOUT_MS);
    } catch (error) {
      throw error instanceof Lost ? new TwinmeshError('store_down', error.message) : error;
    }
  };
  return {
    open: () => Promise.resolve(),
    close: () => Promise.resolve(),
    ping: () => ask(() => undefined),
    beat: (node, leaving = false) => ask(() => server.beat(node, leaving)),
    nodes: () => ask(() => ledger.nodes()),
    removeNode: (node) => ask(() => ledger.removeNode(node)),
    shards: () => ask(() => ledger.shards()),
    claim: (node, wanted) => ask(() => server.claim(node, wanted)),
    release: (node, shards) => {
      const copy = shards.map((shard) => ({ ...shard }));
      return ask(() => ledger.release(node, copy));
    },
    async commit(cut) {
      const copy = ledger.copyOf(cut);
      try {
        // copied once more at each arrival: a request that arrives twice must not share rows with itself
        const serve = (): Set<number> => server.up(() => server.commit(ledger.copyOf(copy), process));
        return await network.request(process, 'store', serve, STORE_TIMEOUT_MS);
      } catch (error) {
        if (!(error instanceof Lost)) throw error;
        throw error.sent ? new OutcomeUnknown(error.message) : new TwinmeshError('store_down', error.message);
      }
    },
    highestTwin: (shard) => ask(() => ledger.highestTwin(shard)),
    loadTwins: (shard, twinIds) => ask(() => ledger.loadTwins(shard, twinIds)),
    loadTail: (shard) => ask(() => ledger.loadTail(shard)),
    lookup: (kind, wanted) => ask(() => ledger.lookup(kind, wanted)),
    dueWakes: (shards, nowMs, limit, skip) => ask(() => ledger.dueWakes(shards, nowMs, limit, skip)),
    journal: (twin, after, limit) => ask(() => ledger.journal(twin, after, limit)),
    events: (shard, after, limit) => ask(() => ledger.events(shard, after, limit)),
    cursors: (sink, shards) => ask(() => ledger.cursors(sink, shards)),
  };
}
