import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from './free-port.ts';

/**
 * A real MLflow for tests: the one that TEST_MLFLOW_URL names, else our own on a free port over SQLite in a temporary folder. Its
 * program: in a virtual environment in ~/.cache/twinmesh, made once a machine with Python 3.10 or newer (a minute or two).
 */
export interface MlflowServer {
  url: string;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
}

/** Current when this was written. */
export const MLFLOW_VERSION = '3.17.2';
const READY_MS = 90_000;

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export async function findMlflow(): Promise<MlflowServer | null> {
  const found = process.env.TEST_MLFLOW_URL;
  if (found) return { url: found, stop: () => Promise.resolve() };
  const program = installed();
  if (typeof program !== 'string') {
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${program.missing}.`);
    console.warn(`Tests on a real MLflow are skipped: ${program.missing}.`);
    return null;
  }
  return await start(program);
}

function installed(): string | { missing: string } {
  const folder = path.join(os.homedir(), '.cache', 'twinmesh', `mlflow-${MLFLOW_VERSION}`);
  const program = path.join(folder, 'bin', 'mlflow');
  if (fs.existsSync(program)) return program;
  // a developer's own `npm test` installs half a gigabyte only when told to
  if (process.env.REQUIRE_SERVERS !== '1') return { missing: 'MLflow is not installed and TEST_MLFLOW_URL is not set' };
  const making = `${folder}.${process.pid}`;
  fs.mkdirSync(path.dirname(folder), { recursive: true });
  try {
    for (const [command, ...args] of [
      ['python3', '-m', 'venv', making],
      [
        path.join(making, 'bin', 'python'),
        ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `mlflow==${MLFLOW_VERSION}`],
      ],
      // its scripts name the folder it was made in
      [path.join(making, 'bin', 'python'), '-m', 'venv', '--upgrade', making],
    ]) {
      const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', timeout: 600_000 });
      if (status !== 0)
        return { missing: `MLflow cannot be installed (${error?.message ?? stderr.slice(-300).trim()})` };
    }
    fs.renameSync(making, folder);
    const script = fs.readFileSync(program, 'utf8');
    fs.writeFileSync(program, script.replaceAll(making, folder));
    return program;
  } finally {
    fs.rmSync(making, { recursive: true, force: true });
  }
}

async function start(program: string): Promise<MlflowServer> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-mlflow-'));
  const port = await freePort();
  const log = fs.openSync(path.join(dir, 'log'), 'a');
  const python = path.join(path.dirname(program), 'python');
  const child: ChildProcess = spawn(
    python,
    [
      ...['-m', 'mlflow', 'server', '--host', '127.0.0.1', '--port', String(port), '--workers', '1'],
      ...['--backend-store-uri', `sqlite:///${path.join(dir, 'runs.db')}`],
      ...['--artifacts-destination', path.join(dir, 'artifacts'), '--serve-artifacts'],
    ],
    {
      cwd: dir,
      stdio: ['ignore', log, log],
      detached: true,
      env: { ...process.env, MLFLOW_DISABLE_TELEMETRY: 'true' },
    },
  );
  fs.closeSync(log);
  // it starts workers of its own: the whole group ends together
  const kill = (signal: NodeJS.Signals) => {
    try {
      if (child.pid) process.kill(-child.pid, signal);
    } catch {
      // gone already
    }
  };
  const killed = () => kill('SIGKILL');
  process.once('exit', killed);
  const url = `http://127.0.0.1:${port}`;
  const until = Date.now() + READY_MS;
  while (!(await isUp(url))) {
    if (child.exitCode !== null || Date.now() > until) {
      kill('SIGKILL');
      throw new Error(`MLflow did not start:\n${fs.readFileSync(path.join(dir, 'log'), 'utf8').slice(-2000)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return {
    url,
    async stop() {
      process.off('exit', killed);
      const ended = new Promise((resolve) => child.once('exit', resolve));
      kill('SIGKILL');
      await ended;
      fs.rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function isUp(url: string): Promise<boolean> {
  const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
  return response?.ok === true;
}
