import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { freePort } from './free-port.ts';

/**
 * A real PostgreSQL for tests: the one that TEST_DATABASE_URL names (a role that may create databases), else a
 * temporary cluster of an installed PostgreSQL on a free port, started as the user `postgres` where we are root.
 */
export interface PostgresServer {
  /** URL of the maintenance database. */
  url: string;
  /** Makes an empty database and answers its URL. */
  database(): Promise<string>;
  /** Process id of our own server; null for one that was found. It is another one after a restart. */
  readonly pid: number | null;
  stop(): Promise<void>;
  /**
   * Ends it and starts it again on the same port and folder. SIGQUIT (default) is an immediate shutdown, as after a power
   * cut of the process: sessions are broken off, and the start recovers from the write-ahead log.
   */
  restart(signal?: 'SIGQUIT' | 'SIGINT'): Promise<void>;
}

export interface PostgresServerOptions {
  /** Needs a server that it may end: never the one of TEST_DATABASE_URL. */
  own?: boolean;
  /** Further settings of the server, `name=value`. */
  settings?: readonly string[];
}

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export async function findPostgres(options: PostgresServerOptions = {}): Promise<PostgresServer | null> {
  const found = process.env.TEST_DATABASE_URL;
  if (found && !options.own) return foreign(found);
  const bin = installed();
  const user = process.getuid?.() === 0 ? postgresUser() : null;
  const missing =
    bin === null
      ? 'no PostgreSQL is installed (/usr/lib/postgresql/*/bin/initdb) and TEST_DATABASE_URL is not set'
      : process.getuid?.() === 0 && user === null
        ? 'PostgreSQL does not run as root and there is no user postgres'
        : null;
  if (missing !== null) {
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${missing}.`);
    console.warn(`Tests on a real PostgreSQL are skipped: ${missing}.`);
    return null;
  }
  return await start(bin!, user, options.settings ?? []);
}

interface User {
  uid: number;
  gid: number;
}

async function start(bin: string, user: User | null, settings: readonly string[]): Promise<PostgresServer> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-postgres-'));
  if (user) fs.chownSync(dir, user.uid, user.gid);
  const as = user ? { uid: user.uid, gid: user.gid } : {};
  const data = path.join(dir, 'data');
  const made = spawnSync(
    path.join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
    { ...as, cwd: dir, encoding: 'utf8' },
  );
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr || made.error}`);
  const port = await freePort();
  const args = [
    '-D',
    data,
    '-p',
    String(port),
    '-k',
    dir,
    '-c',
    'listen_addresses=127.0.0.1',
    '-c',
    'max_connections=60',
  ];
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  let child: ChildProcess | null = null;
  const killed = () => child?.kill('SIGKILL');
  process.once('exit', killed);
  const run = async (): Promise<void> => {
    const log = fs.openSync(path.join(dir, 'log'), 'a');
    const more = settings.flatMap((setting) => ['-c', setting]);
    child = spawn(path.join(bin, 'postgres'), [...args, ...more], { ...as, cwd: dir, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    await ready(url, child, path.join(dir, 'log'));
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = child;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill(signal);
    await ended;
  };
  await run();
  return {
    url,
    get pid() {
      return child?.pid ?? null;
    },
    database: databases(url).database,
    async restart(signal = 'SIGQUIT') {
      await end(signal);
      await run();
    },
    async stop() {
      process.off('exit', killed);
      // Fast shutdown: sessions are ended. Our own cluster goes as a whole.
      await end('SIGINT');
      fs.rmSync(dir, { recursive: true, force: true });
    },
  };
}

function foreign(url: string): PostgresServer {
  const { database, made } = databases(url);
  return {
    url,
    pid: null,
    database,
    restart: () => Promise.reject(new Error('This server was found (TEST_DATABASE_URL); a test must not end it.')),
    async stop() {
      for (const name of made) await once(url, `drop database if exists ${name} with (force)`);
    },
  };
}

function databases(url: string): { made: readonly string[]; database(): Promise<string> } {
  const made: string[] = [];
  return {
    made,
    async database() {
      const name = `twinmesh_test_${process.pid}_${made.length}_${Math.trunc(performance.now())}`;
      await once(url, `create database ${name}`);
      made.push(name);
      const own = new URL(url);
      own.pathname = `/${name}`;
      return own.toString();
    },
  };
}

async function once(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}

async function ready(url: string, child: ChildProcess, log: string): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    if (child.exitCode !== null) break;
    try {
      await once(url, 'select 1');
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  child.kill('SIGKILL');
  throw new Error(`PostgreSQL did not start:\n${fs.readFileSync(log, 'utf8').slice(-2000)}`);
}

/** The newest installed server. */
function installed(): string | null {
  const root = '/usr/lib/postgresql';
  const versions = fs.existsSync(root) ? fs.readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((version) => path.join(root, version, 'bin')), '/usr/local/bin', '/usr/bin'];
  return folders.find((folder) => fs.existsSync(path.join(folder, 'initdb'))) ?? null;
}

function postgresUser(): User | null {
  const line = fs
    .readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('postgres:'));
  const [, , uid, gid] = line?.split(':') ?? [];
  return uid ? { uid: Number(uid), gid: Number(gid) } : null;
}
