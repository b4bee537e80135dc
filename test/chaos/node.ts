import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Link } from './network.ts';

/**
 * One node of the mesh as a process of its own: `node services/main.ts` with settings, its output in a file.
 *
 *  1  A node that is killed keeps its name, its link and its port; `start` brings it back with the same settings.
 *  2  Its counters are looked at before it is killed as well: what a process had counted dies with it.
 */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface NodeOptions {
  name: string;
  folder: string;
  link: Link;
  settings: Record<string, string>;
  metricsToken: string;
  /** Modules loaded before the node. */
  preload?: readonly string[];
}

export class ChaosNode {
  readonly name: string;
  readonly link: Link;
  readonly #options: NodeOptions;
  readonly #clockFile: string;
  readonly logFile: string;
  #child: ChildProcess | null = null;
  #exit: Promise<number | null> = Promise.resolve(null);
  /** Sums of counters over all processes that this node has been, as far as they were seen. */
  readonly #counted = new Map<string, { before: number; now: number }>();
  paused = false;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.name = options.name;
    this.link = options.link;
    const home = join(options.folder, options.name);
    mkdirSync(home, { recursive: true });
    this.logFile = join(home, 'output');
    this.#clockFile = join(home, 'clock');
    this.jumpClock(0);
  }

  get url(): string {
    return `http://${this.link.host}:${this.link.port}`;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  get running(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get roles(): string {
    return this.#options.settings.ROLES ?? 'host,ingest,history,inference,gateway';
  }

  start(): void {
    const { link, settings, folder, name, metricsToken, preload = [] } = this.#options;
    const modules = [new URL('./clock-jump.ts', import.meta.url).href, ...preload];
    const [program, ...args] = [
      ...link.prefix,
      process.execPath,
      ...modules.flatMap((module) => ['--import', module]),
      join(ROOT, 'services/main.ts'),
    ];
    for (const count of this.#counted.values()) {
      count.before += count.now;
      count.now = 0;
    }
    const output = openSync(this.logFile, 'a');
    const gateway = this.roles.includes('gateway');
    const child = spawn(program, args, {
      cwd: join(folder, name),
      stdio: ['ignore', output, output],
      env: {
        PATH: process.env.PATH,
        NODE_ID: name,
        HOST: link.host,
        PORT: gateway ? `${link.port}` : '0',
        METRICS_PORT: gateway ? '0' : `${link.port}`,
        MQTT_LISTEN_PORT: '0',
        MQTT_WS_PORT: '0',
        METRICS_TOKEN: metricsToken,
        LOG_FORMAT: 'json',
        DEMO: 'off',
        CHAOS_CLOCK_FILE: this.#clockFile,
        ...settings,
      },
    });
    closeSync(output);
    this.#child = child;
    this.paused = false;
    this.#exit = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  }

  /** Waits until it says that it is ready. Throws with its output when it ends before, or after `withinMs`. */
  async ready(withinMs = 60_000): Promise<void> {
    const until = performance.now() + withinMs;
    while (performance.now() < until) {
      if (!this.running) throw new Error(`${this.name} ended:\n${this.output.slice(-3000)}`);
      const ok = await fetch(`${this.url}/health/ready`, { signal: AbortSignal.timeout(2_000) })
        .then(async (answer) => {
          await answer.arrayBuffer();
          return answer.ok;
        })
        .catch(() => false);
      if (ok) return;
      await sleep(50);
    }
    throw new Error(`${this.name} is not ready after ${withinMs} ms:\n${this.output.slice(-3000)}`);
  }

  get output(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  signal(name: NodeJS.Signals): void {
    if (!this.running) return;
    if (name === 'SIGSTOP') this.paused = true;
    if (name === 'SIGCONT') this.paused = false;
    this.#child?.kill(name);
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#exit;
  }

  /** SIGTERM, and its exit code. */
  async stop(withinMs = 20_000): Promise<number | null> {
    if (!this.running) return null;
    this.signal('SIGCONT');
    this.signal('SIGTERM');
    const late = setTimeout(() => this.signal('SIGKILL'), withinMs);
    const code = await this.#exit;
    clearTimeout(late);
    return code;
  }

  /** Its wall clock differs by so much from now on, within 100 ms. */
  jumpClock(offsetMs: number): void {
    writeFileSync(this.#clockFile, `${offsetMs}`);
  }

  /** The counter summed over all that this node has been; looks it up now where it answers. */
  async count(metrics: readonly string[]): Promise<Record<string, number>> {
    if (this.running && !this.paused) {
      try {
        const answer = await fetch(`${this.url}/metrics`, {
          headers: { authorization: `Bearer ${this.#options.metricsToken}` },
          signal: AbortSignal.timeout(1_500),
        });
        const text = await answer.text();
        for (const metric of metrics) {
          const value = Number(text.match(new RegExp(`^${metric} (\\S+)$`, 'm'))?.[1] ?? 0);
          const known = this.#counted.get(metric) ?? { before: 0, now: 0 };
          known.now = Math.max(known.now, value);
          this.#counted.set(metric, known);
        }
      } catch {
        // It is busy or cut off: the next look finds more.
      }
    }
    return Object.fromEntries(
      metrics.map((metric) => {
        const { before, now } = this.#counted.get(metric) ?? { before: 0, now: 0 };
        return [metric, before + now];
      }),
    );
  }
}
