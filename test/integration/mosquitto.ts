import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../servers/free-port.ts';

const PLACES = [
  '/usr/sbin/mosquitto',
  '/usr/local/sbin/mosquitto',
  '/usr/bin/mosquitto',
  '/opt/homebrew/sbin/mosquitto',
];

/** Where Mosquitto is installed, or why the tests that need it are skipped. REQUIRE_SERVERS=1 makes a skip a failure. */
export function findMosquitto(): string | null {
  const found = PLACES.find((place) => existsSync(place)) ?? null;
  if (found === null) {
    const reason = `Mosquitto is not installed (looked in ${PLACES.join(', ')})`;
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(reason);
    console.warn(`skipped: ${reason}`);
  }
  return found;
}

/** A Mosquitto of its own, that can be killed and started again on the same port; it forgets its sessions then. */
export class Mosquitto {
  readonly #binary: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'twinmesh-mosquitto-'));
  #process: ChildProcess | null = null;
  readonly #lines: readonly string[];
  port = 0;

  /** `lines` of mosquitto.conf, behind the listener, in place of `allow_anonymous true`. */
  constructor(binary: string, lines: readonly string[] = ['allow_anonymous true']) {
    this.#binary = binary;
    this.#lines = lines;
  }

  async start(): Promise<void> {
    if (this.port === 0) this.port = await freePort();
    const config = join(this.#folder, 'mosquitto.conf');
    const lines = [
      `listener ${this.port} 127.0.0.1`,
      ...this.#lines,
      'max_queued_messages 0',
      ...(process.getuid?.() === 0 ? ['user root'] : []),
    ];
    writeFileSync(config, `${lines.join('\n')}\n`);
    this.#process = spawn(this.#binary, ['-c', config], { stdio: 'ignore' });
    for (let i = 0; i < 100; i++) {
      if (await listens(this.port)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('Mosquitto does not start');
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const process = this.#process;
    if (process === null) return;
    this.#process = null;
    const ended = new Promise((resolve) => process.once('exit', resolve));
    process.kill(signal);
    await ended;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function listens(port: number): Promise<boolean> {
  const { connect } = await import('node:net');
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
