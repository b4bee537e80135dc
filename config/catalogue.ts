import { ARCHIVE } from './catalogue-archive.ts';
import { EVENTS } from './catalogue-events.ts';
import { MODELS } from './catalogue-models.ts';
import { OBSERVABILITY } from './catalogue-observability.ts';
import { choice, decimal, flag, hidden, integer, list, port, text, url, urls } from './setting.ts';

/**
 * Every setting, once. The name is the environment variable and the key in twinmesh.config.json; in the program it is
 * the same name in camelCase. `npm start -- --help` and docs/operations.md follow from this table.
 */
export const CATALOGUE = {
  // mesh
  ROLES: list(
    'roles, separated by commas',
    /^(host|ingest|history|inference|gateway)$/,
    'mesh',
    ['host', 'ingest', 'history', 'inference', 'gateway'],
    'What this node does: host = it owns twins; ingest = it reads MQTT and Kafka and takes telemetry; history = lists, history, replay and analytics; inference = it runs models; gateway = HTTP. Less than all needs NATS_URL and DATABASE_URL.',
  ),
  NODE_ID: text(
    '1 to 64 characters of A-Z a-z 0-9 . _ -',
    /^[A-Za-z0-9._-]{1,64}$/,
    'mesh',
    null,
    'Name of this node in the ownership tables; left out, node-1, and in a mesh the name of the machine. Two nodes of one name on one database fence each other off; give each its own.',
  ),
  NATS_URL: urls(
    ['nats:', 'tls:'],
    'mesh',
    null,
    'NATS servers, separated by commas: the mesh between nodes, and JetStream as the log. Needs DATABASE_URL. User and password go into the URL. Left out, one node does everything.',
  ),
  NATS_CREDENTIALS_FILE: text(
    'a file',
    /^[^\0]+$/,
    'mesh',
    null,
    'Credentials (JWT and seed, as nsc writes them) in place of user and password in NATS_URL.',
  ),
  LOG_MAX_BYTES: integer(
    'bytes',
    1_048_576,
    2 ** 50,
    'mesh',
    8_589_934_592,
    'What the JetStream log may hold. A full log refuses, sources are not acknowledged and wait: larger bridges a longer outage of the database. NATS refuses to start a stream larger than its disk.',
  ),
  LOG_REPLICAS: integer(
    'servers',
    1,
    5,
    'mesh',
    1,
    'NATS servers that keep a copy of the log. 3 survives the loss of one server and its disk, and appends wait for two of them.',
  ),
  LOG_RESERVE_MESSAGES: integer(
    'messages',
    0,
    100_000_000,
    'mesh',
    10_000,
    'Messages of the log that are kept below what all shards have committed. More lets a database that was restored from an older backup read them again.',
  ),

  // listening
  HOST: text(
    'an address or host name',
    /^[A-Za-z0-9.:_-]+$/,
    'listening',
    '127.0.0.1',
    'Address that the gateway and the MQTT broker bind. The default is reachable from this machine only; 0.0.0.0 opens both to the network, so put TLS in front.',
  ),
  PORT: port('listening', 8080, 'Port of the HTTP gateway.'),
  MQTT_LISTEN_PORT: port(
    'listening',
    1883,
    'Port of the embedded MQTT broker over TCP. It does not listen when MQTT_URL or MQTT_HOST names another broker.',
  ),
  MQTT_WS_PORT: port('listening', 9002, 'Port of the embedded MQTT broker over WebSocket.'),
  MQTT_ANONYMOUS: choice(
    ['refuse', 'loopback', 'on'],
    'listening',
    'refuse',
    'Whether the embedded MQTT broker takes connections without a key, and lets them speak as any device: loopback = those of this machine; on = everybody who reaches it.',
  ),

  // storage
  DATA_DIR: text(
    'a folder',
    /^[^\0]+$/,
    'storage',
    './data',
    'Folder of the embedded database and of the control socket, relative to where twinmesh is started. One process at a time may use it.',
  ),
  DATABASE_URL: url(
    ['postgres:', 'postgresql:'],
    'storage',
    null,
    'PostgreSQL in place of the embedded database. The role needs the right to create tables, or npm run migrate has been run by one that has.',
  ),
  DATABASE_POOL: integer(
    'connections',
    3,
    200,
    'storage',
    10,
    'Connections that this node opens to PostgreSQL at most, two of them kept for checkpoints. All nodes together stay below max_connections of the server.',
  ),
  PG_HOST: text(
    'an address, host name or socket folder',
    /^[^\0\s]+$/,
    'storage',
    null,
    'PostgreSQL by parts instead of DATABASE_URL, which wins where both are set. Needs PG_USER and PG_DATABASE.',
  ),
  PG_PORT: integer('port', 1, 65_535, 'storage', 5432, 'Port for PG_HOST.'),
  PG_USER: text('a role name', /^[^\0]+$/, 'storage', null, 'Role for PG_HOST.'),
  PG_PASSWORD: hidden(text('text', /^[^\0]*$/, 'storage', null, 'Password for PG_HOST. Left out, none is sent.')),
  PG_DATABASE: text('a database name', /^[^\0]+$/, 'storage', null, 'Database for PG_HOST.'),
  REDIS_URL: url(
    ['redis:', 'rediss:'],
    'storage',
    null,
    'Redis for what several gateways share: rate limits and cached answers. While it is away each counts and caches by itself.',
  ),
  HISTORY_RETENTION_DAYS: integer(
    'days',
    0,
    36_500,
    'storage',
    0,
    'Readings whose event time is older are deleted once they lie below a snapshot. 0 keeps everything.',
  ),

  // runtime
  SHARDS: integer(
    'shards',
    1,
    4096,
    'runtime',
    256,
    'Units of ownership and ordering, fixed at first start and kept in the database: another number later is refused.',
  ),
  ACK: choice(
    ['log', 'commit'],
    'runtime',
    'log',
    'When a source is told that its reading is safe: log = it survives the death of any process; commit = it is in the database. The embedded log is memory, so there both wait for the commit.',
  ),
  TTL_MS: integer(
    'ms',
    1000,
    600_000,
    'runtime',
    10_000,
    'A node whose beat stood still this long is dead and its shards are claimed. Shorter takes over sooner, and takes over wrongly from a node that only paused.',
  ),
  LATENESS_MS: integer(
    'ms of event time',
    0,
    86_400_000,
    'runtime',
    600_000,
    'Lateness window: older readings are stored as backfill and never folded. Wider remembers more identities a twin, which costs memory.',
  ),
  CUT_MAX_ENTRIES: integer(
    'entries',
    1,
    1_000_000,
    'runtime',
    10_000,
    'A checkpoint is sent at the latest with so many entries. More is faster in bulk; fewer is kinder to the database.',
  ),
  PASSIVATE_AFTER_MS: integer(
    'ms',
    1000,
    2_592_000_000,
    'runtime',
    900_000,
    'A twin that heard nothing for so long leaves memory after a snapshot; its next reading brings it back.',
  ),
  MAX_RESIDENT_MB: integer(
    'MiB',
    16,
    1_048_576,
    'runtime',
    512,
    'Memory for resident twins, estimated; above it the longest idle leave first. Too low and twins go in and out with every reading.',
  ),
  KINDS_DIR: text(
    'a folder',
    /^[^\0]+$/,
    'runtime',
    null,
    'A further folder of kind files (*.ts) beside the built-in ones. They run as part of the server.',
  ),

  // ingest
  MQTT_URL: url(
    ['mqtt:', 'mqtts:', 'ws:', 'wss:'],
    'ingest',
    null,
    'MQTT broker to read from in place of the embedded one. User and password go into the URL. Its own rules decide who may publish.',
  ),
  MQTT_HOST: text(
    'an address or host name',
    /^[A-Za-z0-9.:_-]+$/,
    'ingest',
    null,
    'MQTT broker by parts instead of MQTT_URL, which wins where both are set.',
  ),
  MQTT_PORT: integer('port', 1, 65_535, 'ingest', 1883, 'Port for MQTT_HOST.'),
  MQTT_SHARE_GROUP: text(
    '1 to 64 characters of A-Z a-z 0-9 . _ -, or none',
    /^[A-Za-z0-9._-]{1,64}$/,
    'ingest',
    'twinmesh',
    'Shared subscription ($share) under which ingest nodes divide the messages of MQTT_URL among themselves. none = each node gets every message, for brokers without shared subscriptions and one ingest node.',
  ),
  KAFKA_BROKERS: list(
    'host:port, separated by commas',
    /^[A-Za-z0-9.:_[\]-]+:\d{1,5}$/,
    'ingest',
    [],
    'Kafka servers to read telemetry from and to write events to. Empty: no Kafka.',
  ),
  KAFKA_GROUP: text(
    '1 to 128 characters of A-Z a-z 0-9 . _ -',
    /^[A-Za-z0-9._-]{1,128}$/,
    'ingest',
    'twinmesh',
    'Consumer group of the ingest nodes. Another name starts from the earliest message that Kafka still has.',
  ),
  KAFKA_TLS: flag('ingest', false, 'Whether connections to KAFKA_BROKERS are encrypted.'),
  KAFKA_SASL: choice(
    ['none', 'plain', 'scram-sha-256', 'scram-sha-512'],
    'ingest',
    'none',
    'How a node signs in to Kafka, with KAFKA_USER and KAFKA_PASSWORD. plain sends the password as it is, so use it with KAFKA_TLS.',
  ),
  KAFKA_USER: text('text', /^[^\0]+$/, 'ingest', null, 'User for KAFKA_SASL.'),
  KAFKA_PASSWORD: hidden(text('text', /^[^\0]*$/, 'ingest', null, 'Password for KAFKA_SASL.')),
  MAX_SKEW_MS: integer(
    'ms',
    0,
    86_400_000,
    'ingest',
    300_000,
    'A reading whose time lies further ahead of the server is refused as future_time.',
  ),
  MAX_PAYLOAD_BYTES: integer(
    'bytes',
    256,
    67_108_864,
    'ingest',
    1_048_576,
    'One MQTT message or one NDJSON line may be so long; a longer one is refused as too_large. Every MQTT connection may hold that much memory, and 16 MiB in any case: what is larger than both costs its sender the connection.',
  ),

  // access
  MAX_BODY_BYTES: integer(
    'bytes',
    256,
    268_435_456,
    'access',
    8_388_608,
    'One HTTP body may be so long, after decompression; a longer one is answered 413.',
  ),
  RATE_LIMIT_PER_MINUTE: integer(
    'requests',
    1,
    10_000_000,
    'access',
    1000,
    'Requests a minute for each key, and for each address without one; above it 429.',
  ),
  TLS_CA_FILE: text(
    'a file (PEM)',
    /^[^\0]+$/,
    'access',
    null,
    'Authorities that certificates of other servers (NATS, PostgreSQL, Redis, MQTT, Kafka, OTLP) are checked against, in place of those of the system.',
  ),
  TLS_CERT_FILE: text(
    'a file (PEM)',
    /^[^\0]+$/,
    'access',
    null,
    'Certificate that this node shows to servers that ask for one. Needs TLS_KEY_FILE.',
  ),
  TLS_KEY_FILE: text('a file (PEM)', /^[^\0]+$/, 'access', null, 'Key of TLS_CERT_FILE.'),
  CORS_ORIGINS: list(
    'origins such as https://ops.example.com, separated by commas',
    /^https?:\/\/[A-Za-z0-9.:[\]-]+$/,
    'access',
    [],
    'Web origins whose pages may call the gateway. Empty: none but its own.',
  ),

  ...MODELS,
  ...EVENTS,
  ...ARCHIVE,
  ...OBSERVABILITY,

  // demo
  DEMO: flag(
    'demo',
    true,
    'A demo fleet publishes over MQTT as devices would. Its twins stay in the database, and where its assets were in `DATA_DIR/demo-fleet.json`, from where the next start goes on; switch it off for a fleet of your own. In a mesh it is off unless set, and set on one ingest node only.',
  ),
  DEMO_SEED: integer(
    '',
    0,
    4_294_967_295,
    'demo',
    1,
    'Seed of the simulators: the same seed gives the same assets and the same course of noise.',
  ),
  SIMULATION_INTERVAL: decimal(
    's',
    0.05,
    3600,
    'demo',
    null,
    'Seconds between two messages of each demo asset. Left out, each kind has its own: 2 s for batteries and machines.',
  ),
  SPEED_FACTOR: decimal(
    'times',
    0.01,
    100,
    'demo',
    1,
    'Divides the interval: 10 sends ten times as often. Times in the messages stay those of the wall clock.',
  ),
} as const;

/** Other names under which deployments know a setting; the setting's own name wins. */
export const ALIASES: Readonly<Record<string, string>> = {
  KAFKA_BOOTSTRAP_SERVERS: 'KAFKA_BROKERS',
  MLFLOW_S3_ENDPOINT_URL: 'S3_ENDPOINT',
  MODEL_PATH: 'MODELS_DIR',
};

/**
 * Names of parts that this version does not have. A URL among them is refused, because whoever sets it counts on the
 * part. `note` is said at start; `ignore` is for names that other programs set too and that mean nothing alone.
 */
export const UNBUILT: Readonly<Record<string, { part: string; answer: 'refuse' | 'note' | 'ignore' }>> = {
  NEO4J_URL: { part: 'the equipment graph', answer: 'refuse' },
  CHROMA_URL: { part: 'the vector store', answer: 'refuse' },
  FILTER_TODAY_ONLY: { part: 'a filter of demo data by day (the demo sends readings of now)', answer: 'note' },
};
