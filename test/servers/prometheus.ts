import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from './free-port.ts';

/** A real Prometheus for tests, of an installed package, on a free port with its data in a temporary folder. */
export interface PrometheusPrograms {
  prometheus: string;
  promtool: string;
}

export interface PrometheusServer {
  url: string;
  /** The samples of an instant query. Throws what Prometheus refuses. */
  query(expr: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]>;
  get<T>(path: string): Promise<T>;
  stop(): Promise<void>;
}

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export function findPrometheus(): PrometheusPrograms | null {
  const folders = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/bin', '/usr/local/bin'];
  const find = (name: string) => folders.map((folder) => path.join(folder, name)).find((file) => fs.existsSync(file));
  const prometheus = find('prometheus');
  const promtool = find('promtool');
  if (prometheus && promtool) return { prometheus, promtool };
  const missing = 'prometheus and promtool are not installed';
  if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${missing}.`);
  console.warn(`Tests with a real Prometheus are skipped: ${missing}.`);
  return null;
}

/** `files` lie beside the configuration, by name; the one named prometheus.yml is the configuration. */
export async function startPrometheus(
  { prometheus }: PrometheusPrograms,
  files: Readonly<Record<string, string>>,
): Promise<PrometheusServer> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-prometheus-'));
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(dir, name), text);
  const port = await freePort();
  const log = fs.openSync(path.join(dir, 'log'), 'a');
  const child: ChildProcess = spawn(
    prometheus,
    [
      `--config.file=${path.join(dir, 'prometheus.yml')}`,
      `--storage.tsdb.path=${path.join(dir, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ],
    { cwd: dir, stdio: ['ignore', log, log] },
  );
  fs.closeSync(log);
  const killed = () => child.kill('SIGKILL');
  process.once('exit', killed);
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    process.off('exit', killed);
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await ended;
    }
    fs.rmSync(dir, { recursive: true, force: true });
  };
  for (let tries = 0; ; tries++) {
    const ready = await fetch(`${url}/-/ready`).catch(() => null);
    if (ready?.ok) break;
    if (tries === 300 || child.exitCode !== null) {
      const said = fs.readFileSync(path.join(dir, 'log'), 'utf8').slice(-2000);
      await stop();
      throw new Error(`Prometheus did not start:\n${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const get = async <T>(where: string): Promise<T> => {
    const answer = (await (await fetch(url + where)).json()) as { status: string; error?: string; data: T };
    if (answer.status !== 'success') throw new Error(`${where}: ${answer.error}`);
    return answer.data;
  };
  return {
    url,
    get,
    async query(expr) {
      const { result } = await get<{ result: Awaited<ReturnType<PrometheusServer['query']>> }>(
        `/api/v1/query?query=${encodeURIComponent(expr)}`,
      );
      return result;
    },
    stop,
  };
}
