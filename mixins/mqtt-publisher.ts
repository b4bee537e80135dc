import mqtt, { type MqttClient } from 'mqtt';

/**
 * Publishes as a device does: QoS 1, and nothing is kept while the broker is away. What a device says later, it says
 * with later values.
 */
export interface PublisherOptions {
  url: string;
  clientId: string;
  username?: string;
  password?: string;
  /** Messages that may wait for their acknowledgement; above it `publish` declines. */
  maxInFlight?: number;
  onState?(state: 'connected' | 'lost' | 'refused', reason?: string): void;
}

export class MqttPublisher {
  readonly #client: MqttClient;
  readonly #maxInFlight: number;
  #inFlight = 0;

  constructor(options: PublisherOptions) {
    this.#maxInFlight = options.maxInFlight ?? 1_000;
    this.#client = mqtt.connect(options.url, {
      clientId: options.clientId,
      username: options.username,
      password: options.password,
      clean: true,
      queueQoSZero: false,
      reconnectPeriod: 1_000,
      connectTimeout: 5_000,
    });
    const tell = options.onState ?? (() => undefined);
    this.#client.on('connect', () => tell('connected'));
    this.#client.on('close', () => {
      this.#inFlight = 0;
      tell('lost');
    });
    this.#client.on('error', (error) => tell('refused', error.message));
  }

  get connected(): boolean {
    return this.#client.connected;
  }

  /** False where the message was not sent: no connection, or too many unacknowledged. */
  publish(topic: string, payload: string): boolean {
    if (!this.#client.connected || this.#inFlight >= this.#maxInFlight) return false;
    this.#inFlight++;
    this.#client.publish(topic, payload, { qos: 1 }, () => {
      this.#inFlight = Math.max(0, this.#inFlight - 1);
    });
    return true;
  }

  async close(): Promise<void> {
    await this.#client.endAsync(true);
  }
}
