import * as zlib from 'node:zlib';
import kafkajs, { type Admin, type Kafka, type KafkaConfig, type logLevel } from 'kafkajs';
import { messageOf } from '../actors/protocol/errors.ts';
import { type TlsSettings, tlsFiles } from './tls.ts';

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

/** A record batch larger than this after decompression is no batch of telemetry. */
const MAX_BATCH_BYTES = 128 * 2 ** 20;

// The library knows gzip only. Node has zstd itself.
kafkajs.CompressionCodecs[kafkajs.CompressionTypes.ZSTD] = () => ({
  compress: ({ buffer }: { buffer: Buffer }) => Promise.resolve(zlib.zstdCompressSync(buffer)),
  decompress: (buffer: Buffer) =>
    Promise.resolve(zlib.zstdDecompressSync(buffer, { maxOutputLength: MAX_BATCH_BYTES })),
});

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
    const retention = { name: 'retention.ms', value: String(RETENTION_MS) };
    for (const topic of missing) {
      const asked = { topic, numPartitions: PARTITIONS, replicationFactor: -1, configEntries: [retention] };
      try {
        await admin.createTopics({ topics: [asked], waitForLeaders: true, timeout: 10_000 });
      } catch (error) {
        logger.warn({ topic, reason: messageOf(error) }, 'Kafka topic is missing and cannot be made');
      }
    }
    return await missingOf(admin, missing);
  } finally {
    await admin.disconnect();
  }
}

async function missingOf(admin: Admin, topics: readonly string[]): Promise<string[]> {
  const there = new Set(await admin.listTopics());
  return topics.filter((topic) => !there.has(topic));
}
