import { sleep } from '../protocol/clock.ts';
import type { ShardRow } from '../store/port.ts';
import type { Host } from './host.ts';
import type { HostedShard } from './shard.ts';

/**
 * After our beat stood still somebody may have claimed what we hold, or be about to. A claim under the next epoch settles
 * it for all shards in one statement, between two cuts: where it finds the epoch and the commit_no of our memory, nobody has had
 * the shard in between, and the memory stays. Throwing it away would have every twin read back from a store that was late
 * because it had too much to do.
 *
 * Invariants:
 *  1  From the doubt until the claim is answered nothing of the shard is read or sent.
 *  2  A shard that the claim did not get is dropped; one that got it at another commit_no is read anew.
 */
export interface Renewing {
  readonly busy: Set<number>;
  drop(shard: number, why: string): void;
  reclaim(shard: HostedShard, why: string): void;
}

const RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;

export class Renewal {
  readonly #host: Host;
  readonly #custody: Renewing;
  readonly #why: string;
  readonly #waiting = new Set<HostedShard>();

  constructor(host: Host, custody: Renewing, why: string) {
    this.#host = host;
    this.#custody = custody;
    this.#why = why;
  }

  /** All that are named in one round go together. */
  of(shard: HostedShard): void {
    shard.renewing = true;
    this.#custody.busy.add(shard.shard);
    this.#waiting.add(shard);
    if (this.#waiting.size === 1) queueMicrotask(() => void this.#host.checkpoint.between(() => this.#claim()));
  }

  async #claim(): Promise<void> {
    const { checkpoint, options, staleness } = this.#host;
    const { store, node, clock, logger } = options;
    const shards = [...this.#waiting].filter((shard) => !shard.dead);
    this.#waiting.clear();
    const claims = shards.map(({ shard, epoch }) => ({ shard, owner: node, epoch }));
    let rows: ShardRow[] | null = null;
    // a node that stops waits for the cut on its way, and so for this: not for a store that is gone
    for (let pauseMs = RETRY_MS; rows === null && !checkpoint.stopped; ) {
      try {
        rows = await store.claim(node, claims);
      } catch (error) {
        staleness.storeFailed(error);
        await sleep(clock, pauseMs);
        pauseMs = Math.min(MAX_RETRY_MS, pauseMs * 2);
      }
    }
    const claimed = new Map(rows?.map((row) => [row.shard, row]));
    let kept = 0;
    for (const shard of shards) if (this.#settle(shard, claimed.get(shard.shard))) kept++;
    if (kept > 0)
      logger.warn({ shards: kept, why: this.#why }, 'shards are claimed anew; what is in memory still holds');
    this.#host.signal();
  }

  /** Whether the shard goes on with its memory. */
  #settle(shard: HostedShard, row: ShardRow | undefined): boolean {
    // thrown away meanwhile: whoever did that has it in hand
    if (!shard.renewing) return false;
    shard.renewing = false;
    this.#custody.busy.delete(shard.shard);
    if (row === undefined) {
      this.#custody.drop(shard.shard, this.#why);
      return false;
    }
    shard.epoch = row.epoch;
    // on its way to be claimed anew already
    if (shard.poisoned) return false;
    if (row.commitNo !== shard.commitNo) {
      this.#custody.reclaim(shard, this.#why);
      return false;
    }
    this.#host.standing.owned(shard.shard, shard.epoch);
    return true;
  }
}
