import { createWriteStream, type WriteStream } from 'node:fs';
import { shardOf } from '../../actors/protocol/twin-id.ts';
import { isPoison } from './reading.ts';

/**
 * What the devices know: which readings they have made, and which were acknowledged, when. Every acknowledgement is
 * appended to a file as it comes: `ms asset n`.
 *
 *  1  It knows nothing of the server beside its answers.
 *  2  A reading is sent until it is acknowledged. `resendSince` takes acknowledgements back where whoever gave them has
 *     lost his memory in a way that he never promised to survive (an older copy of the log, a broker that was killed
 *     with messages in memory): a device with an outbox that reaches back sends them again.
 */
export class Asset {
  readonly id: string;
  readonly index: number;
  readonly shard: number;
  /** Readings 0 … next-1 have been made. */
  next = 0;
  /** Protocol of its sender. */
  way = '';
  /** Made and not acknowledged. */
  open = 0;
  /** To be sent again, oldest first. */
  readonly retry: number[] = [];
  /** When each was acknowledged first, ms of the wall clock; 0: not yet. */
  readonly acknowledgedAt: number[] = [];

  constructor(id: string, index: number, shard: number) {
    this.id = id;
    this.index = index;
    this.shard = shard;
  }

  get twinId(): string {
    return `counter:${this.id}`;
  }
}

export class Ledger {
  readonly assets: readonly Asset[];
  /** Event time of reading 0: far enough back that no reading is ever of the future. */
  readonly baseMs: number;
  /** Acknowledgements that stand. */
  acknowledged = 0;
  /** Acknowledgements by the way they came. */
  readonly byWay = new Map<string, number>();
  /** Answers by status or error; those after which the sender tries again. */
  readonly refusals = new Map<string, number>();
  sent = 0;
  sentTwice = 0;
  outOfOrder = 0;
  poisonSent = 0;
  takenBack = 0;
  /** What no server may answer to good readings. */
  readonly faults: string[] = [];
  readonly #file: WriteStream;

  /** As many assets as asked, and so many more that every shard has one. */
  constructor(assets: number, shards: number, file: string, baseMs: number) {
    const made: Asset[] = [];
    const without = new Set(Array.from({ length: shards }, (_, shard) => shard));
    for (let i = 0; made.length < assets || without.size > 0; i++) {
      const id = `a-${i}`;
      const shard = shardOf(`counter:${id}`, shards);
      if (made.length >= assets && !without.has(shard)) continue;
      without.delete(shard);
      made.push(new Asset(id, i, shard));
    }
    this.assets = made;
    this.baseMs = baseMs;
    this.#file = createWriteStream(file, { flags: 'a' });
  }

  acknowledge(asset: Asset, n: number, way: string): void {
    const now = Date.now();
    this.#file.write(`${now} ${asset.id} ${n}\n`);
    if (asset.acknowledgedAt[n] > 0) return;
    asset.acknowledgedAt[n] = now;
    asset.open--;
    this.acknowledged++;
    this.byWay.set(way, (this.byWay.get(way) ?? 0) + 1);
  }

  fresh(asset: Asset): number {
    const n = asset.next++;
    asset.acknowledgedAt[n] = 0;
    asset.open++;
    if (isPoison(asset.index, n)) this.poisonSent++;
    return n;
  }

  /** Acknowledgements since then do not count any more, for these assets; what they were for is sent again. */
  resendSince(ms: number, assets: readonly Asset[] = this.assets): number {
    let count = 0;
    for (const asset of assets) {
      const again: number[] = [];
      for (let n = 0; n < asset.next; n++) {
        if (asset.acknowledgedAt[n] === 0 || asset.acknowledgedAt[n] < ms) continue;
        asset.acknowledgedAt[n] = 0;
        again.push(n);
      }
      count += again.length;
      asset.open += again.length;
      this.byWay.set(asset.way, (this.byWay.get(asset.way) ?? 0) - again.length);
      asset.retry.push(...again);
    }
    this.acknowledged -= count;
    this.takenBack += count;
    return count;
  }

  /** What was acknowledged since then is sent once more, though its acknowledgement stands. */
  repeatSince(ms: number): number {
    let count = 0;
    for (const asset of this.assets) {
      for (let n = asset.next - 1; n >= 0 && n > asset.next - 50; n--) {
        if (asset.acknowledgedAt[n] < ms) continue;
        asset.retry.push(n);
        count++;
      }
    }
    this.sentTwice += count;
    return count;
  }

  refused(why: string): void {
    this.refusals.set(why, (this.refusals.get(why) ?? 0) + 1);
  }

  fault(text: string): void {
    if (this.faults.length < 50) this.faults.push(text.slice(0, 500));
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#file.end(resolve));
  }
}
