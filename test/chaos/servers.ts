import { cpSync, existsSync, rmSync } from 'node:fs';
import { findKafka, type KafkaServer } from '../servers/kafka.ts';
import { findMosquittoServer, type MosquittoServer } from '../servers/mosquitto.ts';
import { findNats, type NatsServer } from '../servers/nats.ts';
import { findPostgres, type PostgresServer } from '../servers/postgres.ts';
import { findRedis, type RedisServer } from '../servers/redis.ts';
import { Disk } from './disk.ts';

/** The real servers of a run, each of its own and with a disk of its own where it has one. */
export interface Servers {
  postgres: PostgresServer;
  databaseUrl: string;
  nats: NatsServer | null;
  mosquitto: MosquittoServer;
  kafka: KafkaServer | null;
  redis: RedisServer | null;
  disks: { postgres: Disk; nats: Disk };
  /** What writes to a disk, for machines where it cannot be frozen. */
  writers(disk: 'postgres' | 'nats'): number[];
  stop(): Promise<void>;
}

export type ServerName = 'postgres' | 'nats' | 'mosquitto' | 'kafka' | 'redis';

/** How to get each on Debian and Ubuntu; RUNLEVEL=1 keeps it from starting a copy of its own. */
const INSTALL: Record<ServerName, string> = {
  postgres: 'On Debian and Ubuntu: RUNLEVEL=1 apt-get install postgresql',
  mosquitto: 'On Debian and Ubuntu: RUNLEVEL=1 apt-get install mosquitto',
  redis: 'On Debian and Ubuntu: RUNLEVEL=1 apt-get install redis-server',
  nats: 'Put nats-server into the PATH (https://nats.io/download), or install Go, with which it is built once: apt-get install golang-go',
  kafka: 'It is fetched once by Maven and needs Java 17: apt-get install maven default-jre-headless',
};

/** Throws where one of `wanted` cannot be had; those of `welcome` are there where they can be. */
export async function startServers(
  wanted: ReadonlySet<ServerName>,
  welcome: ReadonlySet<ServerName> = new Set(),
  plainDisks = false,
): Promise<Servers> {
  const disks = { postgres: Disk.make('postgres', 6_000, plainDisks), nats: Disk.make('nats', 2_000, plainDisks) };
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of stops.splice(0).reverse()) await end().catch(() => undefined);
    disks.postgres.remove();
    disks.nats.remove();
  };
  const need = <T extends { stop(): Promise<void> }>(name: ServerName, found: T | null): T => {
    if (found === null)
      throw new Error(`There is no ${name} on this machine; the reason stands above. ${INSTALL[name]}`);
    stops.push(() => found.stop());
    return found;
  };
  try {
    const settings = ['max_connections=120', 'shared_buffers=256MB', 'max_wal_size=2GB'];
    const postgres = need('postgres', await disks.postgres.during(() => findPostgres({ own: true, settings })));
    const mosquitto = need('mosquitto', await findMosquittoServer());
    const nats = wanted.has('nats')
      ? need('nats', await disks.nats.during(() => findNats({ own: true, syncInterval: '2s' })))
      : null;
    const perhaps = async <T extends { stop(): Promise<void> }>(name: ServerName, find: () => Promise<T | null>) => {
      if (wanted.has(name)) return need(name, await find());
      if (!welcome.has(name)) return null;
      const found = await find().catch(() => null);
      return found === null ? null : need(name, found);
    };
    const redis = await perhaps('redis', () => findRedis({ own: true }));
    const kafka = await perhaps('kafka', () => findKafka({ own: true }));
    return {
      postgres,
      databaseUrl: await postgres.database(),
      nats,
      mosquitto,
      kafka,
      redis,
      disks,
      writers: (disk) => {
        const pid = disk === 'postgres' ? postgres.pid : nats?.pid;
        return pid === null || pid === undefined ? [] : [pid];
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A copy of the streams of a NATS server that does not run, and back. */
export function copyFolder(from: string, to: string): void {
  if (existsSync(to)) rmSync(to, { recursive: true, force: true });
  cpSync(from, to, { recursive: true, preserveTimestamps: true });
}
