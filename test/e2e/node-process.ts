import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { inherited } from '../servers/short-lived.ts';

/** A node of its own process, as `npm start` runs it, on free ports. */
export const ROOT = join(import.meta.dirname, '..', '..');

/** Nodes are started by the dozen: what one has compiled the next one reads. Goes with the packages. */
export const COMPILED = join(ROOT, 'node_modules', '.cache', 'compiled');

export class NodeProcess {
  readonly #child: ChildProcess;
  readonly #exit: Promise<number>;
  #output = '';
  #ended = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exit = new Promise((resolve) =>
      child.on('exit', (code) => {
        this.#ended = true;
        resolve(code ?? -1);
      }),
    );
    child.stdout?.on('data', (chunk) => this.#take(chunk));
    child.stderr?.on('data', (chunk) => this.#take(chunk));
  }

  static start(folder: string, env: Record<string, string> = {}, args: string[] = []): NodeProcess {
    return NodeProcess.run(folder, [join(ROOT, 'services/main.ts'), ...args], env);
  }

  /** Any program under the Node that runs the tests, with nothing of the test's environment but the path. */
  static run(folder: string, args: string[], env: Record<string, string> = {}): NodeProcess {
    const free = {
      PORT: '0',
      MQTT_LISTEN_PORT: '0',
      MQTT_WS_PORT: '0',
      LOG_FORMAT: 'json',
      NODE_COMPILE_CACHE: COMPILED,
    };
    const child = spawn(process.execPath, [...inherited(), ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, ...free, ...env },
    });
    return new NodeProcess(child);
  }

  #take(chunk: Buffer): void {
    this.#output += chunk.toString('utf8');
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get output(): string {
    return this.#output;
  }

  /** Waits until the output matches; throws with the output when the process ends before. */
  async until(pattern: RegExp): Promise<RegExpMatchArray> {
    for (;;) {
      const found = this.#output.match(pattern);
      if (found) return found;
      if (this.#ended) throw new Error(`ended without ${pattern}:\n${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  signal(name: NodeJS.Signals): void {
    if (!this.#ended) this.#child.kill(name);
  }

  /** Its exit code, once it has ended. */
  ended(): Promise<number> {
    return this.#exit;
  }
}

/** Where a running node listens, read from its banner. */
export interface Whereabouts {
  http: string;
  mqttPort: number;
  /** Null when the banner showed none: the database had keys already. */
  key: string | null;
}

export async function whereabouts(node: NodeProcess): Promise<Whereabouts> {
  const [, http] = await node.until(/API\s+(http:\S+)\/api\/v1\/twins[\s\S]*npm run -s device/);
  const [, mqttPort] = await node.until(/mqtt:\/\/[^\s:]+:(\d+)/);
  const key = node.output.match(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/)?.[0] ?? null;
  return { http, mqttPort: Number(mqttPort), key };
}

/** Asks again until the answer is what is waited for; the test's own timeout bounds it. */
export async function eventually<T>(ask: () => Promise<T>, wanted: (answer: T) => boolean, everyMs = 100): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (wanted(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
