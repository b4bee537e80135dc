import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { freePort } from './free-port.ts';

/**
 * A real NATS server with JetStream for tests: the one that TEST_NATS_URL names, else our own on a free port with its
 * store in a temporary folder. Its program: `nats-server` on the PATH, else one in ~/.cache/twinmesh, else the pinned
 * version is built there with Go (two minutes, once a machine).
 */
export interface NatsServer {
  url: string;
  port: number;
  /** Process id of our own server; null for one that was found. It is another one after a restart. */
  readonly pid: number | null;
  /** Folder of the streams; null for one that was found. */
  storeDir: string | null;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
  /** kill -9. The folder stays. */
  kill(): Promise<void>;
  /** Starts it again on the same port and folder, ending it first where it runs. */
  restart(): Promise<void>;
}

export interface NatsServerOptions {
  /** Needs a server that it may kill: never the one of TEST_NATS_URL. */
  own?: boolean;
  /** Text for the server's configuration file: accounts, authorization, tls and so on. */
  config?: string;
  /** When written messages are flushed to the disk: 'always' or a duration such as '2m'. Servers from 2.10 on. */
  syncInterval?: string;
  /** User and password that the readiness check and `url` carry, where `config` asks for them. */
  user?: string;
  password?: string;
}

/** Current when this was written; the Go checksum database vouches for its content. */
export const NATS_SERVER_VERSION = 'v2.15.2';

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export async function findNats(options: NatsServerOptions = {}): Promise<NatsServer | null> {
  const found = process.env.TEST_NATS_URL;
  if (found && !options.own && options.config === undefined && options.syncInterval === undefined)
    return foreign(found);
  const program = installed() ?? build();
  if (typeof program !== 'string') {
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${program.missing}.`);
    console.warn(`Tests on a real NATS server are skipped: ${program.missing}.`);
    return null;
  }
  return await start(program, options);
}

async function start(program: string, options: NatsServerOptions): Promise<NatsServer> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-nats-'));
  const storeDir = path.join(dir, 'store');
  const port = await freePort();
  const sync = options.syncInterval === undefined ? '' : `  sync_interval: ${options.syncInterval}\n`;
  const file = path.join(dir, 'nats.conf');
  fs.writeFileSync(
    file,
    `host: 127.0.0.1\nport: ${port}\njetstream {\n  store_dir: "${storeDir}"\n${sync}}\n${options.config ?? ''}\n`,
  );
  const credentials = options.user === undefined ? '' : `${options.user}:${options.password ?? ''}@`;
  let child: ChildProcess | null = null;
  const killed = () => child?.kill('SIGKILL');
  process.once('exit', killed);

  const run = async (): Promise<void> => {
    const log = fs.openSync(path.join(dir, 'log'), 'a');
    child = spawn(program, ['-c', file], { cwd: dir, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    for (let tries = 0; tries < 300 && child.exitCode === null; tries++) {
      if (await greets(port)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    child.kill('SIGKILL');
    throw new Error(`nats-server did not start:\n${fs.readFileSync(path.join(dir, 'log'), 'utf8').slice(-2000)}`);
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
  return {
    url: `nats://${credentials}127.0.0.1:${port}`,
    port,
    get pid() {
      return child?.pid ?? null;
    },
    storeDir,
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

function foreign(url: string): NatsServer {
  const refuse = () => Promise.reject(new Error('This server was found (TEST_NATS_URL); a test must not end it.'));
  return {
    url,
    port: Number(new URL(url.split(',')[0]).port) || 4222,
    pid: null,
    storeDir: null,
    stop: () => Promise.resolve(),
    kill: refuse,
    restart: refuse,
  };
}

const cache = () => path.join(os.homedir(), '.cache', 'twinmesh', `nats-server-${NATS_SERVER_VERSION.slice(1)}`);

function installed(): string | null {
  const folders = [cache(), ...(process.env.PATH ?? '').split(path.delimiter).filter(Boolean)];
  return folders.map((folder) => path.join(folder, 'nats-server')).find((file) => fs.existsSync(file)) ?? null;
}

function build(): string | { missing: string } {
  const go = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/local/go/bin']
    .map((folder) => path.join(folder, 'go'))
    .find((file) => fs.existsSync(file));
  const nowhere = `nats-server is neither on the PATH nor in ${cache()}, TEST_NATS_URL is not set`;
  if (go === undefined) return { missing: `${nowhere}, and there is no go to build it` };
  fs.mkdirSync(path.dirname(cache()), { recursive: true });
  // Two test files may build at once: each in its own folder, and the first one done is used.
  const folder = fs.mkdtempSync(`${cache()}.building-`);
  try {
    const target = `github.com/nats-io/nats-server/v2@${NATS_SERVER_VERSION}`;
    const built = spawnSync(go, ['install', target], { encoding: 'utf8', env: { ...process.env, GOBIN: folder } });
    if (built.status !== 0)
      return { missing: `${nowhere}, and building it failed: ${(built.stderr || String(built.error)).slice(-500)}` };
    fs.mkdirSync(cache(), { recursive: true });
    fs.renameSync(path.join(folder, 'nats-server'), path.join(cache(), 'nats-server'));
    return path.join(cache(), 'nats-server');
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** The server sends INFO to whoever connects (over TCP, also before TLS); JetStream is up when it says so. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    const say = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.includes('\r\n')) say(text.includes('"jetstream":true'));
    });
    socket.on('error', () => say(false));
    socket.on('close', () => say(false));
    socket.setTimeout(1_000, () => say(false));
  });
}
