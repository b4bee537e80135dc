import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * PostgreSQL's own programs: which of those installed is run, and how it is told where to connect.
 *
 *  1 No secret stands on a command line: connection and password go to the child in its environment, which only its own
 *    user can read, and it gets nothing else of ours.
 *  2 TLS is as strict as our own connections are: where they verify the server, so does the program.
 */
export interface Program {
  file: string;
  major: number;
}

/** The newest one installed: an older one refuses a newer server. Throws `bad_settings`. */
export async function findProgram(name: 'pg_dump' | 'pg_restore', atLeast: number): Promise<Program> {
  let newest: Program | null = null;
  for (const file of candidates(name)) {
    const { code, out } = await run(file, ['--version'], {});
    const major = Number(/\)\s+(\d+)/.exec(out)?.[1] ?? 0);
    if (code === 0 && major > (newest?.major ?? 0)) newest = { file, major };
  }
  const remedy = `Install the client programs of PostgreSQL ${atLeast} (Debian: postgresql-client-${atLeast}).`;
  if (newest === null)
    throw new TwinmeshError(
      'bad_settings',
      `${name} is neither on the PATH nor in /usr/lib/postgresql/*/bin. ${remedy}`,
    );
  if (newest.major < atLeast)
    throw new TwinmeshError(
      'bad_settings',
      `${newest.file} is of version ${newest.major}, the server of ${atLeast}. ${remedy}`,
    );
  return newest;
}

function candidates(name: string): string[] {
  const root = '/usr/lib/postgresql';
  const versions = fs.existsSync(root) ? fs.readdirSync(root) : [];
  const folders = [
    ...(process.env.PATH ?? '').split(path.delimiter),
    ...versions.map((version) => path.join(root, version, 'bin')),
  ];
  return folders.map((folder) => path.join(folder, name)).filter((file) => fs.existsSync(file));
}

/** Variables that libpq connects by. `url`: that of our own connections. Throws `bad_settings`. */
export function libpqEnv(url: string, major: number): Record<string, string> {
  const { hostname, port, username, password, pathname, searchParams } = new URL(url);
  const env: Record<string, string> = { PGAPPNAME: 'twinmesh backup', PGCONNECT_TIMEOUT: '10' };
  const give = (name: string, value: string | null) => {
    if (value !== null && value !== '') env[name] = value;
  };
  give('PGHOST', searchParams.get('host') ?? decodeURIComponent(hostname).replace(/^\[(.*)\]$/, '$1'));
  give('PGPORT', searchParams.get('port') ?? port);
  give('PGUSER', searchParams.get('user') ?? decodeURIComponent(username));
  give('PGPASSWORD', searchParams.get('password') ?? decodeURIComponent(password));
  give('PGDATABASE', decodeURIComponent(pathname.slice(1)));
  give('PGOPTIONS', searchParams.get('options'));
  give('PGSSLCERT', searchParams.get('sslcert'));
  give('PGSSLKEY', searchParams.get('sslkey'));
  const mode = searchParams.get('sslmode');
  if (mode === 'no-verify') env.PGSSLMODE = 'require';
  else if (mode === 'disable') env.PGSSLMODE = 'disable';
  else if (mode !== null) {
    env.PGSSLMODE = 'verify-full';
    const authority = searchParams.get('sslrootcert');
    if (authority === null && major < 16)
      throw new TwinmeshError(
        'bad_settings',
        'The client programs of PostgreSQL before 16 do not know the authorities of the system: set TLS_CA_FILE.',
      );
    env.PGSSLROOTCERT = authority ?? 'system';
  }
  return env;
}

/** Runs a program; `out` is what it printed, `faults` what it complained of. Throws only where it cannot be started. */
export async function run(
  file: string,
  args: readonly string[],
  env: Record<string, string>,
  input?: AbortSignal,
): Promise<{ code: number; out: string; faults: string }> {
  const inherited: Record<string, string> = { LC_ALL: 'C' };
  for (const [name, value] of Object.entries(process.env))
    if (value !== undefined && (['PATH', 'HOME'].includes(name) || name.startsWith('PG'))) inherited[name] = value;
  const child = spawn(file, args, {
    env: { ...inherited, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(input ? { signal: input } : {}),
  });
  let out = '';
  let faults = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    faults = (faults + text).slice(-4_000);
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', (error) =>
      reject(new TwinmeshError('bad_settings', `${file} cannot be run: ${messageOf(error)}.`)),
    );
    child.on('close', (status) => resolve(status ?? -1));
  });
  return { code, out, faults };
}
