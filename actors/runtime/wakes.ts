import type { Activation } from './activation.ts';
import { H } from './layout.ts';

/**
 * When resident twins want a tick: a binary heap by time. A wake that moves later (every reading moves the silence of its
 * twin) is not touched until it comes up; then it is put back where it belongs by now.
 */
export class Wakes {
  readonly #heap: { at: number; activation: Activation }[] = [];

  /** Looks at the wake of a twin after a fold. */
  schedule(activation: Activation): void {
    const at = activation.state.n[H.WAKE];
    if (at === 0 || (activation.scheduledWake !== 0 && activation.scheduledWake <= at)) return;
    activation.scheduledWake = at;
    this.#push({ at, activation });
  }

  /** Twins that are due now. */
  due(now: number): Activation[] {
    const due: Activation[] = [];
    while (this.#heap.length > 0 && this.#heap[0].at <= now) {
      const { at, activation } = this.#pop();
      if (activation.scheduledWake !== at) continue;
      activation.scheduledWake = 0;
      const wake = activation.state.n[H.WAKE];
      if (wake === 0) continue;
      if (wake <= now) due.push(activation);
      else this.schedule(activation);
    }
    return due;
  }

  /** Drops what no longer lives: called when much of the heap may be stale. */
  retain(alive: (activation: Activation) => boolean): void {
    const kept = this.#heap.filter(({ activation }) => alive(activation));
    this.#heap.length = 0;
    for (const item of kept) this.#push(item);
  }

  get size(): number {
    return this.#heap.length;
  }

  #push(item: { at: number; activation: Activation }): void {
    const heap = this.#heap;
    let i = heap.push(item) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (heap[parent].at <= item.at) break;
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = item;
  }

  #pop(): { at: number; activation: Activation } {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1].at < heap[child].at) child++;
      if (heap[child].at >= last.at) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = last;
    return top;
  }
}
