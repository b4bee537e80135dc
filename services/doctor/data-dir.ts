import { existsSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Check } from './check.ts';

/** The data folder: there, ours, with room, and used by one process. */
const GIB = 2 ** 30;
const SPACE = { fault: 96 * 2 ** 20, warning: 2 * GIB };

export const dataDir: Check = {
  part: 'data folder',
  async look({ settings, running }, tell) {
    const folder = resolve(settings.dataDir);
    const there = existsSync(folder);
    const probed = there ? folder : nearest(folder);
    try {
      if (!statSync(probed).isDirectory()) {
        tell.fault(`${probed} is a file`, 'Set DATA_DIR to a folder.');
        return;
      }
      const probe = join(probed, `.doctor-${process.pid}`);
      writeFileSync(probe, 'x');
      rmSync(probe);
    } catch (error) {
      tell.fault(
        `${probed} cannot be written: ${(error as NodeJS.ErrnoException).code ?? messageOf(error)}`,
        `Give the user of this process the folder, or set DATA_DIR to one of its own.`,
      );
      return;
    }
    const { bavail, bsize } = statfsSync(probed);
    const free = bavail * bsize;
    const room = `${(free / GIB).toFixed(1)} GiB free`;
    const remedy = 'Make room, or set HISTORY_RETENTION_DAYS, or put DATA_DIR on a larger disk.';
    if (free < SPACE.fault) tell.fault(`${folder}: ${room}`, remedy);
    else if (free < SPACE.warning && settings.databaseUrl === null) tell.warning(`${folder}: ${room}`, remedy);
    else tell.ok(`${folder} ${there ? 'can be written' : 'will be made at the first start'}, ${room}`);
    const holder = there ? holderOf(folder) : null;
    if (holder === null) return;
    if (await running()) tell.ok(`in use by process ${holder}, which answers`);
    else
      tell.warning(
        `in use by process ${holder}, which does not answer on the control socket`,
        `Wait while it starts or stops; else look at its log, and end it (kill ${holder}).`,
      );
  },
};

function nearest(folder: string): string {
  let parent = folder;
  while (!existsSync(parent) && dirname(parent) !== parent) parent = dirname(parent);
  return parent;
}

/** The living process that has locked the folder. */
function holderOf(folder: string): number | null {
  let pid: number;
  try {
    pid = Number(readFileSync(join(folder, 'lock'), 'utf8').trim().split(' ')[0]);
  } catch {
    return null;
  }
  if (!Number.isInteger(pid) || pid <= 0) return null;
  try {
    process.kill(pid, 0);
    return pid;
  } catch (error) {
    // Somebody else's process is alive too.
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : null;
  }
}
