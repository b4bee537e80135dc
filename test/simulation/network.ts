import type { Random } from '../../actors/protocol/clock.ts';
import type { Process, Scheduler } from './clock.ts';

/**
 * The network between processes and servers: it delays, reorders, loses, duplicates and partitions.
 *
 * Invariants:
 *  1  What is lost is not told to anybody: only a timeout or a broken connection says that an answer will not come.
 *  2  A request whose connection broke may still be carried out, once, twice or much later.
 */
export interface Weather {
  /** Shortest and longest way of a message, ms. */
  delayMs: [number, number];
  /** Probability that a message is lost. */
  loss: number;
  /** Probability that a message arrives twice. */
  duplicate: number;
  /** Probability that a connection breaks while its request is on its way; the request then arrives up to `lateMs` later. */
  broken: number;
  lateMs: number;
}

export const FAIR: Weather = { delayMs: [0.5, 3], loss: 0, duplicate: 0, broken: 0, lateMs: 0 };

/** The request did not end with an answer. `sent`: it may have been or be yet carried out. */
export class Lost extends Error {
  readonly sent: boolean;

  constructor(sent: boolean, message: string) {
    super(message);
    this.name = 'Lost';
    this.sent = sent;
  }
}

export type Cutting = 'there' | 'back' | 'both';

export class Network {
  readonly scheduler: Scheduler;
  readonly #random: Random;
  /** Weather on the way to a server, by its name. */
  readonly weather = new Map<string, Weather>();
  /** `from>to` that nothing passes. */
  readonly #cuts = new Set<string>();
  /** Told when a link that was cut works again. */
  readonly onHealed: ((from: string, to: string) => void)[] = [];

  constructor(scheduler: Scheduler, random: Random) {
    this.scheduler = scheduler;
    this.#random = random;
  }

  cut(a: string, b: string, how: Cutting): void {
    if (how !== 'back') this.#cuts.add(`${a}>${b}`);
    if (how !== 'there') this.#cuts.add(`${b}>${a}`);
  }

  /** One link works again. */
  mend(a: string, b: string): void {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ]) {
      if (this.#cuts.delete(`${from}>${to}`)) for (const told of this.onHealed) told(from, to);
    }
  }

  /** Everything works again. */
  heal(): void {
    this.weather.clear();
    for (const cut of [...this.#cuts]) {
      const [from, to] = cut.split('>');
      this.mend(from, to);
    }
  }

  passes(from: string, to: string): boolean {
    return !this.#cuts.has(`${from}>${to}`);
  }

  /** One message from a place to a place; `arrive` is called once, never or twice. */
  send(from: string, to: string, arrive: () => void): void {
    const weather = this.#between(from, to);
    const times = this.#chance(weather.duplicate) ? 2 : 1;
    for (let i = 0; i < times; i++) {
      if (this.#chance(weather.loss)) continue;
      this.scheduler.after(this.#way(weather), () => {
        if (this.passes(from, to)) arrive();
      });
    }
  }

  /**
   * A request of a process to a server that serves it in one step. Rejects with what `serve` throws, or `Lost`.
   * A process that dies waits for ever.
   */
  request<T>(from: Process, to: string, serve: () => T, timeoutMs: number): Promise<T> {
    const weather = this.#between(from.name, to);
    return new Promise((resolve, reject) => {
      if (!from.alive) return;
      let over = false;
      const end = (settle: () => void): void => {
        if (over) return;
        over = true;
        timer.cancel();
        settle();
      };
      const timer = from.clock.after(timeoutMs, () => end(() => reject(new Lost(true, `${to} did not answer`))));
      if (!this.passes(from.name, to) && this.#chance(0.5)) {
        this.scheduler.after(this.#way(weather), () =>
          from.run(() => end(() => reject(new Lost(false, `${to} cannot be reached`)))),
        );
        return;
      }
      if (this.#chance(weather.broken)) {
        this.scheduler.after(this.#way(weather), () =>
          from.run(() => end(() => reject(new Lost(true, `the connection to ${to} broke`)))),
        );
        if (this.#chance(0.7)) this.scheduler.after(this.#random() * weather.lateMs, () => void quietly(serve));
        return;
      }
      let arrived = false;
      this.send(from.name, to, () => {
        const answer = quietly(serve);
        // who sends a request twice hears the first answer
        if (over || arrived) return;
        arrived = true;
        this.send(to, from.name, () =>
          from.run(() => end(() => (answer.ok ? resolve(answer.value) : reject(answer.error)))),
        );
      });
    });
  }

  /** A call of a process to another one, which answers when it can. Rejects with what `serve` rejects with, or `Lost`. */
  call<T>(from: Process, to: Process, serve: () => Promise<T>, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      let over = false;
      const end = (settle: () => void): void => {
        if (over) return;
        over = true;
        timer.cancel();
        settle();
      };
      const timer = from.clock.after(timeoutMs, () => end(() => reject(new Lost(true, `${to.name} did not answer`))));
      const reply = (settle: () => void): void => {
        // what a dead process still computes is never heard
        if (to.alive) this.send(to.name, from.name, () => from.run(() => end(settle)));
      };
      this.send(from.name, to.name, () =>
        to.run(() => {
          serve().then(
            (value) => reply(() => resolve(value)),
            (error) => reply(() => reject(error)),
          );
        }),
      );
    });
  }

  #between(from: string, to: string): Weather {
    return this.weather.get(to) ?? this.weather.get(from) ?? FAIR;
  }

  #way({ delayMs: [shortest, longest] }: Weather): number {
    return shortest + this.#random() * (longest - shortest);
  }

  #chance(probability: number): boolean {
    return probability > 0 && this.#random() < probability;
  }
}

type Answer<T> = { ok: true; value: T } | { ok: false; error: unknown };

function quietly<T>(serve: () => T): Answer<T> {
  try {
    return { ok: true, value: serve() };
  } catch (error) {
    return { ok: false, error };
  }
}
