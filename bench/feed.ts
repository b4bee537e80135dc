import type { Log } from '../actors/log/port.ts';
import type { Reading } from '../actors/protocol/reading.ts';
import { shardOf, twinIdOf } from '../actors/protocol/twin-id.ts';
import type { Pg } from '../actors/store/pg.ts';
import { pause } from './plant.ts';

/**
 * Readings of a fleet as ingest puts them into the log: one message a shard, of about a hundred readings. It remembers
 * where each message stands, so that the positions of the shards say how many readings are committed without counting rows.
 */
export interface FeedOptions {
  kind: 'machine' | 'mote';
  twins: number;
  shards: number;
  /** Readings a message. */
  perBatch: number;
}

/** Messages that are on their way to the log at a time. */
const IN_FLIGHT = 512;
const LOOK_MS = 50;

export interface Drained {
  /** Readings between the first look at which any were committed and the last commit, and the seconds between. */
  readings: number;
  seconds: number;
}

export class Feed {
  readonly options: FeedOptions;
  /** Readings published. */
  published = 0;
  readonly #twins: string[][];
  readonly #next: number[];
  readonly #batches: number[];
  /** By shard: position of each message, and readings up to and with it. */
  readonly #marks: [position: number, readings: number][][];
  #round = 0;

  constructor(options: FeedOptions) {
    this.options = options;
    const { shards, twins, kind } = options;
    this.#twins = Array.from({ length: shards }, () => []);
    for (let i = 0; i < twins; i++) {
      const id = kind === 'mote' ? String(i) : `M${i}`;
      this.#twins[shardOf(twinIdOf(kind, id), shards)].push(id);
    }
    this.#next = Array.from({ length: shards }, () => 0);
    this.#batches = Array.from({ length: shards }, () => 0);
    this.#marks = Array.from({ length: shards }, () => []);
  }

  /**
   * Publishes about `readings`, shard after shard, each twin in turn; the times of a twin end about now, a second apart.
   * `paced`: called before each message, may wait.
   */
  async publish(log: Log, readings: number, paced?: () => Promise<void> | undefined): Promise<void> {
    const { twins, shards, perBatch, kind } = this.options;
    const rounds = Math.ceil(readings / twins);
    const newest = Date.now();
    const target = this.published + readings;
    const open = new Set<Promise<void>>();
    const startsAt = [...this.#next];
    while (this.published < target) {
      const shard = this.#round++ % shards;
      const mine = this.#twins[shard];
      if (mine.length === 0) continue;
      // no message holds a part of a round that the fleet has not begun: all shards end together
      const left = Math.min(perBatch, startsAt[shard] + mine.length * rounds - this.#next[shard]);
      if (left <= 0) {
        if (startsAt.every((at, s) => this.#next[s] >= at + this.#twins[s].length * rounds)) break;
        continue;
      }
      const batch: Reading[] = [];
      for (let i = 0; i < left; i++) {
        const k = this.#next[shard]++;
        const t = Math.floor(k / mine.length);
        const round = t - Math.floor(startsAt[shard] / mine.length);
        batch.push(readingOf(kind, mine[k % mine.length], newest - (rounds - 1 - round) * 1000, t));
      }
      await paced?.();
      const id = `feed-${shard}-${this.#batches[shard]++}`;
      this.published += left;
      const done = log.append({ shard, id, receivedAt: Date.now(), readings: batch }).then(({ position }) => {
        this.#mark(shard, position, left);
        open.delete(done);
      });
      open.add(done);
      if (open.size >= IN_FLIGHT) await Promise.race(open);
    }
    await Promise.all(open);
  }

  /** Messages published. */
  get messages(): number {
    return this.#batches.reduce((sum, n) => sum + n, 0);
  }

  /** Readings committed by now, from the positions of the shards. */
  async committed(sql: Pg): Promise<number> {
    const rows = await sql.query<{ shard: number; position: number }>(
      'select shard::int, position::float8 as position from shards where position > 0',
    );
    let sum = 0;
    for (const { shard, position } of rows) {
      const marks = this.#marks[shard];
      let low = 0;
      let high = marks.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (marks[middle][0] <= position) low = middle + 1;
        else high = middle;
      }
      if (low > 0) sum += marks[low - 1][1];
    }
    return sum;
  }

  /** Waits until all that was published is committed; `from`: readings that were before. `publishing`: it may still grow. */
  async drained(sql: Pg, from: number, options: { withinMs: number; publishing?: () => boolean }): Promise<Drained> {
    const { withinMs, publishing } = options;
    const deadline = performance.now() + withinMs;
    let first: { at: number; count: number } | null = null;
    for (;;) {
      const count = await this.committed(sql);
      const at = performance.now();
      if (first === null && count > from) first = { at, count };
      if (first !== null && count >= this.published && !publishing?.())
        return { readings: count - first.count, seconds: (at - first.at) / 1000 };
      if (at > deadline)
        throw new Error(`${count} of ${this.published} readings were committed in ${withinMs / 1000} s`);
      await pause(LOOK_MS);
    }
  }

  #mark(shard: number, position: number, readings: number): void {
    const marks = this.#marks[shard];
    marks.push([position, (marks.at(-1)?.[1] ?? 0) + readings]);
  }
}

function readingOf(kind: FeedOptions['kind'], id: string, at: number, t: number): Reading {
  const values: Record<string, number> =
    kind === 'machine'
      ? {
          temperature: 65 + (t % 97) / 10,
          vibration: 1.2 + (t % 13) / 100,
          pressure: 45 + (t % 7) / 10,
          power: 250 - (t % 11),
        }
      : { temperature: 20 + (t % 53) / 10, humidity: 45 + (t % 31) / 10, light: 250 + (t % 3), voltage: 2.7 };
  return { kind, id, at, values };
}
