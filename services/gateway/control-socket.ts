import { chmod, lstat, mkdtemp, rename, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join, resolve } from 'node:path';

/**
 * The door for the command lines of this machine: a unix socket in the data folder. Whoever may open it is the local
 * admin, so that nobody else ever may, not even for the moment between making it and closing it to others: it is made
 * in a folder of its own with mode 0700, gets mode 0600 there, and is then moved into place.
 */
export function controlPath(dataDir: string): string {
  return join(resolve(dataDir), 'control.sock');
}

/** Longest path of a unix socket on Linux and macOS, in bytes. */
const MAX_PATH_BYTES = 103;

/** Opens the socket and answers how to remove it; null where the path is too long for one. */
export async function openControlSocket(server: Server, dataDir: string): Promise<(() => Promise<void>) | null> {
  const path = controlPath(dataDir);
  const nursery = await mkdtemp(join(resolve(dataDir), '.s-'));
  const made = join(nursery, 's');
  try {
    if (Buffer.byteLength(path) > MAX_PATH_BYTES || Buffer.byteLength(made) > MAX_PATH_BYTES) return null;
    await new Promise<void>((done, fail) => {
      server.once('error', fail);
      server.listen(made, () => {
        server.off('error', fail);
        done();
      });
    });
    await chmod(made, 0o600);
    const { ino } = await lstat(made);
    await rename(made, path);
    return async () => {
      // Another server may have put its own in place since.
      const there = await lstat(path).catch(() => null);
      if (there?.ino === ino) await rm(path, { force: true });
    };
  } finally {
    await rm(nursery, { recursive: true, force: true });
  }
}
