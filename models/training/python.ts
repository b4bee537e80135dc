import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir, setPriority } from 'node:os';
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
/** A node that stops waits for its trainer to end. */
const KILL_AFTER_MS = 3_000;
/** A node that trains goes on with its twins. */
const NICENESS = 10;

export interface PythonOptions {
  onLine(line: string): void;
  signal?: AbortSignal;
  /** After `signal` a program may clean up for so long; then it is killed. */
  killAfterMs?: number;
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

/** What a trainer gets of our environment: nothing that this node was told in confidence, which packages have no business with. */
const PASSED =
  /^(PATH|HOME|USER|LANG|LC_.*|TZ|TMPDIR|TEMP|TMP|TWINMESH_DATA|XDG_.*|PIP_.*|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE|LD_LIBRARY_PATH|(OMP|OPENBLAS|MKL|JAX|XLA|CUDA)_.*)$/i;

export function trainerEnv(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => PASSED.test(name))), ...more };
}

/** Runs a program, its lines as they come, behind whatever else wants the processor. Throws internal with its last lines where it fails. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: PythonOptions,
  env: NodeJS.ProcessEnv = trainerEnv(),
): Promise<void> {
  const { onLine, signal } = options;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    // a group of its own: giving up ends what the program has started, too
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    if (child.pid !== undefined)
      try {
        setPriority(child.pid, NICENESS);
      } catch {}
    const end = (how: NodeJS.Signals) => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, how);
      } catch {}
    };
    let harder: NodeJS.Timeout | undefined;
    const giveUp = () => {
      end('SIGTERM');
      harder = setTimeout(() => end('SIGKILL'), options.killAfterMs ?? KILL_AFTER_MS);
    };
    const leave = () => end('SIGKILL');
    signal?.addEventListener('abort', giveUp, { once: true });
    process.once('exit', leave);
    const last: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => {
        last.push(line);
        if (last.length > 20) last.shift();
        onLine(line);
      });
    child.once('error', reject);
    child.once('close', (code, killedBy) => {
      clearTimeout(harder);
      signal?.removeEventListener('abort', giveUp);
      process.removeListener('exit', leave);
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
