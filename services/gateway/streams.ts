import type { Readable } from 'node:stream';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { SseStream } from './sse.ts';

/** The streams that are open, so that they are bounded, end with the key they were opened with, and end at shutdown. */
export class OpenStreams {
  readonly #open = new Map<Readable, string>();
  readonly #max: number;
  readonly #maxPerKey: number;
  #closing = false;

  constructor(max = 2000, maxPerKey = 200) {
    this.#max = max;
    this.#maxPerKey = maxPerKey;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Throws overloaded, rate_limited; the stream is destroyed then. */
  add(stream: Readable, keyId: string): void {
    let own = 0;
    for (const other of this.#open.values()) if (other === keyId) own++;
    if (this.#closing || this.#open.size >= this.#max) {
      stream.destroy();
      throw new TwinmeshError('overloaded', 'No further stream can be opened on this node.');
    }
    if (own >= this.#maxPerKey) {
      stream.destroy();
      throw new TwinmeshError('rate_limited', `A key may have ${this.#maxPerKey} streams open.`, {
        retryAfterMs: 5000,
      });
    }
    this.#open.set(stream, keyId);
    stream.once('close', () => this.#open.delete(stream));
  }

  /** Keys with which streams are open. */
  keyIds(): string[] {
    return [...new Set(this.#open.values())];
  }

  /** Ends the streams of a key. */
  endOf(keyId: string): void {
    for (const [stream, owner] of this.#open) if (owner === keyId) end(stream);
  }

  /** Ends them all and takes no more. */
  endAll(): void {
    this.#closing = true;
    for (const stream of this.#open.keys()) end(stream);
  }
}

function end(stream: Readable): void {
  if (stream instanceof SseStream) stream.finish();
  else stream.destroy();
}
