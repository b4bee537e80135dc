import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * `docker compose config` without Docker: the plugin where it is installed, else the program in ~/.cache/twinmesh, which
 * `node test/servers/compose.ts` builds there with Go (four minutes on two cores, once a machine).
 */
const VERSION = 'v2.40.3';
const FOLDER = path.join(os.homedir(), '.cache', 'twinmesh', `docker-compose-${VERSION.slice(1)}`);
const PROGRAM = path.join(FOLDER, 'docker-compose');

/** The command, or null. Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export function findCompose(): string[] | null {
  if (fs.existsSync(PROGRAM)) return [PROGRAM];
  if (spawnSync('docker', ['compose', 'version']).status === 0) return ['docker', 'compose'];
  const missing = `docker has no compose plugin and there is no ${PROGRAM} (node test/servers/compose.ts builds it)`;
  if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${missing}.`);
  console.warn(`docker-compose.yml is not checked by compose itself: ${missing}.`);
  return null;
}

/** Compose excludes versions in its go.mod, so that `go install` of a version refuses: it is built in its own folder. */
function build(): void {
  const go = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/local/go/bin']
    .map((folder) => path.join(folder, 'go'))
    .find((file) => fs.existsSync(file));
  if (go === undefined) throw new Error('There is no go to build compose with.');
  const run = (...args: string[]) => {
    const done = spawnSync(go, args, { encoding: 'utf8', maxBuffer: 2 ** 26 });
    if (done.status !== 0) throw new Error(`go ${args.join(' ')}: ${(done.stderr || String(done.error)).slice(-1000)}`);
    return done.stdout;
  };
  const { Dir: source } = JSON.parse(run('mod', 'download', '-json', `github.com/docker/compose/v2@${VERSION}`));
  fs.mkdirSync(FOLDER, { recursive: true });
  const made = fs.mkdtempSync(path.join(FOLDER, 'building-'));
  try {
    run('build', '-C', source, '-buildvcs=false', '-trimpath', '-o', path.join(made, 'docker-compose'), './cmd');
    fs.renameSync(path.join(made, 'docker-compose'), PROGRAM);
  } finally {
    fs.rmSync(made, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && findCompose() === null) build();
