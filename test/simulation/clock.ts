import { type Clock, seededRandom, type TimerHandle } from '../../actors/protocol/clock.ts';

/**
 * Time in a simulation: one queue of things to come, in order of (time, sequence). Nothing happens between two of them.
 *
 * Invariants:
 *  1  After each step every promise that can settle has settled before the next one is taken: a run is a function of
 *     its seed alone.
 *  2  A run has a bound of steps: what spins for ever ends as a failure.
 */
export class Scheduler {
  /** Milliseconds since the simulation began. */
  time = 0;
  steps = 0;
  /** The process to which something happened last: whatever runs until the next step runs in it. */
  running: Process | null = null;
  readonly #maxSteps: number;
  readonly #heap: Step[] = [];
  #sequence = 0;

  constructor(maxSteps: number) {
    this.#maxSteps = maxSteps;
  }

  after(delayMs: number, run: () => void): Step {
    const step: Step = { time: this.time + Math.max(0, delayMs), sequence: this.#sequence++, run };
    const heap = this.#heap;
    let i = heap.push(step) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(step, heap[parent])) break;
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = step;
    return step;
  }

  /** Takes steps until `until` (simulated ms), or until `done` says so. */
  async run(until: number, done: () => boolean = never): Promise<void> {
    while (this.#heap.length > 0 && this.#heap[0].time <= until && !done()) {
      const step = this.#pop();
      if (step.run === null) continue;
      if (++this.steps > this.#maxSteps) throw new Error(`the simulation took more than ${this.#maxSteps} steps`);
      this.time = step.time;
      step.run();
      await settled();
    }
    if (!done()) this.time = Math.max(this.time, until);
  }

  #pop(): Step {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop()!;
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

export interface Step {
  readonly time: number;
  readonly sequence: number;
  /** Null once cancelled. */
  run: (() => void) | null;
}

const never = (): boolean => false;

function before(a: Step, b: Step): boolean {
  return a.time < b.time || (a.time === b.time && a.sequence < b.sequence);
}

/** Called from a microtask: a tick is taken only when no microtask is left. */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

/** 2026-01-01: where simulated wall clocks begin. */
export const EPOCH = Date.UTC(2026, 0, 1);

/**
 * A process on a machine of its own: it can die, stand still for a while, and its wall clock can jump.
 *
 * Invariants:
 *  1  A dead process does nothing any more: no timer, no message, no answer reaches it.
 *  2  A paused process does nothing until it goes on, and then all that waited, in order. Its monotonic clock has not
 *     stood still.
 */
export class Process {
  readonly name: string;
  readonly scheduler: Scheduler;
  alive = true;
  wallOffsetMs = 0;
  #pausedUntil = 0;
  #held: (() => void)[] = [];
  readonly #random: () => number;

  constructor(name: string, scheduler: Scheduler, seed: number) {
    this.name = name;
    this.scheduler = scheduler;
    this.#random = seededRandom(seed);
  }

  readonly clock: Clock = {
    now: () => Math.floor(EPOCH + this.scheduler.time + this.wallOffsetMs),
    monotonic: () => this.scheduler.time,
    after: (delayMs, callback): TimerHandle => {
      const step = this.scheduler.after(delayMs, () => this.run(() => step.run && callback()));
      return {
        cancel: () => {
          step.run = null;
        },
      };
    },
  };

  readonly random = (): number => this.#random();

  get paused(): boolean {
    return this.scheduler.time < this.#pausedUntil;
  }

  /** Something reaches the process. */
  run(what: () => void): void {
    if (!this.alive) return;
    if (this.paused) {
      this.#held.push(what);
      return;
    }
    this.scheduler.running = this;
    what();
  }

  pause(forMs: number): void {
    if (!this.alive || this.paused) return;
    this.#pausedUntil = this.scheduler.time + forMs;
    this.scheduler.after(forMs, () => {
      const held = this.#held;
      this.#held = [];
      // each on a step of its own, so that promises settle between them
      for (const what of held) this.scheduler.after(0, () => this.run(what));
    });
  }

  kill(): void {
    this.alive = false;
    this.#held = [];
  }

  /** For the host: other work of the process gets its turn. */
  readonly breathe = (): Promise<void> =>
    new Promise((resolve) => {
      this.scheduler.after(0, () => this.run(resolve));
    });
}
