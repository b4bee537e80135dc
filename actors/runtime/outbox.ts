import { type Clock, sleep } from '../protocol/clock.ts';
import type { TwinEvent } from '../protocol/event.ts';
import { NO_TRACER, type TracedTurn, type Tracer } from '../protocol/trace.ts';
import type { Store } from '../store/port.ts';
import type { EventSink } from './host-api.ts';
import { TracedEvents } from './traced.ts';

/**
 * Brings the committed events of owned shards to one sink, each at least once and in order of seq within a shard.
 *
 * Owns how far the sink has come; the host writes that into the checkpoint, under the fence.
 *
 * Invariants:
 *  1  Only committed events of shards that are ours leave; `mayPublish` is asked before every delivery.
 *  2  The cursor of a shard moves only after `deliver` has resolved.
 *  3  Memory is bounded: beyond `bufferEvents` a shard is read back from the store.
 */
export interface OutboxOptions {
  sink: EventSink;
  store: Pick<Store, 'events'>;
  clock: Clock;
  tracer?: Tracer;
  bufferEvents: number;
  /** Whether this node may still speak for the shard. */
  mayPublish(shard: number): boolean;
  onMoved(shard: number, seq: number): void;
  onError(error: unknown): void;
}

interface Lane {
  shard: number;
  delivered: number;
  committed: number;
  buffer: TwinEvent[];
  traced: TracedEvents | null;
}

const BATCH = 500;

export class Outbox {
  readonly #o: OutboxOptions;
  readonly #lanes = new Map<number, Lane>();
  readonly #ready = new Set<Lane>();
  #running = false;
  #stopped = false;

  constructor(options: OutboxOptions) {
    this.#o = options;
  }

  get name(): string {
    return this.#o.sink.name;
  }

  /** A shard has become ours: goes on after `cursor`. */
  attach(shard: number, cursor: number, committed: number): void {
    this.detach(shard);
    const lane: Lane = { shard, delivered: cursor, committed, buffer: [], traced: null };
    this.#lanes.set(shard, lane);
    if (cursor < committed) this.#wake(lane);
  }

  detach(shard: number): void {
    const lane = this.#lanes.get(shard);
    if (lane === undefined) return;
    lane.traced?.leave();
    // a lane that is gone must not take its turn, and its pause, before those that are there
    this.#ready.delete(lane);
    this.#lanes.delete(shard);
  }

  /** Events of a shard that have just committed. */
  offer(
    shard: number,
    events: readonly TwinEvent[],
    committed: number,
    traced: readonly TracedTurn[] | null = null,
  ): void {
    const lane = this.#lanes.get(shard);
    if (!lane) return;
    // a buffer with a hole is of no use: from then on the store is read until the lane has caught up
    const follows = lane.buffer.length > 0 ? lane.buffer[lane.buffer.length - 1].seq : lane.delivered;
    if (
      events.length > 0 &&
      events[0].seq === follows + 1 &&
      lane.buffer.length + events.length <= this.#o.bufferEvents
    ) {
      for (const event of events) lane.buffer.push(event);
    }
    // the answer of a commit may come after the shard has been claimed anew, with a mark that is behind
    lane.committed = Math.max(lane.committed, committed);
    if (traced !== null) {
      lane.traced ??= new TracedEvents();
      lane.traced.begin(traced, this.#o.tracer ?? NO_TRACER, { sink: this.name, shard });
    }
    if (lane.delivered < lane.committed) this.#wake(lane);
  }

  stop(): void {
    this.#stopped = true;
    for (const lane of this.#lanes.values()) lane.traced?.leave();
    this.#lanes.clear();
    this.#ready.clear();
  }

  #wake(lane: Lane): void {
    this.#ready.add(lane);
    if (this.#running || this.#stopped) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    let pauseMs = 0;
    while (!this.#stopped && this.#ready.size > 0) {
      if (pauseMs > 0) await sleep(this.#o.clock, pauseMs);
      const [lane] = this.#ready;
      if (lane === undefined) break;
      this.#ready.delete(lane);
      if (this.#lanes.get(lane.shard) !== lane) continue;
      try {
        pauseMs = (await this.#deliver(lane)) ? 0 : 100;
      } catch (error) {
        this.#o.onError(error);
        pauseMs = Math.min(30_000, Math.max(100, pauseMs * 2));
      }
      if (lane.delivered < lane.committed && this.#lanes.get(lane.shard) === lane) this.#ready.add(lane);
    }
    this.#running = false;
  }

  /** False when this node may not speak for the shard right now. */
  async #deliver(lane: Lane): Promise<boolean> {
    let events = lane.buffer.slice(0, BATCH);
    if (events.length === 0) events = await this.#o.store.events(lane.shard, lane.delivered, BATCH);
    if (events.length === 0) {
      // nothing between cursor and mark: removed by retention
      lane.delivered = lane.committed;
      lane.traced?.delivered(lane.delivered);
      return true;
    }
    if (this.#lanes.get(lane.shard) !== lane || !this.#o.mayPublish(lane.shard)) return false;
    await this.#o.sink.deliver(events);
    const last = events[events.length - 1].seq;
    if (this.#lanes.get(lane.shard) !== lane) return true;
    lane.delivered = last;
    lane.traced?.delivered(last);
    let gone = 0;
    while (gone < lane.buffer.length && lane.buffer[gone].seq <= last) gone++;
    lane.buffer.splice(0, gone);
    this.#o.onMoved(lane.shard, last);
    return true;
  }
}
