import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { makeCertificates } from './certificates.ts';
import { freePort } from './free-port.ts';

/** A real Redis for tests: the one that TEST_REDIS_URL names, else an installed redis-server on a free port, without a disk. */
export interface RedisServer {
  /** redis:// or rediss://, with the password where there is one. */
  url: string;
  port: number;
  /** The authority of its certificate, where it has one. */
  caFile: string | null;
  /** Process id of our own server; null for one that was found. It is another one after a restart. */
  readonly pid: number | null;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again on the same port, empty, ending it first where it runs. */
  restart(): Promise<void>;
}

export interface RedisServerOptions {
  /** Needs a server that it may kill: never the one of TEST_REDIS_URL. */
  own?: boolean;
  password?: string;
  /** Speaks TLS only. */
  tls?: boolean;
}

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export async function findRedis(options: RedisServerOptions = {}): Promise<RedisServer | null> {
  const found = process.env.TEST_REDIS_URL;
  if (found && !options.own && options.password === undefined && !options.tls) return foreign(found);
  const folders = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/bin', '/usr/local/bin'].filter(Boolean);
  const program = folders.map((folder) => path.join(folder, 'redis-server')).find((file) => fs.existsSync(file));
  if (program === undefined) {
    const missing = 'redis-server is not installed and TEST_REDIS_URL is not set';
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${missing}.`);
    console.warn(`Tests on a real Redis are skipped: ${missing}.`);
    return null;
  }
  return await start(program, options);
}

async function start(program: string, { password, tls = false }: RedisServerOptions): Promise<RedisServer> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-redis-'));
  const port = await freePort();
  const certificates = tls ? makeCertificates(dir) : null;
  const config = [
    'bind 127.0.0.1',
    `port ${tls ? 0 : port}`,
    'save ""',
    'appendonly no',
    ...(certificates === null
      ? []
      : [
          `tls-port ${port}`,
          `tls-cert-file ${certificates.certFile}`,
          `tls-key-file ${certificates.keyFile}`,
          `tls-ca-cert-file ${certificates.caFile}`,
          'tls-auth-clients no',
        ]),
    ...(password === undefined ? [] : [`requirepass "${password}"`]),
  ];
  const file = path.join(dir, 'redis.conf');
  fs.writeFileSync(file, `${config.join('\n')}\n`, { mode: 0o600 });
  let child: ChildProcess | null = null;
  const killed = () => child?.kill('SIGKILL');
  process.once('exit', killed);

  const run = async (): Promise<void> => {
    const log = fs.openSync(path.join(dir, 'log'), 'a');
    child = spawn(program, [file], { cwd: dir, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    for (let tries = 0; tries < 200 && child.exitCode === null; tries++) {
      if (await listens(port)) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    child.kill('SIGKILL');
    throw new Error(`redis-server did not start:\n${fs.readFileSync(path.join(dir, 'log'), 'utf8').slice(-2000)}`);
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = child;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill(signal);
    // A paused process ends only once it goes on.
    if (signal !== 'SIGKILL') ending.kill('SIGCONT');
    await ended;
  };

  await run();
  const login = password === undefined ? '' : `:${encodeURIComponent(password)}@`;
  return {
    url: `${tls ? 'rediss' : 'redis'}://${login}127.0.0.1:${port}`,
    port,
    caFile: certificates?.caFile ?? null,
    get pid() {
      return child?.pid ?? null;
    },
    async stop() {
      process.off('exit', killed);
      await end('SIGTERM');
      fs.rmSync(dir, { recursive: true, force: true });
    },
    kill: () => end('SIGKILL'),
    async restart() {
      await end('SIGTERM');
      await run();
    },
  };
}

function foreign(url: string): RedisServer {
  const refuse = () => Promise.reject(new Error('This server was found (TEST_REDIS_URL); a test must not end it.'));
  return {
    url,
    port: Number(new URL(url).port) || 6379,
    caFile: null,
    pid: null,
    stop: () => Promise.resolve(),
    kill: refuse,
    restart: refuse,
  };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
