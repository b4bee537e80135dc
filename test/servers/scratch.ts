import fs from 'node:fs';
import path from 'node:path';

/**
 * Where tests make their folders: in memory where there is room for them, as databases by the dozen wait for a disk half of
 * their time. No test asks less of them for it: what a process wrote before it was killed is there, on a disk or not, and a
 * disk that is full or read-only is a file system that its test mounts. A TMPDIR that is set is kept.
 */
const MEMORY = '/dev/shm';
const ROOM_BYTES = 4 * 2 ** 30;
const NAME = 'twinmesh-tests-';

export default function setup(): (() => void) | undefined {
  if (process.env.TMPDIR || !hasRoom()) return;
  clearAway();
  const folder = path.join(MEMORY, `${NAME}${process.pid}`);
  // Servers that run as users of their own have folders in it.
  fs.mkdirSync(folder, { mode: 0o755 });
  process.env.TMPDIR = folder;
  return () => fs.rmSync(folder, { recursive: true, force: true });
}

function hasRoom(): boolean {
  try {
    fs.accessSync(MEMORY, fs.constants.W_OK);
    const { bavail, bsize } = fs.statfsSync(MEMORY);
    return Math.min(bavail * bsize, process.availableMemory()) > ROOM_BYTES;
  } catch {
    return false;
  }
}

/** What runs that were killed have left there. */
function clearAway(): void {
  for (const name of fs.readdirSync(MEMORY)) {
    const pid = name.startsWith(NAME) ? Number(name.slice(NAME.length)) : Number.NaN;
    if (Number.isInteger(pid) && !isAlive(pid)) fs.rmSync(path.join(MEMORY, name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
