import type { Ingress } from '../../actors/ingress/ingress.ts';
import { openKafka } from '../../mixins/kafka.ts';
import { KafkaPublisher } from '../../mixins/kafka-publisher.ts';
import { connectNats } from '../../mixins/nats.ts';
import { LETTERS_TOPIC, LetterRelay } from '../dead-letters/relay.ts';
import type { Parts } from '../parts.ts';
import { KafkaDoor } from './kafka-door.ts';
import { NatsDoor } from './nats-door.ts';

/** The doors of an ingest node beside HTTP and MQTT, as its settings have them: Kafka, core NATS, and dead letters to Kafka. */
export interface Doors {
  kafka: KafkaDoor | null;
  nats: NatsDoor | null;
  /** Takes nothing new, and gives what is on its way a moment. Before the ingress is closed. */
  close(): Promise<void>;
}

export interface DoorsOptions {
  parts: Pick<Parts, 'settings' | 'kinds' | 'sql' | 'clock' | 'logger' | 'metrics'>;
  ingress: Ingress;
  /** Calls back after dead letters have been stored here. */
  onLetters(listener: () => void): () => void;
}

/** How long a start waits for NATS, which the mesh needs anyway. Kafka may be away. */
const NATS_WITHIN_MS = 30_000;

/** Throws `bad_settings` for TLS files that cannot be read, `unavailable` without NATS. */
export async function openDoors({ parts, ingress, onLetters }: DoorsOptions): Promise<Doors> {
  const { settings, kinds, sql, clock, metrics } = parts;
  const wait = settings.ack === 'commit' ? 'commit' : 'durable';
  const closing: (() => Promise<unknown>)[] = [];
  let kafka: KafkaDoor | null = null;
  let nats: NatsDoor | null = null;

  if (settings.natsUrl !== null) {
    const logger = parts.logger.child({ part: 'nats' });
    const connection = await connectNats(settings, 'ingest', { clock, logger, firstWithinMs: NATS_WITHIN_MS });
    const door = new NatsDoor({ connection, ingress, clock, wait });
    door.open();
    nats = door;
    closing.push(() => door.close().finally(() => connection.close()));
    const refused = 'Messages over core NATS that were not read, because too many were on their way, since start.';
    metrics.followGauge('twinmesh_nats_refused', refused, () => door.status().refused);
  }

  if (settings.kafkaBrokers.length > 0) {
    const logger = parts.logger.child({ part: 'kafka' });
    const topics = kinds.kafkaTopics();
    const door = new KafkaDoor({ ingress, clock, random: Math.random, wait, topics, settings, logger });
    door.open();
    kafka = door;
    closing.push(() => door.close());
    metrics.followGauge('twinmesh_kafka_connected', '1 while this node is a member of KAFKA_GROUP.', () =>
      door.status().state === 'connected' ? 1 : 0,
    );
    const lag = 'Records in the partitions of this node that are not dealt with.';
    metrics.followGauge('twinmesh_kafka_lag_records', lag, () => door.status().lag);

    const publisher = new KafkaPublisher({
      kafka: openKafka(settings, logger),
      topics: [LETTERS_TOPIC],
      clock,
      logger: parts.logger.child({ part: 'dead-letters' }),
    });
    const relay = new LetterRelay({
      sql,
      clock,
      logger,
      publish: (messages) => publisher.publish(messages),
      onNews: onLetters,
    });
    relay.open();
    closing.push(() => relay.close().finally(() => publisher.close()));
  }

  return {
    kafka,
    nats,
    async close() {
      await Promise.allSettled(closing.splice(0).map((close) => close()));
    },
  };
}
