import type { Activation } from './activation.ts';
import type { PredictionPlan } from './layout.ts';
import type { HostedShard } from './shard.ts';

/** That a model be asked about a twin. Lives from the moment it is due until the answer is in, refused or dropped. */
export interface Question {
  readonly shard: HostedShard;
  readonly activation: Activation;
  readonly plan: PredictionPlan;
  /** Running number. */
  readonly number: number;
  /** Place in the line: the received time of the answer before, or when it may be asked again. Lowest first. */
  rank: number;
  /** How often in a row the answer was none. */
  refusals: number;
}

/** Questions in order of rank, and of their number where that is equal: a binary heap. */
export class Questions {
  readonly #heap: Question[] = [];

  get size(): number {
    return this.#heap.length;
  }

  get first(): Question | undefined {
    return this.#heap[0];
  }

  push(question: Question): void {
    const heap = this.#heap;
    let i = heap.push(question) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(question, heap[parent])) break;
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = question;
  }

  shift(): Question | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    this.#sink(last, 0);
    return top;
  }

  /** Drops what nobody wants any more; answers how many. In place: a line may have a million, and the loop stands still meanwhile. */
  retain(wanted: (question: Question) => boolean): number {
    const heap = this.#heap;
    let kept = 0;
    for (const question of heap) if (wanted(question)) heap[kept++] = question;
    const dropped = heap.length - kept;
    if (dropped === 0) return 0;
    heap.length = kept;
    for (let i = (kept >> 1) - 1; i >= 0; i--) this.#sink(heap[i], i);
    return dropped;
  }

  /** Puts the question where it belongs below `i`. */
  #sink(question: Question, i: number): void {
    const heap = this.#heap;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
      if (!before(heap[child], question)) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = question;
  }
}

function before(a: Question, b: Question): boolean {
  return a.rank < b.rank || (a.rank === b.rank && a.number < b.number);
}
