import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mintKey } from '../../services/keys/hashing.ts';
import { Audit } from './audit.ts';
import { writeCounterModel } from './counter-model.ts';
import { type Network, openNetwork } from './network.ts';
import { ChaosNode } from './node.ts';
import { type ServerName, type Servers, startServers } from './servers.ts';

/**
 * Servers, network and nodes of a run, up in one call and gone in another.
 *
 *  1  Nothing outlives `close`: processes, namespaces, mounts and folders end with it, also when a start fails half-way.
 */
export interface MeshOptions {
  hosts: number;
  /**
   * `alone`: one node that does everything, with the log in its memory. `split`: hosts, two ingest nodes, two gateways, two
   * for inference.
   * `whole`: every node does everything, on this machine's own network.
   */
  layout: 'alone' | 'split' | 'whole';
  ttlMs: number;
  shards: number;
  ack: 'log' | 'commit';
  servers: ReadonlySet<ServerName>;
  /** Further servers, where this machine has them. */
  welcome?: ReadonlySet<ServerName>;
  withoutFence: boolean;
  /** Relays and stopped writers, also where namespaces and frozen disks could be had. */
  relays?: boolean;
  /** The demo fleet publishes beside whatever else sends. */
  demo?: boolean;
  /** Further settings of every node. */
  settings?: Record<string, string>;
  print(line: string): void;
}

const KINDS = fileURLToPath(new URL('./kinds', import.meta.url));

export class Mesh {
  readonly options: MeshOptions;
  readonly servers: Servers;
  readonly network: Network;
  readonly audit: Audit;
  readonly folder: string;
  readonly nodes: ChaosNode[] = [];
  readonly #models: string;
  /** Admin key. */
  key = '';
  readonly #metricsToken = mintKey().key;
  readonly #killAll = (): void => {
    for (const node of this.nodes) node.signal('SIGKILL');
    this.network.remove();
    this.servers.disks.postgres.remove();
    this.servers.disks.nats.remove();
  };

  private constructor(options: MeshOptions, servers: Servers, network: Network, folder: string) {
    this.options = options;
    this.servers = servers;
    this.network = network;
    this.folder = folder;
    this.#models = join(folder, 'models');
    this.audit = new Audit(servers.databaseUrl);
    process.once('exit', this.#killAll);
  }

  static async start(options: MeshOptions): Promise<Mesh> {
    options.print(`starting ${['postgres', 'mosquitto', ...options.servers, ...(options.welcome ?? [])].join(', ')}`);
    const servers = await startServers(options.servers, options.welcome, options.relays);
    const folder = mkdtempSync(join(tmpdir(), 'twinmesh-chaos-'));
    let mesh: Mesh;
    try {
      mesh = new Mesh(options, servers, await openNetwork(options.layout === 'whole' || options.relays), folder);
    } catch (error) {
      await servers.stop();
      throw error;
    }
    try {
      await mesh.#begin();
      return mesh;
    } catch (error) {
      await mesh.close();
      throw error;
    }
  }

  async #begin(): Promise<void> {
    const { hosts, layout } = this.options;
    writeCounterModel(this.#models);
    // The first one makes the tables; the others find them.
    if (layout !== 'split') {
      // One of them plays the demo fleet, over the broker that all share.
      const first = await this.add('node-1', null, layout === 'whole' && this.options.demo ? { DEMO: 'on' } : {});
      await first.ready(90_000);
      const others: ChaosNode[] = [];
      for (let i = 2; i <= hosts; i++) others.push(await this.add(`node-${i}`, null));
      await Promise.all(others.map((node) => node.ready(90_000)));
    } else {
      await (await this.add('host-1', 'host,history')).ready(90_000);
      const rest: [string, string][] = [];
      for (let i = 2; i <= hosts; i++) rest.push([`host-${i}`, 'host,history']);
      for (const i of [1, 2])
        rest.push([`ingest-${i}`, 'ingest'], [`gateway-${i}`, 'gateway'], [`inference-${i}`, 'inference']);
      const others: ChaosNode[] = [];
      for (const [name, roles] of rest) others.push(await this.add(name, roles));
      await Promise.all(others.map((node) => node.ready(90_000)));
    }
    const { id, key, hash } = mintKey();
    await this.audit.install();
    await this.audit.query(`insert into keys (id, name, role, hash) values ($1, 'chaos', 'admin', $2)`, [id, hash]);
    this.key = key;
  }

  /** Makes a node and starts it. `roles` null: all. */
  async add(name: string, roles: string | null, further: Record<string, string> = {}): Promise<ChaosNode> {
    const { ttlMs, shards, ack, withoutFence, settings } = this.options;
    const { servers } = this;
    const link = await this.network.link(name);
    const to = async (url: string, server: ServerName): Promise<string> => {
      const target = new URL(url);
      const [host, port] = (await link.reach(server, Number(target.port))).split(':');
      target.hostname = host;
      target.port = port;
      return target.toString().replace(/\/$/, '');
    };
    const environment: Record<string, string> = {
      DATABASE_URL: await to(servers.databaseUrl, 'postgres'),
      DATABASE_POOL: '6',
      MQTT_URL: await to(servers.mosquitto.url, 'mosquitto'),
      TTL_MS: `${ttlMs}`,
      SHARDS: `${shards}`,
      ACK: ack,
      KINDS_DIR: KINDS,
      MODELS_DIR: this.#models,
      PASSIVATE_AFTER_MS: '20000',
      RATE_LIMIT_PER_MINUTE: '10000000',
      LOG_MAX_BYTES: '1000000000',
      ...settings,
      ...further,
    };
    if (servers.nats) environment.NATS_URL = await to(servers.nats.url, 'nats');
    if (servers.redis) environment.REDIS_URL = await to(servers.redis.url, 'redis');
    if (servers.kafka) {
      const [broker] = servers.kafka.brokers;
      await link.reachAsLocal('kafka', Number(broker.split(':')[1]));
      environment.KAFKA_BROKERS = broker;
    }
    if (roles !== null) environment.ROLES = roles;
    const preload = withoutFence ? [new URL('./without-fence.ts', import.meta.url).href] : [];
    const node = new ChaosNode({
      name,
      folder: this.folder,
      link,
      settings: environment,
      metricsToken: this.#metricsToken,
      preload,
    });
    this.nodes.push(node);
    node.start();
    return node;
  }

  withRole(role: string): ChaosNode[] {
    return this.nodes.filter((node) => node.roles.split(',').includes(role));
  }

  urls(): string[] {
    return this.withRole('gateway').map((node) => node.url);
  }

  /** Counters over all nodes and all that they have been. */
  async counters(names: readonly string[]): Promise<Record<string, number>> {
    const each = await Promise.all(this.nodes.map((node) => node.count(names)));
    return Object.fromEntries(names.map((name) => [name, each.reduce((sum, counts) => sum + (counts[name] ?? 0), 0)]));
  }

  async close(keep = false): Promise<void> {
    for (const node of this.nodes) node.link.heal();
    await Promise.all(this.nodes.map((node) => node.stop(8_000)));
    process.off('exit', this.#killAll);
    await this.audit.close();
    await this.network.close();
    await this.servers.stop();
    if (keep) this.options.print(`kept: ${this.folder}`);
    else rmSync(this.folder, { recursive: true, force: true });
  }
}
