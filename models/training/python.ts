import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * The Python that trains: a virtual environment with exactly the packages of requirements.txt, kept in
 * ~/.cache/twinmesh/python-<hash of that file> and made at the first training.
 */
const REQUIREMENTS = fileURLToPath(new URL('./requirements.txt', import.meta.url));
const CANDIDATES = ['python3.13', 'python3.12', 'python3.11', 'python3', 'python'];
const run = promisify(execFile);

export interface PythonOptions {
  onLine(line: string): void;
  signal?: AbortSignal;
}

/** Path of the interpreter. Throws bad_request where there is no Python 3.11 or newer, or its packages cannot be had. */
export async function pythonInterpreter(options: PythonOptions): Promise<string> {
  const hash = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 16);
  const folder = join(homedir(), '.cache', 'twinmesh', `python-${hash}`);
  const interpreter = (at: string) => join(at, 'bin', 'python');
  if (existsSync(interpreter(folder))) return interpreter(folder);
  const base = await basePython();
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(join(homedir(), '.cache', 'twinmesh'), { recursive: true });
  options.onLine(`making a Python environment in ${folder}`);
  try {
    await runProgram(base, ['-m', 'venv', fresh], options);
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', REQUIREMENTS];
    await runProgram(interpreter(fresh), install, options);
    renameSync(fresh, folder);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    // another training was quicker
    if (!existsSync(interpreter(folder))) throw error;
  }
  return interpreter(folder);
}

async function basePython(): Promise<string> {
  for (const candidate of CANDIDATES) {
    try {
      await run(candidate, ['-c', 'import sys, venv; sys.exit(sys.version_info < (3, 11))']);
      return candidate;
    } catch {}
  }
  const message = 'Training needs Python 3.11 or newer with venv on the PATH; serving models needs none.';
  throw new TwinmeshError('bad_request', message);
}

/** Runs a program, its lines as they come. Throws internal with its last lines where it fails. */
export function runProgram(
  program: string,
  args: readonly string[],
  { onLine, signal }: PythonOptions,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    // a group of its own: giving up ends what the program has started, too
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const giveUp = () => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGTERM');
      } catch {}
    };
    signal?.addEventListener('abort', giveUp, { once: true });
    process.once('exit', giveUp);
    const last: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => {
        last.push(line);
        if (last.length > 20) last.shift();
        onLine(line);
      });
    child.once('error', reject);
    child.once('close', (code, killedBy) => {
      signal?.removeEventListener('abort', giveUp);
      process.removeListener('exit', giveUp);
      if (code === 0) resolve();
      else
        reject(
          new TwinmeshError(
            'internal',
            `Training ended with ${killedBy ?? `code ${code}`}: ${last.slice(-5).join(' | ')}`,
          ),
        );
    });
  });
}
