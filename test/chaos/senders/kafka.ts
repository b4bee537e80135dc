import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type logLevel, type Producer } from 'kafkajs';
import { KAFKA_TOPIC } from '../kinds/counter.ts';
import { readingOf } from '../reading.ts';
import { Lane, type Sent } from './lane.ts';

/** Longer than the client's own limits: it has been seen to wait on for a broker that stood still. */
const ANSWER_WITHIN_MS = 12_000;

/** Records keyed by asset with all acknowledgements of the brokers: from then on they are the mesh's to read, at least once. */
export class KafkaLane extends Lane {
  readonly way = 'kafka';
  #brokers: readonly string[] = [];

  to(brokers: readonly string[]): this {
    this.#brokers = brokers;
    return this;
  }

  async run(): Promise<void> {
    const kafka = new kafkajs.Kafka({
      clientId: 'devices',
      brokers: [...this.#brokers],
      connectionTimeout: 3_000,
      requestTimeout: 5_000,
      retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 1 },
      logLevel: kafkajs.logLevel.NOTHING as logLevel,
    });
    let producer: Producer | null = null;
    while (!this.finished) {
      const batch = this.take(this.portion);
      if (batch.length === 0) {
        await this.rest();
        continue;
      }
      producer ??= kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
      if (await this.#send(producer, batch)) {
        this.acknowledged(batch);
        continue;
      }
      this.again(batch);
      void producer.disconnect().catch(() => undefined);
      producer = null;
      await sleep(300);
    }
    await producer?.disconnect().catch(() => undefined);
  }

  async #send(producer: Producer, batch: readonly Sent[]): Promise<boolean> {
    const messages = batch.map(({ asset, n }) => {
      const { at, seq, values } = readingOf(asset.index, n, this.ledger.baseMs);
      const value = JSON.stringify({ id: asset.id, at: new Date(at).toISOString(), seq, ...values });
      return { key: asset.twinId, value };
    });
    const sending = producer
      .connect()
      .then(() => producer.send({ topic: KAFKA_TOPIC, acks: -1, messages }))
      .then((answers) => (answers.every(({ errorCode }) => errorCode === 0) ? null : 'refused'))
      .catch((error: Error) => error.name);
    const refusal = await Promise.race([sending, sleep(ANSWER_WITHIN_MS, 'no answer')]);
    if (refusal !== null) this.ledger.refused(`Kafka: ${refusal}`);
    return refusal === null;
  }
}
