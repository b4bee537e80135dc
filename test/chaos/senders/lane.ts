import { setTimeout as sleep } from 'node:timers/promises';
import type { Asset, Ledger } from '../ledger.ts';
import { readingOf } from '../reading.ts';

/** A reading on its way. */
export interface Sent {
  asset: Asset;
  n: number;
}

/** Readings that a lane sends at once at least, and at most. */
const PORTION = { least: 60, most: 500 };
/** At higher rates it sends so much of a second at once. */
const PORTION_SECONDS = 0.4;

/** How fast a lane sends: readings a second. Each has its own, or the one that takes small portions starves the others. */
export class Pace {
  readonly perSecond: number;
  #given = 0;
  #since = performance.now();

  constructor(perSecond: number) {
    this.perSecond = perSecond;
  }

  /** Whether so many may go now. What was not used in the last quarter of a second is gone: no burst after an outage. */
  take(count: number): boolean {
    const now = performance.now();
    const due = ((now - this.#since) / 1000) * this.perSecond;
    const most = Math.max(count, this.perSecond / 4);
    if (due - this.#given > most) this.#given = due - most;
    if (this.#given + count > due) return false;
    this.#given += count;
    return true;
  }
}

/**
 * One sender with assets of its own: a client of one protocol that sends in its order, some twice, some out of order,
 * and whatever is not acknowledged again.
 */
export abstract class Lane {
  abstract readonly way: string;
  readonly assets: readonly Asset[];
  protected readonly ledger: Ledger;
  protected readonly random: () => number;
  protected readonly pace: Pace;
  #stopping = false;
  #turn = 0;

  constructor(ledger: Ledger, assets: readonly Asset[], pace: Pace, random: () => number) {
    this.ledger = ledger;
    this.assets = assets;
    this.pace = pace;
    this.random = random;
  }

  /** Sends until it is told to stop, and then until everything has been acknowledged. */
  abstract run(): Promise<void>;

  /** No new readings. */
  stop(): void {
    this.#stopping = true;
  }

  /** How many it sends at once. */
  protected get portion(): number {
    const due = Math.round(this.pace.perSecond * PORTION_SECONDS);
    return Math.min(Math.max(due, PORTION.least), PORTION.most, this.assets.length * 12);
  }

  /** Everything that it has made has been acknowledged. */
  protected get finished(): boolean {
    return this.#stopping && this.waiting === 0;
  }

  /** Made and not acknowledged. */
  get waiting(): number {
    return this.assets.reduce((sum, asset) => sum + asset.open, 0);
  }

  /** Up to `count` readings, those to be repeated first; some twice, neighbours now and then in the wrong order. */
  protected take(count: number): Sent[] {
    const out: Sent[] = [];
    for (const asset of this.assets) {
      while (out.length < count && asset.retry.length > 0) out.push({ asset, n: asset.retry.shift() as number });
    }
    if (!this.#stopping && out.length < count && this.pace.take(count - out.length)) {
      while (out.length < count) {
        const asset = this.assets[this.#turn++ % this.assets.length];
        out.push({ asset, n: this.ledger.fresh(asset) });
      }
    }
    this.ledger.sent += out.length;
    return this.#disturbed(out);
  }

  /** Not acknowledged: again. */
  protected again(sent: readonly Sent[]): void {
    for (const { asset, n } of sent) {
      if (asset.acknowledgedAt[n] === 0 && !asset.retry.includes(n)) asset.retry.push(n);
    }
  }

  protected acknowledged(sent: readonly Sent[]): void {
    for (const { asset, n } of sent) this.ledger.acknowledge(asset, n, this.way);
  }

  protected bodyOf({ asset, n }: Sent): Record<string, unknown> {
    const { at, seq, values } = readingOf(asset.index, n, this.ledger.baseMs);
    return { at: new Date(at).toISOString(), seq, values };
  }

  protected rest(): Promise<void> {
    return sleep(5 + 10 * this.random());
  }

  #disturbed(readings: Sent[]): Sent[] {
    const out: Sent[] = [];
    for (const reading of readings) {
      out.push(reading);
      if (this.random() < 0.05) {
        out.push(reading);
        this.ledger.sentTwice++;
      }
    }
    // Swapping neighbours of a batch: readings of one asset lie as far apart as the lane has assets.
    for (let i = 0; i + this.assets.length < out.length; i++) {
      if (this.random() >= 0.03) continue;
      const j = i + this.assets.length;
      [out[i], out[j]] = [out[j], out[i]];
      this.ledger.outOfOrder++;
    }
    return out;
  }
}
