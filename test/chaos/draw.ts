import type { Fault } from './fault.ts';

/** Every fault once in a shuffled order, then again in another: none is left out of a long run, none comes much more often. */
export class Draw {
  readonly #faults: readonly Fault[];
  readonly #random: () => number;
  #left: Fault[] = [];

  constructor(faults: readonly Fault[], random: () => number) {
    this.#faults = faults;
    this.#random = random;
  }

  next(): Fault {
    if (this.#left.length === 0) this.#left = [...this.#faults];
    const [fault] = this.#left.splice(Math.floor(this.#random() * this.#left.length), 1);
    return fault;
  }
}
