import { type Clock, systemClock } from '../../actors/protocol/clock.ts';
import type { TwinEvent } from '../../actors/protocol/event.ts';
import type { TwinHost } from '../../actors/runtime/host-api.ts';
import type { Store } from '../../actors/store/port.ts';
import { SseStream } from '../gateway/sse.ts';
import { eventView } from './entry-view.ts';
import { decodeVector, encodeVector, type ShardVector } from './shard-vector.ts';

/**
 * Events of the whole fleet, live, each under its type; its id is the vector of shard seqs up to and including it.
 *
 * Invariants:
 *  1. Within a shard events go out in order of seq, each exactly once, from the resumed vector on without a gap.
 *  2. The vector also moves over events that the filter leaves out, and reaches the reader with the heartbeat.
 *  3. What the reader has not taken is not kept: beyond `maxPending` the affected shards are read again from the store.
 *  4. Where events have expired, `event: reset` carries a new id, and the stream goes on from now.
 *  5. What belongs to no shard (an aside) has no place in the vector and goes out without an id: the reader keeps the id it has.
 *     It is told to whoever listens, once, and is not told again after a resume.
 */
export type EventSource = Pick<TwinHost, 'onEvents'> & {
  /** How far shards of other nodes have come; what lies before is read from the store. */
  onMarks?(listener: (marks: readonly Mark[]) => void): () => void;
  /** What is told that is no event of a twin. */
  onAsides?(listener: (aside: Aside) => void): () => void;
};
export interface Aside {
  /** As of events: `data.drift`. */
  type: string;
  /** Kind of asset that it is about. */
  kind: string;
  data: unknown;
}
/** A shard, and the seq of its newest committed event. */
export type Mark = readonly [shard: number, seq: number];
export type EventStore = Pick<Store, 'shards' | 'events'>;

export interface FleetFilter {
  kind?: string;
  /** Event types, e.g. `alert.raised`; a prefix such as `alert` takes all of them. */
  types?: readonly string[];
}

export interface FleetStreamOptions {
  clock?: Clock;
  maxPending?: number;
  pageSize?: number;
  heartbeatMs?: number;
  stallMs?: number;
  bufferBytes?: number;
}

/** Asides that wait for a reader who is slow; the oldest go then. */
const MAX_ASIDES = 100;

/** Opens the stream. Throws store_down. */
export async function fleetStream(
  host: EventSource,
  store: EventStore,
  filter: FleetFilter,
  lastEventId: string | undefined,
  options: FleetStreamOptions = {},
): Promise<SseStream> {
  const live = new LiveFleet(host, store, filter, options);
  try {
    return await live.open(lastEventId);
  } catch (error) {
    live.close();
    throw error;
  }
}

class LiveFleet {
  readonly #store: EventStore;
  readonly #filter: FleetFilter;
  readonly #options: Required<Omit<FleetStreamOptions, 'heartbeatMs' | 'stallMs' | 'bufferBytes'>> & FleetStreamOptions;
  readonly #unlisten: () => void;
  #stream: SseStream | undefined;
  #vector: ShardVector = new Map();
  #pending: TwinEvent[] = [];
  #asides: Aside[] = [];
  /** Shards whose events have to be read from the store before live ones go on → the seq they are known to have reached. */
  #behind = new Map<number, number>();
  #pumping = false;
  #checking = false;
  #closed = false;

  constructor(host: EventSource, store: EventStore, filter: FleetFilter, options: FleetStreamOptions) {
    this.#store = store;
    this.#filter = filter;
    this.#options = { clock: systemClock, maxPending: 2000, pageSize: 500, ...options };
    const unlisten = host.onEvents((events) => this.#hear(events));
    const unmark = host.onMarks?.((marks) => this.#mark(marks));
    const unaside = host.onAsides?.((aside) => this.#hearAside(aside));
    this.#unlisten = () => {
      unlisten();
      unmark?.();
      unaside?.();
    };
  }

  async open(lastEventId: string | undefined): Promise<SseStream> {
    const shards = await this.#store.shards();
    const now: ShardVector = new Map(shards.map((row) => [row.shard, row.eventSeq]));
    const resumed = lastEventId === undefined ? null : decodeVector(lastEventId, shards.length);
    const stream = new SseStream({
      clock: this.#options.clock,
      heartbeatMs: this.#options.heartbeatMs,
      stallMs: this.#options.stallMs,
      bufferBytes: this.#options.bufferBytes,
      onWritable: () => void this.#pump(),
      onClose: () => this.close(),
      onHeartbeat: () => this.#beat(),
    });
    this.#stream = stream;
    const fromFuture = resumed !== null && [...resumed].some(([shard, seq]) => seq > (now.get(shard) ?? 0));
    if (resumed !== null && !fromFuture) {
      this.#vector = resumed;
      for (const [shard, seq] of now) if (seq > (resumed.get(shard) ?? 0)) this.#fallBehind(shard, seq);
      stream.send({ event: 'hello', data: { resumed: true } });
    } else if (lastEventId !== undefined) {
      this.#reset(stream, now, fromFuture ? 'from the future' : 'unknown id');
    } else {
      this.#vector = now;
      stream.send({ event: 'hello', id: encodeVector(now), data: { resumed: false } });
    }
    void this.#pump();
    return stream;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unlisten();
    this.#pending = [];
    this.#asides = [];
    this.#behind.clear();
  }

  #hear(events: TwinEvent[]): void {
    if (this.#closed) return;
    if (this.#pending.length + events.length > this.#options.maxPending) {
      for (const event of [...this.#pending, ...events]) this.#fallBehind(event.shard, event.seq);
      this.#pending = [];
    } else {
      for (const event of events) this.#pending.push(event);
    }
    if (this.#stream) void this.#pump();
  }

  #mark(marks: readonly Mark[]): void {
    if (this.#closed) return;
    for (const [shard, seq] of marks) if (seq > (this.#vector.get(shard) ?? 0)) this.#fallBehind(shard, seq);
    if (this.#stream) void this.#pump();
  }

  #hearAside(aside: Aside): void {
    const { kind, types } = this.#filter;
    if (this.#closed || (kind !== undefined && aside.kind !== kind) || !isOfTypes(types, aside.type)) return;
    this.#asides.push(aside);
    if (this.#asides.length > MAX_ASIDES) this.#asides.shift();
    if (this.#stream) void this.#pump();
  }

  /** Every heartbeat looks for shards that moved on without us: those of other nodes, or a broadcast gone astray. */
  #beat(): string | undefined {
    if (!this.#checking) {
      this.#checking = true;
      void this.#check();
    }
    return encodeVector(this.#vector);
  }

  async #check(): Promise<void> {
    try {
      for (const { shard, eventSeq } of await this.#store.shards()) {
        if (!this.#closed && eventSeq > (this.#vector.get(shard) ?? 0)) this.#fallBehind(shard, eventSeq);
      }
      void this.#pump();
    } catch {
      // The store is down; the next heartbeat asks again.
    } finally {
      this.#checking = false;
    }
  }

  async #pump(): Promise<void> {
    const stream = this.#stream;
    if (this.#pumping || !stream) return;
    this.#pumping = true;
    try {
      while (!this.#closed && stream.writable) {
        const aside = this.#asides.shift();
        const next = this.#behind.entries().next().value;
        if (aside !== undefined) stream.send({ event: aside.type, data: aside.data });
        else if (next !== undefined) await this.#catchUp(stream, ...next);
        else if (!this.#sendNext(stream)) break;
      }
    } catch {
      stream.finish();
    } finally {
      this.#pumping = false;
    }
  }

  #sendNext(stream: SseStream): boolean {
    const event = this.#pending[0];
    if (event === undefined) return false;
    const seq = this.#vector.get(event.shard) ?? 0;
    if (event.seq > seq + 1) {
      this.#fallBehind(event.shard, event.seq - 1);
      return true;
    }
    this.#pending.shift();
    if (event.seq === seq + 1) this.#pass(stream, event);
    return true;
  }

  async #catchUp(stream: SseStream, shard: number, target: number): Promise<void> {
    const { pageSize } = this.#options;
    // Taken out before reading: what is heard from now on either follows the page or puts the shard in again.
    this.#behind.delete(shard);
    const seq = this.#vector.get(shard) ?? 0;
    const page = await this.#store.events(shard, seq, pageSize);
    if (this.#closed) return;
    for (const event of page) {
      const passed = this.#vector.get(shard) ?? 0;
      if (event.seq > passed + 1) break;
      if (!stream.writable) {
        this.#fallBehind(shard, target);
        return;
      }
      if (event.seq === passed + 1) this.#pass(stream, event);
    }
    const last = page.at(-1)?.seq ?? 0;
    if ((this.#vector.get(shard) ?? 0) < Math.max(last, page.length < pageSize ? target : 0)) {
      const rows = await this.#store.shards();
      if (!this.#closed) this.#reset(stream, new Map(rows.map((row) => [row.shard, row.eventSeq])), 'expired');
    } else if (page.length >= pageSize) {
      this.#fallBehind(shard, target);
    }
  }

  #fallBehind(shard: number, target: number): void {
    this.#behind.set(shard, Math.max(target, this.#behind.get(shard) ?? 0));
  }

  #pass(stream: SseStream, event: TwinEvent): void {
    this.#vector.set(event.shard, event.seq);
    if (!passes(this.#filter, event)) return;
    stream.send({ event: event.type, id: encodeVector(this.#vector), data: eventView(event) });
  }

  #reset(stream: SseStream, now: ShardVector, reason: string): void {
    this.#vector = now;
    this.#behind.clear();
    stream.send({ event: 'reset', id: encodeVector(now), data: { reason } });
  }
}

export function passes(filter: FleetFilter, event: Pick<TwinEvent, 'type' | 'twinId'>): boolean {
  if (filter.kind !== undefined && !event.twinId.startsWith(`${filter.kind}:`)) return false;
  return isOfTypes(filter.types, event.type);
}

function isOfTypes(types: FleetFilter['types'], of: string): boolean {
  return types === undefined || types.some((type) => of === type || of.startsWith(`${type}.`));
}
