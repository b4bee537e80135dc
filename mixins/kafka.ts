import kafkajs, { type Admin, type Kafka, type KafkaConfig, type logLevel } from 'kafkajs';
import { messageOf } from '../actors/protocol/errors.ts';
import { type TlsSettings, tlsFiles } from './tls.ts';
import './kafka-codecs.ts';

/** How this node reaches Kafka: brokers, TLS, SASL, and what the client library has to say. */
export interface KafkaSettings extends TlsSettings {
  readonly kafkaBrokers: readonly string[];
  readonly kafkaTls: boolean;
  readonly kafkaSasl: string;
  readonly kafkaUser: string | null;
  readonly kafkaPassword: string | null;
  readonly nodeId: string;
}

export interface KafkaLogger {
  debug(facts: object, text: string): void;
  info(facts: object, text: string): void;
  warn(facts: object, text: string): void;
}

/** Topics that we make: 6 partitions keyed by twin id, and a day of retention. */
const PARTITIONS = 6;
const RETENTION_MS = 86_400_000;
const LOOKS = 20;
const LOOK_MS = 250;

/** Opens nothing yet. Throws `bad_settings` for a TLS file that cannot be read. */
export function openKafka(settings: KafkaSettings, logger: KafkaLogger): Kafka {
  const mechanism = settings.kafkaSasl;
  const login = { username: settings.kafkaUser ?? '', password: settings.kafkaPassword ?? '' };
  return new kafkajs.Kafka({
    clientId: `twinmesh-${settings.nodeId}`,
    brokers: [...settings.kafkaBrokers],
    connectionTimeout: 5_000,
    authenticationTimeout: 5_000,
    requestTimeout: 15_000,
    retry: { initialRetryTime: 200, maxRetryTime: 2_000, retries: 2 },
    ...(settings.kafkaTls ? { ssl: { ...tlsFiles(settings), rejectUnauthorized: true } } : {}),
    ...(mechanism === 'none' ? {} : { sasl: { mechanism, ...login } as KafkaConfig['sasl'] }),
    // The library calls every attempt on a broker that is away an error. What matters is told by whoever uses the
    // connection, once, when its state changes.
    logLevel: kafkajs.logLevel.WARN as logLevel,
    logCreator:
      () =>
      ({ namespace, log: { message, error } }) =>
        logger.debug({ part: namespace, ...(error ? { error } : {}) }, `kafka: ${message}`),
  });
}

/** Makes the topics that are missing, where we may; answers those that are missing still. Throws without a connection. */
export async function ensureTopics(kafka: Kafka, topics: readonly string[], logger: KafkaLogger): Promise<string[]> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    const missing = await missingOf(admin, topics);
    if (missing.length === 0) return [];
    let made = 0;
    const retention = { name: 'retention.ms', value: String(RETENTION_MS) };
    for (const topic of missing) {
      const asked = { topic, numPartitions: PARTITIONS, replicationFactor: -1, configEntries: [retention] };
      try {
        await admin.createTopics({ topics: [asked], waitForLeaders: true, timeout: 10_000 });
        made++;
      } catch (error) {
        logger.warn({ topic, reason: messageOf(error) }, 'Kafka topic is missing and cannot be made');
      }
    }
    // A broker may have made one and not heard of it yet.
    let still = await missingOf(admin, missing);
    for (let look = 0; look < LOOKS && still.length > missing.length - made; look++) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      still = await missingOf(admin, missing);
    }
    return still;
  } finally {
    await admin.disconnect();
  }
}

async function missingOf(admin: Admin, topics: readonly string[]): Promise<string[]> {
  const there = new Set(await admin.listTopics());
  return topics.filter((topic) => !there.has(topic));
}
