import fs from 'node:fs';
import path from 'node:path';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';

/**
 * The folder that an embedded database lives in: made, checked, and locked against a second process, because
 * PGlite does not lock it and two writers destroy it.
 *
 * The lock is a file with the pid and the start time of its process (a pid alone comes back, in a container it is
 * always 1). A lock whose process is gone is taken over.
 */
export interface DataDir {
  readonly path: string;
  release(): void;
}

const LOCK = 'lock';
/** Below this not even an empty database fits. */
const MIN_FREE_BYTES = 96 * 1024 * 1024;

/** Throws `data_dir` with a sentence that names folder and reason. */
export function openDataDir(folder: string): DataDir {
  const dir = path.resolve(folder);
  try {
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    const probe = path.join(dir, `.probe-${process.pid}`);
    fs.writeFileSync(probe, 'x');
    fs.rmSync(probe);
  } catch (error) {
    throw dataDirError(dir, error);
  }
  lock(dir);
  let held = true;
  return {
    path: dir,
    release() {
      if (!held) return;
      held = false;
      fs.rmSync(path.join(dir, LOCK), { force: true });
    },
  };
}

/** An empty folder needs room for a new database; a used one is opened whatever is left, so that it can be read. */
export function requireSpace(dir: string): void {
  const { bavail, bsize } = fs.statfsSync(dir);
  if (bavail * bsize < MIN_FREE_BYTES) throw dataDirError(dir, { code: 'ENOSPC' });
}

/** `data_dir` in words for whatever the file system said. */
export function dataDirError(dir: string, cause: unknown): TwinmeshError {
  const code = String((cause as { code?: unknown } | null)?.code ?? '');
  const said = messageOf(cause);
  const sentence =
    code === 'ENOSPC' || code === 'EDQUOT' || /no space left/i.test(said)
      ? 'there is no space left'
      : code === 'EROFS' || /read-only file system/i.test(said)
        ? 'the file system is read-only'
        : code === 'EACCES' || code === 'EPERM' || /permission denied/i.test(said)
          ? 'it is not writable for this user'
          : code === 'ENOTDIR' || code === 'EEXIST'
            ? 'it, or a part of its path, is a file'
            : said;
  return new TwinmeshError('data_dir', `The data folder ${dir} cannot be used: ${sentence}.`, { dir }, { cause });
}

function lock(dir: string): void {
  const file = path.join(dir, LOCK);
  const mine = `${process.pid} ${startOf(process.pid)}\n`;
  for (let tries = 0; tries < 10; tries++) {
    try {
      fs.writeFileSync(file, mine, { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw dataDirError(dir, error);
    }
    const found = readLock(file);
    if (found === null) continue;
    const [pid, started] = found.trim().split(' ');
    if (isRunning(Number(pid), started)) {
      const who = Number(pid) === process.pid ? 'this process' : `process ${pid}`;
      throw new TwinmeshError(
        'data_dir',
        `The data folder ${dir} is in use by ${who}: a node, or a command on its database, runs there. Ask that node over HTTP, or stop it, or set another DATA_DIR.`,
        { dir, pid: Number(pid) },
      );
    }
    // Renamed away rather than removed: if another process took the stale lock over in between, it is put back.
    const aside = `${file}.${process.pid}`;
    try {
      fs.renameSync(file, aside);
      if (readLock(aside) !== found) fs.linkSync(aside, file);
    } catch {
      // Somebody was faster: look again.
    }
    fs.rmSync(aside, { force: true });
  }
  throw new TwinmeshError('data_dir', `The lock of the data folder ${dir} is contested; try again.`, { dir });
}

function readLock(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

function isRunning(pid: number, started: string | undefined): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const now = startOf(pid);
  return now !== DEAD && (started === undefined || now === '-' || started === '-' || started === now);
}

const DEAD = 'dead';

/** When a process started, in ticks since boot plus the boot's id; `dead` for one that has ended, `-` where the system does not tell. */
function startOf(pid: number): string {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    // The second field is the command in parentheses and may hold spaces: the third, the state, comes first here.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A killed process keeps its pid until its parent has asked for it.
    return fields[0] === 'Z' || fields[0] === 'X' ? DEAD : `${fields[19]}@${boot}`;
  } catch {
    return '-';
  }
}
