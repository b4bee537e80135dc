import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { compareVersions, isModelName, isVersion } from './version.ts';

/** Folders of models on disk: `<root>/<name>/<version>/`. */
export interface ModelFolder {
  name: string;
  version: string;
  path: string;
  /** Index of the root it was found in. */
  root: number;
}

/**
 * Versions of all roots, by name, oldest first. The same version in two roots counts once: the first root has it. A root that is
 * not there has none. Folders whose names are none of a model (training, …) are passed over.
 */
export async function findModels(roots: readonly string[]): Promise<Map<string, ModelFolder[]>> {
  const found = new Map<string, ModelFolder[]>();
  for (const [root, folder] of roots.entries())
    for (const name of await namesIn(folder)) {
      if (!isModelName(name)) continue;
      for (const version of await namesIn(join(folder, name))) {
        if (!isVersion(version)) continue;
        const versions = found.get(name) ?? [];
        found.set(name, versions);
        if (!versions.some((known) => known.version === version))
          versions.push({ name, version, path: join(folder, name, version), root });
      }
    }
  for (const versions of found.values()) versions.sort((a, b) => compareVersions(a.version, b.version));
  return found;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() || entry.isSymbolicLink()).map(({ name }) => name);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

/** Bytes of a file of a model. Throws bad_model where it is missing, no file, or larger than allowed. */
export async function readLimited(path: string, file: string, maxBytes: number): Promise<Buffer> {
  // Not to wait for whoever might write into a pipe.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK;
  const handle = await open(join(path, file), flags).catch((error: NodeJS.ErrnoException) => {
    throw new TwinmeshError('bad_model', `${file} cannot be read: ${error.code ?? error.message}.`, undefined, {
      cause: error,
    });
  });
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new TwinmeshError('bad_model', `${file} is no file.`);
    if (stat.size > maxBytes)
      throw new TwinmeshError('bad_model', `${file} has ${stat.size} bytes, more than the ${maxBytes} allowed.`);
    if (stat.size === 0) throw new TwinmeshError('bad_model', `${file} is empty.`);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}
