/**
 * Relations between settings that have to hold together; each says why. Checked for the defaults when this file is
 * loaded by its test, and for what was set at start.
 */
export interface Limit {
  holds(s: Related): boolean;
  otherwise(s: Related): string;
}

/** The settings that stand in a relation to each other. */
export interface Related {
  readonly roles: readonly string[];
  readonly natsUrl: string | null;
  readonly databaseUrl: string | null;
  readonly mqttUrl: string | null;
  readonly demo: boolean;
  readonly tlsCertFile: string | null;
  readonly tlsKeyFile: string | null;
  readonly kafkaSasl: string;
  readonly kafkaUser: string | null;
  readonly kafkaPassword: string | null;
  readonly port: number;
  readonly mqttListenPort: number;
  readonly mqttWsPort: number;
  readonly ttlMs: number;
  readonly passivateAfterMs: number;
  readonly latenessMs: number;
  readonly historyRetentionDays: number;
  readonly archiveAfterDays: number;
  readonly archiveKeepDays: number;
  readonly archiveDir: string | null;
  readonly s3Endpoint: string | null;
  readonly s3Bucket: string | null;
  readonly awsAccessKeyId: string | null;
  readonly awsSecretAccessKey: string | null;
  readonly maxPayloadBytes: number;
  readonly maxBodyBytes: number;
  readonly metricsMaxTwins: number;
}

const DAY_MS = 86_400_000;
const ALL_ROLES = ['host', 'ingest', 'history', 'inference', 'gateway'];

export const LIMITS: readonly Limit[] = [
  {
    // What no node does would silently not happen.
    holds: (s) => s.natsUrl !== null || ALL_ROLES.every((role) => s.roles.includes(role)),
    otherwise: (s) =>
      `ROLES leaves out ${ALL_ROLES.filter((role) => !s.roles.includes(role)).join(', ')}, and without NATS_URL no other node can do it.`,
  },
  {
    holds: (s) => s.roles.length > 0,
    otherwise: () => 'ROLES names nothing that this node should do.',
  },
  {
    // The embedded database belongs to one process; the mesh agrees about ownership in a shared one.
    holds: (s) => s.natsUrl === null || s.databaseUrl !== null,
    otherwise: () => 'DATABASE_URL is missing: with NATS_URL all nodes share one PostgreSQL.',
  },
  {
    holds: (s) => !s.demo || s.natsUrl === null || s.mqttUrl !== null,
    otherwise: () =>
      'DEMO needs MQTT_URL where NATS_URL is set: the demo fleet publishes to a broker that all nodes share.',
  },
  {
    holds: (s) => (s.tlsCertFile === null) === (s.tlsKeyFile === null),
    otherwise: (s) =>
      `${s.tlsCertFile === null ? 'TLS_CERT_FILE' : 'TLS_KEY_FILE'} is missing: a certificate goes with its key.`,
  },
  {
    holds: (s) => s.kafkaSasl === 'none' || (s.kafkaUser !== null && (s.kafkaPassword ?? '') !== ''),
    otherwise: () => 'KAFKA_SASL needs KAFKA_USER and KAFKA_PASSWORD.',
  },
  {
    // A twin that leaves memory while its node would not even count as dead is read back for every reading.
    holds: (s) => s.passivateAfterMs >= s.ttlMs,
    otherwise: (s) => `PASSIVATE_AFTER_MS (${s.passivateAfterMs}) must not be below TTL_MS (${s.ttlMs}).`,
  },
  {
    // Otherwise retention drops readings that may still arrive again, and they would count twice.
    holds: (s) => s.historyRetentionDays === 0 || s.historyRetentionDays * DAY_MS > s.latenessMs,
    otherwise: (s) =>
      `HISTORY_RETENTION_DAYS (${s.historyRetentionDays}) must be longer than LATENESS_MS (${s.latenessMs}).`,
  },
  {
    holds: (s) => s.s3Endpoint === null || missingOfS3(s).length === 0,
    otherwise: (s) => `S3_ENDPOINT needs ${missingOfS3(s).join(', ')}.`,
  },
  {
    // Retention waits for the archive: history would be kept for longer than this setting says.
    holds: (s) =>
      s.archiveAfterDays === 0 || s.historyRetentionDays === 0 || s.archiveAfterDays <= s.historyRetentionDays,
    otherwise: (s) =>
      `ARCHIVE_AFTER_DAYS (${s.archiveAfterDays}) must not be above HISTORY_RETENTION_DAYS (${s.historyRetentionDays}): retention waits for the archive.`,
  },
  {
    // Otherwise a day would expire before it is written.
    holds: (s) => s.archiveAfterDays === 0 || s.archiveKeepDays === 0 || s.archiveKeepDays > s.archiveAfterDays,
    otherwise: (s) =>
      `ARCHIVE_KEEP_DAYS (${s.archiveKeepDays}) must be longer than ARCHIVE_AFTER_DAYS (${s.archiveAfterDays}).`,
  },
  {
    // Each node would look for the archive in its own data folder, and one of them has it.
    holds: (s) => s.archiveAfterDays === 0 || s.natsUrl === null || s.s3Endpoint !== null || s.archiveDir !== null,
    otherwise: () =>
      'ARCHIVE_AFTER_DAYS with NATS_URL needs S3_ENDPOINT, or ARCHIVE_DIR with a folder that all nodes share.',
  },
  {
    // What one MQTT message may carry has to fit through the HTTP door too.
    holds: (s) => s.maxBodyBytes >= s.maxPayloadBytes,
    otherwise: (s) => `MAX_BODY_BYTES (${s.maxBodyBytes}) must not be below MAX_PAYLOAD_BYTES (${s.maxPayloadBytes}).`,
  },
  {
    holds: (s) => distinct(s.port, s.mqttListenPort, s.mqttWsPort),
    otherwise: (s) =>
      `PORT (${s.port}), MQTT_LISTEN_PORT (${s.mqttListenPort}) and MQTT_WS_PORT (${s.mqttWsPort}) must differ.`,
  },
];

function missingOfS3(s: Related): string[] {
  const needed = {
    S3_BUCKET: s.s3Bucket,
    AWS_ACCESS_KEY_ID: s.awsAccessKeyId,
    AWS_SECRET_ACCESS_KEY: s.awsSecretAccessKey,
  };
  return Object.entries(needed).flatMap(([name, value]) => (value === null ? [name] : []));
}

function distinct(...ports: number[]): boolean {
  const taken = ports.filter((port) => port !== 0);
  return new Set(taken).size === taken.length;
}
