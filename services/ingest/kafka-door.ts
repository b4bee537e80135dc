import { Collector } from '../../actors/ingress/collector.ts';
import type { Ingress } from '../../actors/ingress/ingress.ts';
import type { Intake } from '../../actors/ingress/intake.ts';
import type { Clock, Random } from '../../actors/protocol/clock.ts';
import { type KafkaLogger, type KafkaSettings, openKafka } from '../../mixins/kafka.ts';
import { KafkaSource, type KafkaSourceOptions, type KafkaSourceStatus } from '../../mixins/kafka-source.ts';

/**
 * Kafka telemetry into ingress: the topics of the kinds, from the earliest record that Kafka has. The offset of a record is
 * committed when its readings are durable or refused. A record that carries no time has the time that Kafka gave it, so that
 * reading it again changes nothing.
 */
export interface KafkaDoorOptions {
  ingress: Ingress;
  clock: Clock;
  random: Random;
  wait: 'durable' | 'commit';
  topics: readonly string[];
  settings: KafkaSettings & { readonly kafkaGroup: string; readonly maxSkewMs: number };
  logger: KafkaLogger;
  backoffMs?: KafkaSourceOptions['backoffMs'];
  sessionTimeoutMs?: number;
}

const LINGER_MS = 5;
const MAX_MESSAGES = 10_000;
const NOTHING = Buffer.alloc(0);

export class KafkaDoor {
  readonly #ingress: Ingress;
  readonly #clock: Clock;
  readonly #maxSkewMs: number;
  readonly #collector: Collector;
  readonly #source: KafkaSource;

  /** Throws `bad_settings` for a TLS file that cannot be read. */
  constructor(options: KafkaDoorOptions) {
    const { ingress, clock, random, wait, topics, settings, logger, backoffMs, sessionTimeoutMs } = options;
    this.#ingress = ingress;
    this.#clock = clock;
    this.#maxSkewMs = settings.maxSkewMs;
    this.#collector = new Collector(ingress, { clock, wait, lingerMs: LINGER_MS, maxMessages: MAX_MESSAGES });
    this.#source = new KafkaSource({
      kafka: openKafka(settings, logger),
      group: settings.kafkaGroup,
      topics,
      clock,
      random,
      logger,
      backoffMs,
      sessionTimeoutMs,
      onRecords: (topic, records, done) => this.#take(topic, records, done),
    });
  }

  /** Kafka may be away: it is tried for ever. */
  open(): void {
    this.#source.open();
  }

  status(): KafkaSourceStatus {
    return this.#source.status();
  }

  /** Before the ingress is closed: what is on its way gets a moment, and its offsets are committed. */
  close(): Promise<void> {
    return this.#source.close();
  }

  #take(topic: string, records: Parameters<KafkaSourceOptions['onRecords']>[1], done: () => void): void {
    const source = { protocol: 'kafka', address: topic, speaker: null } as const;
    const latest = this.#clock.now() + this.#maxSkewMs;
    // One more, for the loop itself.
    let open = 1;
    const finished = (_: Intake | null, error: Error | null) => {
      // Only a node that stops gives a message back; its offset is not committed.
      if (error === null && --open === 0) done();
    };
    for (const { value, timestamp } of records) {
      const stamped = Number(timestamp);
      const arrivedAt = stamped > 0 && stamped <= latest ? stamped : undefined;
      const intake = this.#ingress.read(source, value ?? NOTHING, { arrivedAt });
      if (!hasGood(intake)) continue;
      open++;
      this.#collector.push(intake, finished);
    }
    finished(null, null);
  }
}

function hasGood({ items }: Intake): boolean {
  for (let i = 0; i < items.length; i++) if (items[i].refusal === null) return true;
  return false;
}
