import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir, setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * The Python that trains: a virtual environment with exactly the packages of requirements.txt. Either it has been prepared
 * (TRAINING_PYTHON names its interpreter), or it is kept in ~/.cache/twinmesh/python-<hash of that file> and made at the first
 * training.
 */
const REQUIREMENTS = fileURLToPath(new URL('./requirements.txt', import.meta.url));
const CANDIDATES = ['python3.13', 'python3.12', 'python3.11', 'python3', 'python'];
const run = promisify(execFile);
const NO_PYTHON =
  'Training needs Python 3.11 or newer with venv on the PATH, or TRAINING_PYTHON; serving models needs none.';
/** Looks at what an interpreter has; arguments are the pins of requirements.txt. Prints what differs from them. */
const CHECK = `
import sys
from importlib.metadata import PackageNotFoundError, version
found = [] if sys.version_info >= (3, 11) else ["Python " + sys.version.split()[0] + " (3.11 or newer is needed)"]
for pin in sys.argv[1:]:
    name, wanted = pin.split("==")
    try:
        there = version(name)
    except PackageNotFoundError:
        there = None
    if there != wanted:
        found.append(name + " " + (there or "missing") + " (" + wanted + " is needed)")
print("; ".join(found))
`;
const CHECK_MS = 60_000;
/** A node that stops waits for its trainer to end. */
const KILL_AFTER_MS = 3_000;
/** A node that trains goes on with its twins. */
const NICENESS = 10;

export interface PythonOptions {
  onLine(line: string): void;
  signal?: AbortSignal;
  /** After `signal` a program may clean up for so long; then it is killed. */
  killAfterMs?: number;
  /** Interpreter that has been prepared; default TRAINING_PYTHON. */
  prepared?: string | null;
}

/** Why nothing can be trained here; null where it can. What a package index would answer is not asked. */
export async function whyNoPython(named?: string | null): Promise<string | null> {
  const prepared = preparedPython(named);
  try {
    if (prepared !== null) await checkPrepared(prepared);
    else if (!existsSync(interpreter(ownFolder()))) await basePython();
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

/** The interpreter that has been prepared, by TRAINING_PYTHON; null where there is none. */
export function preparedPython(named: string | null | undefined = process.env.TRAINING_PYTHON): string | null {
  return named?.trim() || null;
}

/** Path of the interpreter. Throws bad_request where there is no Python 3.11 or newer, or its packages cannot be had. */
export async function pythonInterpreter(options: PythonOptions): Promise<string> {
  const prepared = preparedPython(options.prepared);
  if (prepared !== null) {
    await checkPrepared(prepared);
    return prepared;
  }
  const folder = ownFolder();
  if (existsSync(interpreter(folder))) return interpreter(folder);
  const base = await basePython();
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(dirname(folder), { recursive: true });
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

const interpreter = (folder: string) => join(folder, 'bin', 'python');

function ownFolder(): string {
  const hash = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 16);
  return join(homedir(), '.cache', 'twinmesh', `python-${hash}`);
}

/** Other versions would train another model from the same seed. */
async function checkPrepared(prepared: string): Promise<void> {
  const pins = readFileSync(REQUIREMENTS, 'utf8').match(/^[A-Za-z0-9_.-]+==\S+/gm) ?? [];
  const { stdout } = await run(prepared, ['-c', CHECK, ...pins], { env: trainerEnv(), timeout: CHECK_MS }).catch(
    (error: Error) => {
      const [line] = messageOf(error).split('\n');
      throw new TwinmeshError('bad_request', `TRAINING_PYTHON, ${prepared}, does not run: ${line}`);
    },
  );
  const differs = stdout.trim();
  if (differs === '') return;
  const message = `TRAINING_PYTHON, ${prepared}, does not have what models/training/requirements.txt pins: ${differs}.`;
  throw new TwinmeshError('bad_request', message);
}

async function basePython(): Promise<string> {
  for (const candidate of CANDIDATES) {
    try {
      await run(candidate, ['-c', 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))']);
      return candidate;
    } catch {}
  }
  throw new TwinmeshError('bad_request', NO_PYTHON);
}

/** What a trainer gets of our environment: nothing that this node was told in confidence, which packages have no business with. */
const PASSED =
  /^(PATH|HOME|USER|LANG|LC_.*|TZ|TMPDIR|TEMP|TMP|TWINMESH_DATA|XDG_.*|PIP_.*|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE|LD_LIBRARY_PATH|(OMP|OPENBLAS|MKL|JAX|XLA|CUDA)_.*)$/i;

export function trainerEnv(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => PASSED.test(name))),
    ORT_DISABLE_TELEMETRY: '1',
    ...more,
  };
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
