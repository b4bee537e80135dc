import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { freePort } from './free-port.ts';

/** A real Mosquitto for tests: an installed one on a free port, which keeps sessions and queued messages on disk. */
export interface MosquittoServer {
  url: string;
  port: number;
  /** It is another one after a restart. */
  readonly pid: number | null;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
  /** kill -9: what it had not written down is gone. */
  kill(): Promise<void>;
  /** Starts it again on the same port and folder, ending it in order first where it runs: it writes everything down then. */
  restart(): Promise<void>;
}

const PLACES = ['/usr/sbin', '/usr/local/sbin', '/usr/bin', '/opt/homebrew/sbin'];

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export async function findMosquittoServer(): Promise<MosquittoServer | null> {
  const program = PLACES.map((place) => path.join(place, 'mosquitto')).find((file) => fs.existsSync(file));
  if (program === undefined) {
    const missing = `Mosquitto is not installed (looked in ${PLACES.join(', ')})`;
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${missing}.`);
    console.warn(`Tests on a real Mosquitto are skipped: ${missing}.`);
    return null;
  }
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-mosquitto-'));
  const port = await freePort();
  const file = path.join(dir, 'mosquitto.conf');
  const lines = [
    `listener ${port} 127.0.0.1`,
    'allow_anonymous true',
    'max_queued_messages 0',
    'max_inflight_messages 500',
    'persistence true',
    `persistence_location ${dir}/`,
    'autosave_interval 1',
    ...(process.getuid?.() === 0 ? ['user root'] : []),
  ];
  fs.writeFileSync(file, `${lines.join('\n')}\n`);
  let child: ChildProcess | null = null;
  const killed = () => child?.kill('SIGKILL');
  process.once('exit', killed);
  const run = async (): Promise<void> => {
    child = spawn(program, ['-c', file], { stdio: 'ignore' });
    for (let tries = 0; tries < 200 && child.exitCode === null; tries++) {
      if (await listens(port)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    child.kill('SIGKILL');
    throw new Error('Mosquitto does not start.');
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
    url: `mqtt://127.0.0.1:${port}`,
    port,
    get pid() {
      return child?.pid ?? null;
    },
    async stop() {
      process.off('exit', killed);
      await end('SIGKILL');
      fs.rmSync(dir, { recursive: true, force: true });
    },
    kill: () => end('SIGKILL'),
    async restart() {
      await end('SIGTERM');
      await run();
    },
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
