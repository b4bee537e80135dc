/**
 * Time and chance are handed in, so that a simulation owns them. Wall time only ever stamps entries;
 * every timeout runs on the monotonic clock.
 */
export interface Clock {
  /** Wall time, milliseconds since the epoch. May jump. */
  now(): number;
  /** Milliseconds that only grow. */
  monotonic(): number;
  /** Calls back once after `delayMs`; the handle cancels it. Never keeps the process alive by itself. */
  after(delayMs: number, callback: () => void): TimerHandle;
}

export interface TimerHandle {
  cancel(): void;
}

/** A number in [0, 1). */
export type Random = () => number;

/** One that can be gone on with: `seededRandom(random.state())` draws what `random` would have drawn next. */
export interface SeededRandom {
  (): number;
  state(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref?.();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Resolves after `delayMs` on the given clock. */
export function sleep(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(delayMs, resolve);
  });
}

/** mulberry32: small, seedable, good enough for jitter, demos and simulations; never for secrets. */
export function seededRandom(seed: number): SeededRandom {
  let a = seed >>> 0;
  const draw = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Object.assign(draw, { state: () => a });
}

/** One draw of the standard normal distribution (Box–Muller), cut at ±3 so that noise has a stated bound. Two draws of `random`. */
export function gaussian(random: Random): number {
  const z = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.max(-3, Math.min(3, z));
}

export const LATE = Symbol('late');

/** What `work` comes to within `ms`, or LATE; rejects as it does. What comes afterwards is dropped. */
export function within<T>(clock: Clock, work: Promise<T>, ms: number): Promise<T | typeof LATE> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(ms, () => resolve(LATE));
    work.then(resolve, reject).finally(() => timer.cancel());
  });
}
