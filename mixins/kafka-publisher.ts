import kafkajs, { type Kafka, type Producer } from 'kafkajs';
import { type Clock, LATE, within } from '../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { ensureTopics, type KafkaLogger } from './kafka.ts';

/**
 * Writes messages to Kafka: idempotent, acknowledged by all replicas in sync.
 *
 *  1  `publish` resolves when the brokers have every message, and rejects when that is not sure: the caller sends them again.
 *  2  After a failure the producer is thrown away: what its numbering has come to is anybody's guess.
 *  3  Nothing is kept while Kafka is away.
 */
export interface KafkaPublisherOptions {
  kafka: Kafka;
  /** Made at the first connection where they are missing. */
  topics: readonly string[];
  clock: Clock;
  logger: KafkaLogger;
  /** Longest that one call may take, ms. */
  timeoutMs?: number;
}

export interface KafkaMessageOut {
  topic: string;
  key: string;
  value: string;
}

const TIMEOUT_MS = 20_000;

export class KafkaPublisher {
  /** Messages that Kafka has acknowledged, and calls that failed. */
  published = 0;
  failed = 0;
  readonly #options: KafkaPublisherOptions;
  #producer: Promise<Producer> | null = null;
  #reason: string | null = null;
  #closed = false;

  constructor(options: KafkaPublisherOptions) {
    this.#options = options;
  }

  /** Why the last call failed; null after one that did not. */
  get reason(): string | null {
    return this.#reason;
  }

  /** Throws `unavailable`. */
  async publish(messages: readonly KafkaMessageOut[]): Promise<void> {
    if (messages.length === 0) return;
    if (this.#closed) throw new TwinmeshError('unavailable', 'The node is stopping.');
    const { clock, logger, timeoutMs = TIMEOUT_MS } = this.#options;
    const opening = this.#producer ?? this.#open();
    this.#producer = opening;
    try {
      const sent = await within(clock, this.#send(opening, messages), timeoutMs);
      if (sent === LATE) throw new Error(`no acknowledgement within ${timeoutMs} ms`);
      this.published += messages.length;
      if (this.#reason !== null) logger.info({}, 'Kafka out: takes messages again');
      this.#reason = null;
    } catch (error) {
      this.failed++;
      if (this.#producer === opening) this.#producer = null;
      void opening.then((producer) => producer.disconnect()).catch(() => undefined);
      if (this.#reason === null) logger.warn({ reason: messageOf(error) }, 'Kafka out: takes no messages');
      this.#reason = messageOf(error);
      throw new TwinmeshError('unavailable', `Kafka: ${this.#reason}.`, undefined, { cause: error });
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const producer = await this.#producer?.catch(() => null);
    this.#producer = null;
    await producer?.disconnect().catch(() => undefined);
  }

  async #open(): Promise<Producer> {
    const { kafka, topics, logger } = this.#options;
    await ensureTopics(kafka, topics, logger);
    const producer = kafka.producer({
      idempotent: true,
      // The order of a key survives a retry only with one request on its way.
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    });
    await producer.connect();
    return producer;
  }

  async #send(opening: Promise<Producer>, messages: readonly KafkaMessageOut[]): Promise<void> {
    const producer = await opening;
    const byTopic = new Map<string, { key: string; value: string }[]>();
    for (const { topic, key, value } of messages) {
      const list = byTopic.get(topic);
      if (list === undefined) byTopic.set(topic, [{ key, value }]);
      else list.push({ key, value });
    }
    await producer.sendBatch({
      acks: -1,
      topicMessages: [...byTopic].map(([topic, list]) => ({ topic, messages: list })),
    });
  }
}
