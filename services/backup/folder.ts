import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import { MANIFEST, type Manifest, readManifest } from './manifest.ts';

/**
 * The folder of one backup.
 *
 *  1 A new one is made or was empty: nothing is ever overwritten.
 *  2 Only the owner can read it: it holds everything.
 *  3 The manifest comes last, after everything else is on the disk.
 */
export class BackupFolder {
  readonly path: string;
  readonly #own: boolean;

  private constructor(folder: string, own: boolean) {
    this.path = folder;
    this.#own = own;
  }

  /** Throws `bad_request`. */
  static create(to: string): BackupFolder {
    const folder = path.resolve(to);
    try {
      const there = fs.existsSync(folder);
      if (there && fs.readdirSync(folder).length > 0)
        throw new TwinmeshError('bad_request', `${folder} is not empty; a backup goes into a folder of its own.`);
      fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
      fs.chmodSync(folder, 0o700);
      return new BackupFolder(folder, !there);
    } catch (error) {
      if (error instanceof TwinmeshError) throw error;
      throw new TwinmeshError('bad_request', `${folder} cannot be used: ${messageOf(error)}.`);
    }
  }

  file(name: string): string {
    return path.join(this.path, name);
  }

  /** Writes what `files` says down; then the backup is whole. */
  finish(manifest: Manifest): void {
    for (const name of Object.keys(manifest.files)) flush(this.file(name));
    for (const name of ['.', ...manifest.folders]) flush(this.file(name));
    const partial = this.file(`${MANIFEST}.partial`);
    fs.writeFileSync(partial, `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    flush(partial);
    fs.renameSync(partial, this.file(MANIFEST));
    flush(this.path);
  }

  /** Takes away what a backup that failed has written. */
  discard(): void {
    if (this.#own) fs.rmSync(this.path, { recursive: true, force: true });
    else for (const name of fs.readdirSync(this.path)) fs.rmSync(this.file(name), { recursive: true, force: true });
  }
}

/** The manifest of a backup, after every file of it has been found as it was written. Throws `bad_request`. */
export async function openBackup(from: string): Promise<{ folder: string; manifest: Manifest }> {
  const folder = path.resolve(from);
  let text: string;
  try {
    text = fs.readFileSync(path.join(folder, MANIFEST), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new TwinmeshError('bad_request', `${folder} cannot be read: ${messageOf(error)}.`);
    const reason = fs.existsSync(folder) ? `has no ${MANIFEST}: the backup was not finished` : 'does not exist';
    throw new TwinmeshError('bad_request', `${folder} ${reason}.`);
  }
  const manifest = readManifest(text);
  for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
    const found = await sumOf(path.join(folder, name)).catch(() => null);
    if (found === null) throw new TwinmeshError('bad_request', `The backup is damaged: ${name} is missing.`);
    if (found.bytes !== bytes || found.sha256 !== sha256)
      throw new TwinmeshError('bad_request', `The backup is damaged: ${name} is not as it was written.`);
  }
  return { folder, manifest };
}

export async function sumOf(file: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  await pipeline(fs.createReadStream(file, { highWaterMark: 1 << 20 }), async (chunks) => {
    for await (const chunk of chunks) {
      hash.update(chunk);
      bytes += chunk.length;
    }
  });
  return { bytes, sha256: hash.digest('hex') };
}

function flush(file: string): void {
  const fd = fs.openSync(file, 'r');
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
