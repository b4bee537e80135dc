import type { Clock, TimerHandle } from '../../../actors/protocol/clock.ts';

/** A clock that stands still until it is moved, and runs what is due in order. */
export class HandClock implements Clock {
  #monotonic = 0;
  #wall: number;
  #timers: { at: number; callback: () => void }[] = [];

  constructor(wall: number) {
    this.#wall = wall;
  }

  now = () => this.#wall;
  monotonic = () => this.#monotonic;

  after(delayMs: number, callback: () => void): TimerHandle {
    const timer = { at: this.#monotonic + delayMs, callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((t) => t !== timer);
      },
    };
  }

  move(ms: number): void {
    const until = this.#monotonic + ms;
    for (;;) {
      const next = this.#timers.filter((t) => t.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((t) => t !== next);
      this.#wall += Math.max(0, next.at - this.#monotonic);
      this.#monotonic = Math.max(this.#monotonic, next.at);
      next.callback();
    }
    this.#wall += until - this.#monotonic;
    this.#monotonic = until;
  }

  /** The process stands still: timers fire late. */
  sleep(ms: number): void {
    this.#monotonic += ms;
    this.#wall += ms;
  }

  setWall(wall: number): void {
    this.#wall = wall;
  }
}
