import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import moleculer, { type ServiceBroker } from 'moleculer';
import { Directory } from '../../actors/placement/directory.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { Pg } from '../../actors/store/pg.ts';
import { loadSettings } from '../../config/settings.ts';
import { routeBy } from '../../mixins/routing.ts';
import { brokerOptions } from '../../moleculer.config.ts';
import { createLogger } from '../../services/logger.ts';
import { NodeProcess } from '../e2e/node-process.ts';
import { findNats } from './nats.ts';
import { findPostgres } from './postgres.ts';

/** A mesh of real node processes over a real NATS and PostgreSQL, and a caller that is in it without owning anything. */
export interface Mesh {
  sql: Pg;
  env: Record<string, string>;
  broker: ServiceBroker;
  directory: Directory;
  nodes: Map<string, NodeProcess>;
  start(name: string, env?: Record<string, string>): Promise<NodeProcess>;
  /** SIGTERM, and waits for its end; the exit code. */
  end(name: string): Promise<number>;
  /** Resolves when each of the shards has a living owner among the nodes of this mesh. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

export interface MeshOptions {
  ttlMs?: number;
  shards?: number;
  env?: Record<string, string>;
}

/** Null, with a printed reason, where the servers cannot be had. */
export async function startMesh(options: MeshOptions = {}): Promise<Mesh | null> {
  const postgres = await findPostgres();
  const nats = postgres && (await findNats());
  if (postgres === null || nats === null) {
    await postgres?.stop();
    return null;
  }
  const folder = mkdtempSync(join(tmpdir(), 'twinmesh-mesh-'));
  const { ttlMs = 2_000, shards = 64 } = options;
  const url = await postgres.database();
  const env = {
    NATS_URL: nats.url,
    DATABASE_URL: url,
    TTL_MS: String(ttlMs),
    SHARDS: String(shards),
    RATE_LIMIT_PER_MINUTE: '10000000',
    METRICS_PORT: '0',
    LOG_LEVEL: 'info',
    ...options.env,
  };
  const sql = await Pg.open({ url, maxConnections: 5 });
  const settings = loadSettings({ ...env, NODE_ID: 'caller', ROLES: 'gateway' });
  const logger = createLogger({ level: process.env.TEST_LOG ?? 'silent', format: 'json', node: 'caller' });
  const broker = new moleculer.ServiceBroker({
    ...brokerOptions(settings, logger),
    skipProcessEventRegistration: true,
  });
  const directory = new Directory({
    shards,
    look: () =>
      sql.query<{ shard: number; owner: string | null; epoch: number }>(
        'select shard::int, owner, epoch::int from shards order by shard',
      ),
    clock: systemClock,
    everyMs: ttlMs / 4,
    onError: () => undefined,
  });
  routeBy(broker, directory);
  broker.createService({
    name: 'caller',
    events: {
      'shards.moved'(ctx: { params: { moved: [number, string | null, number][] } }) {
        directory.observe(ctx.params.moved.map(([shard, owner, epoch]) => ({ shard, owner, epoch })));
      },
    },
  });
  const nodes = new Map<string, NodeProcess>();
  const mesh: Mesh = {
    sql,
    env,
    broker,
    directory,
    nodes,
    async start(name, own = {}) {
      const node = NodeProcess.start(folder, { ...env, NODE_ID: name, DATA_DIR: join(folder, name), ...own });
      nodes.set(name, node);
      await node.until(/keys, devices/);
      return node;
    },
    async end(name) {
      const node = nodes.get(name) as NodeProcess;
      node.signal('SIGTERM');
      const code = await node.ended();
      nodes.delete(name);
      return code;
    },
    async settled() {
      for (;;) {
        await directory.doubt();
        const counts = directory.counts();
        const owned = [...counts].reduce((sum, [node, n]) => sum + (nodes.has(node) ? n : 0), 0);
        if (owned === shards) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async stop() {
      await Promise.all([...nodes.keys()].map((name) => mesh.end(name)));
      directory.close();
      await broker.stop();
      await sql.close();
      await nats.stop();
      await postgres.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await broker.start();
  directory.start();
  return mesh;
}
