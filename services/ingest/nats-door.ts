import { Collector } from '../../actors/ingress/collector.ts';
import type { Ingress } from '../../actors/ingress/ingress.ts';
import { type Intake, resultOf, type SubmitResult } from '../../actors/ingress/intake.ts';
import { type Clock, sleep } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import {
  followQueue,
  type NatsConnection,
  type QueueMessage,
  type QueueSubscription,
} from '../../mixins/nats-queue.ts';

/**
 * Telemetry over core NATS, `twins.in.<kind>.<id>`: the generic message, an array of them, or the kind's own format. Who asks
 * for an answer gets `{ accepted, duplicates, rejected }` when the readings are durable, or `{ error }` when they are not
 * taken; sending them again is safe. Without an answer a message is delivered once at most: NATS keeps it nowhere.
 */
export interface NatsDoorOptions {
  connection: NatsConnection;
  ingress: Ingress;
  clock: Clock;
  wait: 'durable' | 'commit';
  /** Messages that may be on their way; above it they are refused as `overloaded`. */
  maxInFlight?: number;
}

export interface NatsAnswer extends SubmitResult {
  error?: { code: string; message: string };
}

export interface NatsDoorStatus {
  inFlight: number;
  /** Messages that were not read, because too many were on their way. */
  refused: number;
}

export const NATS_SUBJECT = 'twins.in.*.>';
const QUEUE = 'twinmesh';
const MAX_IN_FLIGHT = 20_000;
const LINGER_MS = 3;
const MAX_MESSAGES = 5000;
const DRAIN_MS = 5_000;

export class NatsDoor {
  readonly #options: NatsDoorOptions;
  readonly #collector: Collector;
  readonly #maxInFlight: number;
  #subscription: QueueSubscription | null = null;
  #inFlight = 0;
  #refused = 0;

  constructor(options: NatsDoorOptions) {
    this.#options = options;
    const { ingress, clock, wait } = options;
    this.#maxInFlight = options.maxInFlight ?? MAX_IN_FLIGHT;
    this.#collector = new Collector(ingress, { clock, wait, lingerMs: LINGER_MS, maxMessages: MAX_MESSAGES });
  }

  open(): void {
    this.#subscription ??= followQueue(this.#options.connection, NATS_SUBJECT, QUEUE, (message) => this.#take(message));
  }

  status(): NatsDoorStatus {
    return { inFlight: this.#inFlight, refused: this.#refused };
  }

  /** Before the ingress is closed: what is on its way gets a moment and its answer. The connection stays open. */
  async close(): Promise<void> {
    await this.#subscription?.close();
    const { clock } = this.#options;
    const until = clock.monotonic() + DRAIN_MS;
    while (this.#inFlight > 0 && clock.monotonic() < until) await sleep(clock, 10);
  }

  #take({ subject, payload, answer }: QueueMessage): void {
    if (this.#inFlight >= this.#maxInFlight) {
      this.#refused++;
      const error = new TwinmeshError('overloaded', 'Too much is waiting to be stored.');
      answer?.(told(null, error));
      return;
    }
    const intake = this.#options.ingress.read({ protocol: 'nats', address: subject, speaker: null }, payload);
    if (!intake.items.some(({ refusal }) => refusal === null)) {
      answer?.(told(intake, null));
      return;
    }
    this.#inFlight++;
    this.#collector.push(intake, (_, error) => {
      this.#inFlight--;
      answer?.(told(intake, error));
    });
  }
}

function told(intake: Intake | null, error: TwinmeshError | null): string {
  if (error === null && intake !== null) return JSON.stringify(resultOf(intake) satisfies NatsAnswer);
  const { code, message } = error as TwinmeshError;
  const answer: NatsAnswer = { accepted: 0, duplicates: 0, rejected: [], error: { code, message } };
  return JSON.stringify(answer);
}
