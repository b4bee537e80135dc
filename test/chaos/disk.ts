import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { command } from './command.ts';

/**
 * A disk that can stall. As root, a file system of its own in a file (ext4 over a loop device) which is frozen: everything
 * that writes waits in the kernel, and nothing fails, as with a storage array that takes a breath. Elsewhere a plain
 * folder, and a stall is every process that writes there stopped; `means` says which.
 */
export class Disk {
  readonly folder: string;
  readonly means: 'frozen file system' | 'stopped writers';
  readonly #home: string;
  #frozen = false;

  private constructor(home: string, folder: string, means: Disk['means']) {
    this.#home = home;
    this.folder = folder;
    this.means = means;
  }

  static make(name: string, megabytes: number, plain = false): Disk {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), `twinmesh-disk-${name}-`));
    fs.chmodSync(home, 0o755);
    const folder = path.join(home, 'mounted');
    fs.mkdirSync(folder);
    if (!plain && process.getuid?.() === 0) {
      try {
        const image = path.join(home, 'image');
        fs.closeSync(fs.openSync(image, 'w'));
        fs.truncateSync(image, megabytes * 2 ** 20);
        command('mkfs.ext4', '-q', '-F', image);
        command('mount', '-o', 'loop', image, folder);
        fs.chmodSync(folder, 0o1777);
        return new Disk(home, folder, 'frozen file system');
      } catch {
        // A container without loop devices: the other means.
      }
    }
    return new Disk(home, folder, 'stopped writers');
  }

  /** Everything under it that asks for the temporary folder meanwhile gets this disk. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    const before = process.env.TMPDIR;
    process.env.TMPDIR = this.folder;
    try {
      return await work();
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    }
  }

  freeze(): void {
    command('fsfreeze', '-f', this.folder);
    this.#frozen = true;
  }

  thaw(): void {
    if (!this.#frozen) return;
    command('fsfreeze', '-u', this.folder);
    this.#frozen = false;
  }

  remove(): void {
    if (this.means === 'frozen file system') {
      spawnSync('fsfreeze', ['-u', this.folder]);
      if (spawnSync('umount', [this.folder]).status !== 0) spawnSync('umount', ['-l', this.folder]);
    }
    fs.rmSync(this.#home, { recursive: true, force: true });
  }
}
