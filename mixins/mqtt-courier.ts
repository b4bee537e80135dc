import mqtt, { type MqttClient } from 'mqtt';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';

/**
 * Publishes with QoS 1 in order, a window at a time, and knows of every message whether it was acknowledged. While the
 * connection is away it waits, and what had no acknowledgement is sent again; when it does not come back, everything
 * that is open has failed.
 */
export interface CourierOptions {
  url: string;
  clientId: string;
  username?: string;
  password?: string;
  /** Messages without an acknowledgement; above it `send` waits. */
  maxInFlight?: number;
  /** So long the connection may be away. */
  awayMs?: number;
}

const CONNECT_MS = 10_000;
const RECONNECT_MS = 500;

export class MqttCourier {
  sent = 0;
  acknowledged = 0;
  failed = 0;
  /** Why nothing more can be sent; null while it can. */
  fault: TwinmeshError | null = null;
  readonly #client: MqttClient;
  readonly #maxInFlight: number;
  readonly #awayMs: number;
  #away: NodeJS.Timeout | null = null;
  #waiting: (() => void)[] = [];

  /** Throws unavailable, unauthenticated. */
  static async connect(options: CourierOptions): Promise<MqttCourier> {
    try {
      const client = await mqtt.connectAsync(
        options.url,
        {
          clientId: options.clientId,
          username: options.username,
          password: options.password,
          clean: true,
          reconnectPeriod: RECONNECT_MS,
          connectTimeout: CONNECT_MS,
        },
        false,
      );
      return new MqttCourier(client, options);
    } catch (error) {
      throw asFault(error);
    }
  }

  private constructor(client: MqttClient, options: CourierOptions) {
    this.#client = client;
    this.#maxInFlight = options.maxInFlight ?? 1_000;
    this.#awayMs = options.awayMs ?? 30_000;
    client.on('connect', () => {
      if (this.#away) clearTimeout(this.#away);
      this.#away = null;
    });
    client.on('close', () => {
      this.#away ??= setTimeout(() => this.#giveUp(new Error('the connection did not come back')), this.#awayMs);
    });
    client.on('error', (error) => {
      if (isRefusal(error)) this.#giveUp(error);
    });
  }

  get inFlight(): number {
    return this.sent - this.acknowledged - this.failed;
  }

  get connected(): boolean {
    return this.#client.connected;
  }

  /** Resolves once the message is on its way; waits while too many are. Throws what ended the connection for good. */
  async send(topic: string, payload: string): Promise<void> {
    while (this.inFlight >= this.#maxInFlight && this.fault === null) await this.#change();
    if (this.fault !== null) throw this.fault;
    this.sent++;
    this.#client.publish(topic, payload, { qos: 1 }, (error) => {
      // What was open when we gave up has been counted then.
      if (this.fault !== null) return;
      if (error) this.failed++;
      else this.acknowledged++;
      this.#wake();
    });
  }

  /** Resolves when every message is acknowledged or has failed, or `signal` aborts. */
  async settled(signal?: AbortSignal): Promise<void> {
    const wake = () => this.#wake();
    signal?.addEventListener('abort', wake);
    while (this.inFlight > 0 && signal?.aborted !== true) await this.#change();
    signal?.removeEventListener('abort', wake);
  }

  async close(): Promise<void> {
    if (this.#away) clearTimeout(this.#away);
    this.#away = null;
    await this.#client.endAsync(this.inFlight > 0).catch(() => undefined);
  }

  #giveUp(error: Error): void {
    if (this.fault !== null) return;
    this.fault = asFault(error);
    this.failed = this.sent - this.acknowledged;
    this.#client.end(true);
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** CONNACK codes 4 and 5: who we are is wrong, and will be next time. */
function isRefusal(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === 4 || code === 5;
}

function asFault(error: unknown): TwinmeshError {
  if (isRefusal(error))
    return new TwinmeshError('unauthenticated', 'The MQTT broker does not know the key.', undefined, { cause: error });
  const said = (error as AggregateError).errors?.map(messageOf).join(', ') || messageOf(error);
  return new TwinmeshError('unavailable', `MQTT: ${said}.`, undefined, { cause: error });
}
