import { mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import moleculer, { type ServiceBroker, type ServiceSchema } from 'moleculer';
import { pino } from 'pino';
import { loadSettings } from '../../../config/settings.ts';
import { holdParts, releaseParts } from '../../../mixins/parts.ts';
import audit from '../../../services/audit.service.ts';
import gateway from '../../../services/gateway.service.ts';
import health from '../../../services/health.service.ts';
import { firstAdminKey } from '../../../services/keys/first-key.ts';
import { mintKey } from '../../../services/keys/hashing.ts';
import { insertKey } from '../../../services/keys/store.ts';
import keys from '../../../services/keys.service.ts';
import kinds from '../../../services/kinds.service.ts';
import { openParts, type Parts } from '../../../services/parts.ts';
import replay from '../../../services/replay.service.ts';
import streams from '../../../services/streams.service.ts';
import twins from '../../../services/twins.service.ts';
import { emptyDatabase } from '../../servers/embedded.ts';

/** A node with the embedded database and the services of the gateway, on a port of its own. */
export interface GatewayNode {
  parts: Parts;
  broker: ServiceBroker;
  port: number;
  dataDir: string;
  adminKey: string;
  /** A key of each role. */
  keys: Record<'viewer' | 'technician' | 'operator' | 'admin' | 'device', string>;
  /** Tells the twins a reading, and waits until it has been committed. */
  tell(kind: string, id: string, values: Record<string, number>, at?: number): Promise<void>;
  http(method: string, path: string, options?: HttpOptions): Promise<HttpAnswer>;
  stop(): Promise<void>;
}

export interface HttpOptions {
  key?: string;
  headers?: Record<string, string>;
  body?: unknown;
  raw?: string | Buffer;
  socketPath?: string;
  /** Hang up once the headers are here: for streams. */
  headersOnly?: boolean;
}

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
  json: any;
}

export const GATEWAY_SERVICES = [audit, health, keys, kinds, replay, streams, twins] as unknown as ServiceSchema[];

/** With `parts` it runs on those of another node, which stays their owner. */
export async function startGateway(
  options: { env?: Record<string, string>; services?: ServiceSchema[]; parts?: Parts } = {},
): Promise<GatewayNode> {
  const dataDir = await mkdtemp(join(tmpdir(), 'tm-gw-'));
  const settings = loadSettings({
    DATA_DIR: dataDir,
    PORT: '0',
    DEMO: 'off',
    MQTT_LISTEN_PORT: '0',
    MQTT_WS_PORT: '0',
    LOG_LEVEL: process.env.TEST_LOG ?? 'silent',
    RATE_LIMIT_PER_MINUTE: '1000000',
    SHARDS: '16',
    ...options.env,
  });
  const logger = pino({ level: settings.logLevel });
  const broker = new moleculer.ServiceBroker({
    logger: false,
    transporter: null,
    requestTimeout: 30_000,
    skipProcessEventRegistration: true,
    tracking: { enabled: true, shutdownTimeout: 2000 },
  });
  const { parts: borrowed } = options;
  if (!borrowed && settings.databaseUrl === null) await emptyDatabase(dataDir);
  const parts = await holdParts(broker, async () =>
    borrowed ? { ...borrowed, settings, close: async () => undefined } : openParts(settings, { logger }),
  );
  const stop = async () => {
    await broker.stop();
    await releaseParts(broker);
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    for (const service of options.services ?? GATEWAY_SERVICES) broker.createService(service);
    const service = broker.createService(gateway as unknown as ServiceSchema) as unknown as { boundPort: number };
    await broker.start();
    const adminKey = (await firstAdminKey(parts.sql)) ?? '';
    const made = {} as GatewayNode['keys'];
    for (const role of ['viewer', 'technician', 'operator', 'admin', 'device'] as const) {
      const minted = mintKey();
      made[role] = minted.key;
      await insertKey(parts.sql, { id: minted.id, name: `a ${role}`, role, hash: minted.hash, createdBy: null });
    }
    const { boundPort: port } = service;
    return {
      parts,
      broker,
      port,
      dataDir,
      adminKey,
      keys: made,
      tell: (kind, id, values, at) => tell(parts, kind, id, values, at),
      http: (method, path, http) => exchange(port, method, path, http),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

let told = 0;

async function tell(
  parts: Parts,
  kind: string,
  id: string,
  values: Record<string, number>,
  at?: number,
): Promise<void> {
  const { shardOf } = await import('../../../actors/protocol/twin-id.ts');
  const now = Date.now();
  await parts.log.append(
    {
      shard: shardOf(`${kind}:${id}`, parts.settings.shards),
      id: `t${told++}-${now}`,
      receivedAt: now,
      readings: [{ kind, id, at: at ?? now, values }],
    },
    { wait: 'commit' },
  );
}

export function exchange(port: number, method: string, path: string, options: HttpOptions = {}): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const payload = options.raw ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
    const headers: Record<string, string | number> = { ...options.headers };
    if (options.key) headers.authorization = `Bearer ${options.key}`;
    if (options.body !== undefined) headers['content-type'] ??= 'application/json';
    if (payload !== undefined) headers['content-length'] ??= Buffer.byteLength(payload);
    const where = options.socketPath ? { socketPath: options.socketPath } : { host: '127.0.0.1', port };
    const req = httpRequest({ ...where, method, path, headers, agent: false }, (res) => {
      if (options.headersOnly) {
        resolve({ status: res.statusCode ?? 0, headers: res.headers, text: '', json: undefined });
        res.destroy();
        return;
      }
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({ status: res.statusCode ?? 0, headers: res.headers, text, json: parsed(text) });
      });
    });
    req.on('error', reject);
    req.end(payload);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
