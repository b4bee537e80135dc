import type { Clock } from '../protocol/clock.ts';
import type { Done, StoreOptions } from './appender.ts';
import type { Ingress } from './ingress.ts';
import type { Intake } from './intake.ts';

/**
 * Gathers the single messages of many connections into common batches, without making anybody wait for company: when
 * nothing is on its way it sends at the end of the current turn of the event loop (all that a socket had just
 * delivered), else after `lingerMs` or with `maxMessages`. Each message is called back when its own readings are
 * done, so that a shard that stands still holds up only its own devices.
 */
export interface CollectorOptions {
  clock: Clock;
  wait: StoreOptions['wait'];
  /** How long a message waits for others while some are on their way, ms. */
  lingerMs: number;
  maxMessages: number;
}

export class Collector {
  readonly #ingress: Ingress;
  readonly #options: CollectorOptions;
  #pending: Intake[] = [];
  readonly #callbacks = new Map<Intake, Done>();
  #onTheirWay = 0;
  #scheduled = false;

  constructor(ingress: Ingress, options: CollectorOptions) {
    this.#ingress = ingress;
    this.#options = options;
  }

  /** Messages that wait or are on their way. */
  get size(): number {
    return this.#callbacks.size;
  }

  /** `done` comes once: without an error when every reading is durable or refused, with one only when the node stops. */
  push(intake: Intake, done: Done): void {
    this.#callbacks.set(intake, done);
    this.#pending.push(intake);
    if (this.#pending.length >= this.#options.maxMessages) this.#send();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      const send = () => {
        this.#scheduled = false;
        this.#send();
      };
      if (this.#onTheirWay === 0) queueMicrotask(send);
      else this.#options.clock.after(this.#options.lingerMs, send);
    }
  }

  #send(): void {
    if (this.#pending.length === 0) return;
    const batch = this.#pending;
    this.#pending = [];
    this.#onTheirWay++;
    const finished = () => {
      this.#onTheirWay--;
    };
    void this.#ingress
      .store(batch, { wait: this.#options.wait, patient: true }, (intake, error) => {
        const done = this.#callbacks.get(intake);
        this.#callbacks.delete(intake);
        done?.(intake, error);
      })
      .then(finished, finished);
  }
}
