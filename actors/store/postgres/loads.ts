import type { Kind } from '../../protocol/kind.ts';
import type { StoredTwin } from '../port.ts';
import type { Sql } from '../sql.ts';
import { loadTwinsOf } from './recover.ts';

/**
 * Loads of twins that are asked for in one go (a gathering asks shard by shard) are one round of statements for all of them:
 * twins of a shard that has just moved come in dozens of shards at a time, and the server would be busy with the
 * statements instead of the twins.
 */
interface Asked {
  shard: number;
  twinIds: readonly string[];
  resolve(twins: StoredTwin[]): void;
  reject(error: unknown): void;
}

/** Twins of one round: bounds what a statement answers. */
const MAX_TWINS = 2_000;

export class Loads {
  readonly #sql: Sql;
  readonly #kinds: () => ReadonlyMap<string, Kind>;
  #asked: Asked[] = [];

  constructor(sql: Sql, kinds: () => ReadonlyMap<string, Kind>) {
    this.#sql = sql;
    this.#kinds = kinds;
  }

  load(shard: number, twinIds: readonly string[]): Promise<StoredTwin[]> {
    if (twinIds.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      if (this.#asked.length === 0) queueMicrotask(() => this.#flush());
      this.#asked.push({ shard, twinIds: [...twinIds], resolve, reject });
    });
  }

  #flush(): void {
    let round: Asked[] = [];
    let twins = 0;
    for (const asked of this.#asked) {
      if (twins > 0 && twins + asked.twinIds.length > MAX_TWINS) {
        void this.#run(round);
        round = [];
        twins = 0;
      }
      round.push(asked);
      twins += asked.twinIds.length;
    }
    this.#asked = [];
    void this.#run(round);
  }

  async #run(round: readonly Asked[]): Promise<void> {
    try {
      const shards = [...new Set(round.map(({ shard }) => shard))];
      const found = await loadTwinsOf(
        this.#sql,
        this.#kinds(),
        shards,
        round.flatMap(({ twinIds }) => twinIds),
      );
      const askers = new Map<string, Asked>();
      for (const asked of round) for (const twinId of asked.twinIds) askers.set(`${asked.shard} ${twinId}`, asked);
      // In the order of their keys, as one load alone would answer.
      const answers = new Map<Asked, StoredTwin[]>(round.map((asked) => [asked, []]));
      for (const twin of found) {
        const asked = askers.get(`${twin.shard} ${twin.twinId}`);
        if (asked) answers.get(asked)?.push(twin);
      }
      for (const [asked, twins] of answers) asked.resolve(twins);
    } catch (error) {
      for (const { reject } of round) reject(error);
    }
  }
}
