import { Readable } from 'node:stream';
import { type Clock, systemClock, type TimerHandle } from '../../actors/protocol/clock.ts';

/**
 * One stream of server-sent events to one reader (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 *
 * Owns: framing, heartbeats, the state of the reader's buffer. Does not own what is sent, nor what is sent again:
 * whoever writes keeps no more than it can read again from the store, and asks `writable` first.
 *
 * Invariants:
 *  1. Memory is bounded by the writer's obedience: `writable` turns false once the buffer is full, and `onWritable`
 *     is called when it has room again.
 *  2. A reader that takes nothing for `stallMs` while something waits is disconnected; it resumes by Last-Event-ID.
 *  3. Heartbeats keep proxies from closing a quiet stream, and carry the newest id, so that a reader of a filtered
 *     stream does not resume from far behind.
 */
export interface SseOptions {
  clock?: Clock;
  heartbeatMs?: number;
  stallMs?: number;
  bufferBytes?: number;
  /** The reader has room again. */
  onWritable?: () => void;
  /** The stream is over, from whichever side. */
  onClose?: () => void;
  /** Called at each heartbeat; what it answers goes out as the id of the heartbeat. */
  onHeartbeat?: () => string | undefined;
}

export interface SseEvent {
  event: string;
  /** Left out: the reader keeps the id it has. */
  id?: string;
  data: unknown;
}

export const SSE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'no-store, no-transform',
  // nginx would hold events back.
  'X-Accel-Buffering': 'no',
};

export class SseStream extends Readable {
  readonly #clock: Clock;
  readonly #options: SseOptions;
  readonly #heartbeatMs: number;
  readonly #stallMs: number;
  #heartbeat: TimerHandle | undefined;
  #stall: TimerHandle | undefined;
  #full = false;
  #finished = false;

  constructor(options: SseOptions = {}) {
    super({ highWaterMark: options.bufferBytes ?? 65_536 });
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#heartbeatMs = options.heartbeatMs ?? 15_000;
    this.#stallMs = options.stallMs ?? 30_000;
    // How soon the reader tries again after a lost connection.
    this.push('retry: 1000\n\n');
    this.#beatLater();
  }

  /** Whether the reader keeps up. Writing on regardless is possible, for the few frames that belong together. */
  get writable(): boolean {
    return !this.#full && !this.#finished && !this.destroyed;
  }

  send(event: SseEvent): void {
    this.#write(frameOf(event));
  }

  /** Ends the stream after what has been sent. */
  finish(): void {
    if (this.#finished || this.destroyed) return;
    this.#finished = true;
    this.#stopTimers();
    this.push(null);
  }

  #write(frame: string): void {
    if (this.destroyed || this.#finished) return;
    if (this.push(frame) || this.#full) return;
    this.#full = true;
    this.#stall = this.#clock.after(this.#stallMs, () => this.destroy());
  }

  override _read(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#stall?.cancel();
    // Not from within the read: what is written now would come before what is being read.
    queueMicrotask(() => {
      if (this.writable) this.#options.onWritable?.();
    });
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#stopTimers();
    this.#options.onClose?.();
    callback(error);
  }

  #beatLater(): void {
    this.#heartbeat = this.#clock.after(this.#heartbeatMs, () => {
      if (this.destroyed || this.#finished) return;
      const id = this.#options.onHeartbeat?.();
      if (this.writable) this.#write(id === undefined ? ':\n\n' : `:\nid: ${id}\n\n`);
      this.#beatLater();
    });
  }

  #stopTimers(): void {
    this.#heartbeat?.cancel();
    this.#stall?.cancel();
  }
}

/** One event as text. JSON has no raw line breaks, so that one data line is enough. */
export function frameOf({ event, id, data }: SseEvent): string {
  return `event: ${event}\n${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
}
