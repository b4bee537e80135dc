import type { RawReading } from '../../actors/protocol/kind.ts';
import { msOf } from './loading.ts';

/** A reading and when it was, NaN where it does not say. */
export interface Timed {
  raw: RawReading;
  ms: number;
}

/**
 * Readings of files that are sorted by asset, or of many files, in order of event time: a heap of `capacity` readings looks
 * ahead. What is further out of order comes late, and is counted.
 */
export class Timeline {
  late = 0;
  readonly #capacity: number;
  readonly #heap: (Timed & { order: number })[] = [];
  #order = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  async *inOrder(batches: AsyncIterable<readonly RawReading[]>): AsyncGenerator<Timed> {
    let last = Number.NEGATIVE_INFINITY;
    const next = (): Timed => {
      const timed = this.#pop();
      if (timed.ms < last) this.late++;
      else last = timed.ms;
      return timed;
    };
    let fault: { error: unknown } | null = null;
    const readable = batches[Symbol.asyncIterator]();
    for (;;) {
      // What was good before a file turned out to be damaged is played first.
      const read = await readable.next().catch((error: unknown) => {
        fault = { error };
        return { done: true, value: undefined } as const;
      });
      if (read.done) break;
      for (const raw of read.value) {
        const ms = msOf(raw.at);
        // Nothing can be ordered by no time.
        if (Number.isNaN(ms)) yield { raw, ms };
        else this.#push({ raw, ms, order: this.#order++ });
        if (this.#heap.length > this.#capacity) yield next();
      }
    }
    while (this.#heap.length > 0) yield next();
    if (fault !== null) throw (fault as { error: unknown }).error;
  }

  #push(timed: Timed & { order: number }): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(timed);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(timed, heap[parent])) break;
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = timed;
  }

  #pop(): Timed {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop() as Timed & { order: number };
    if (heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
      if (!before(heap[child], last)) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = last;
    return top;
  }
}

function before(a: Timed & { order: number }, b: Timed & { order: number }): boolean {
  return a.ms < b.ms || (a.ms === b.ms && a.order < b.order);
}
