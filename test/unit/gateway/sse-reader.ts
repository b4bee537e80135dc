import type { Readable } from 'node:stream';

export interface Received {
  event: string;
  id: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into events of any shape
  data: any;
}

/** Reads a stream of server-sent events the way a browser does: the last id survives events that carry none. */
export class SseReader {
  readonly received: Received[] = [];
  lastEventId: string | undefined;
  ended = false;
  #text = '';
  readonly #stream: Readable;
  #paused = false;

  constructor(stream: Readable) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer | string) => this.#take(String(chunk)));
    stream.on('close', () => {
      this.ended = true;
    });
  }

  pause(): void {
    this.#paused = true;
    this.#stream.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#stream.resume();
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Hangs up. */
  close(): void {
    this.#stream.destroy();
  }

  of(...events: string[]): Received[] {
    return this.received.filter(({ event }) => events.includes(event));
  }

  #take(text: string): void {
    this.#text += text;
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end < 0) return;
      this.#block(this.#text.slice(0, end));
      this.#text = this.#text.slice(end + 2);
    }
  }

  #block(block: string): void {
    let event = 'message';
    let id: string | undefined;
    let data = '';
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      const field = line.slice(0, colon);
      const value = line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') event = value;
      else if (field === 'id') id = value;
      else if (field === 'data') data += value;
    }
    if (id !== undefined) this.lastEventId = id;
    if (data !== '') this.received.push({ event, id, data: JSON.parse(data) });
  }
}
