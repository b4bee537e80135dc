import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Pg } from '../../actors/store/pg.ts';
import { NodeProcess } from '../../test/e2e/node-process.ts';
import { freePort } from '../../test/servers/free-port.ts';

/** Who takes readings from an MQTT broker and stores them in PostgreSQL: each in a process of its own. */
export interface Contender {
  name: string;
  /** Why it cannot be had here; null when it can. May install it. */
  missing(): string | null;
  /** Makes what it needs in an empty database. */
  prepare(sql: Pg): Promise<void>;
  /** Resolves when it listens to the broker. */
  start(places: Places): Promise<NodeProcess>;
  /** Readings stored, and how many of them are different ones. */
  stored: string;
  distinct: string;
  needsNats: boolean;
}

export interface Places {
  folder: string;
  mqttUrl: string;
  databaseUrl: string;
  natsUrl: string;
}

const HERE = import.meta.dirname;
const NODE_RED_VERSION = '5.0.7';
const PG_VERSION = '8.23.1';
const nodeRedFolder = () => join(homedir(), '.cache', 'twinmesh', `node-red-${NODE_RED_VERSION}`);

const TABLE = `
  create table readings (
    id bigserial primary key, machine_id text not null, at timestamptz not null, received_at timestamptz not null default now(),
    temperature float8, vibration float8, pressure float8, power float8
  );
  create index readings_machine_at on readings (machine_id, at);`;
const IN_TABLE = {
  prepare: (sql: Pg) => sql.exec(TABLE).then(() => undefined),
  stored: 'select count(*)::int as n from readings',
  distinct: 'select count(*)::int as n from (select distinct machine_id, at from readings) as r',
  needsNats: false,
};

export const COLLECTOR: Contender = { name: 'a collector, one INSERT a message', ...collector({}), ...IN_TABLE };
export const CAREFUL: Contender = {
  name: 'a collector that acknowledges after the INSERT, one at a time',
  ...collector({ ACK_AFTER: '1' }),
  ...IN_TABLE,
};

export const NODE_RED: Contender = {
  name: `Node-RED ${NODE_RED_VERSION} doing the same`,
  missing: installNodeRed,
  async start({ folder, mqttUrl, databaseUrl }) {
    const { hostname, port } = new URL(mqttUrl);
    const user = join(folder, 'node-red');
    mkdirSync(user, { recursive: true });
    copyFileSync(join(HERE, 'node-red', 'flows.json'), join(user, 'flows.json'));
    const node = NodeProcess.run(
      folder,
      [
        join(nodeRedFolder(), 'node_modules', 'node-red', 'red.js'),
        '--settings',
        join(HERE, 'node-red', 'settings.cjs'),
        '--userDir',
        user,
      ],
      {
        HOME: folder,
        NODE_RED_FOLDER: nodeRedFolder(),
        NODE_RED_PORT: String(await freePort()),
        MQTT_HOST: hostname,
        MQTT_PORT: port,
        DATABASE_URL: databaseUrl,
      },
    );
    await node.until(/Connected to broker/);
    return node;
  },
  ...IN_TABLE,
};

export const TWINMESH: Contender = { name: 'twinmesh, one node', ...twinmesh(false) };
export const TWINMESH_NATS: Contender = { name: 'twinmesh, one node with JetStream', ...twinmesh(true) };

function collector(env: Record<string, string>): Pick<Contender, 'missing' | 'start'> {
  return {
    missing: () => null,
    async start({ folder, mqttUrl, databaseUrl }) {
      const node = NodeProcess.run(folder, [join(HERE, 'collector.ts')], {
        MQTT_URL: mqttUrl,
        DATABASE_URL: databaseUrl,
        ...env,
      });
      await node.until(/listening/);
      return node;
    },
  };
}

function twinmesh(nats: boolean): Omit<Contender, 'name'> {
  return {
    missing: () => null,
    prepare: () => Promise.resolve(),
    stored: 'select count(*)::int as n from machine_readings',
    distinct: 'select count(*)::int as n from (select distinct twin, at from machine_readings) as r',
    needsNats: nats,
    async start({ folder, mqttUrl, databaseUrl, natsUrl }) {
      const node = NodeProcess.start(folder, {
        MQTT_URL: mqttUrl,
        DATABASE_URL: databaseUrl,
        DEMO: 'off',
        LOG_LEVEL: 'warn',
        NODE_ID: 'bench',
        TTL_MS: '2000',
        ...(nats ? { NATS_URL: natsUrl } : {}),
      });
      await node.until(/keys, devices/);
      return node;
    },
  };
}

/** Once a machine, into a folder of the cache. */
function installNodeRed(): string | null {
  const folder = nodeRedFolder();
  const program = join(folder, 'node_modules', 'node-red', 'red.js');
  if (existsSync(program)) return null;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const packages = [`node-red@${NODE_RED_VERSION}`, `pg@${PG_VERSION}`];
  const done = spawnSync('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', ...packages], {
    cwd: folder,
    encoding: 'utf8',
  });
  if (done.status === 0 && existsSync(program)) return null;
  return `npm could not install it: ${(done.stderr || String(done.error)).trim().slice(-300)}`;
}
