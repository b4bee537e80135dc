import fs from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { openDataDir } from '../../actors/store/data-dir.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { type Contents, contentsOf, rowsOf, settle } from './database.ts';
import { sumOf } from './folder.ts';
import type { Manifest } from './manifest.ts';

/**
 * The embedded database: its folder, file by file, while no node has it open.
 *
 *  1 It is read under the lock of the data folder. A node that was killed has left what its successor would recover from,
 *    and that is copied with the rest.
 *  2 A restored one is brought to its place by one rename, when it is whole.
 */
const CLUSTER = 'pg';
const STAGING = 'restoring';

/** Throws `data_dir` where a node runs on the folder, `bad_request` where there is nothing in it. */
export async function embeddedContents(dataDir: string): Promise<Contents> {
  if (!fs.existsSync(path.join(dataDir, CLUSTER, 'PG_VERSION')))
    throw new TwinmeshError('bad_request', `There is no database in ${dataDir}: there is nothing to back up.`);
  const sql = await Pglite.open({ dataDir });
  try {
    return await contentsOf(sql);
  } finally {
    await sql.close();
  }
}

/** Copies the database into a backup; answers its files with their sums, and its folders. */
export async function copyCluster(dataDir: string, to: string): Promise<Pick<Manifest, 'files' | 'folders'>> {
  const lock = openDataDir(dataDir);
  try {
    const files: Manifest['files'] = {};
    const folders: string[] = [];
    for (const entry of fs.readdirSync(path.join(dataDir, CLUSTER), { withFileTypes: true, recursive: true })) {
      const name = path.relative(dataDir, path.join(entry.parentPath, entry.name));
      if (entry.isDirectory()) folders.push(name);
      else if (entry.isFile()) files[name] = { bytes: 0, sha256: '' };
    }
    folders.push(CLUSTER);
    folders.sort();
    for (const name of folders) fs.mkdirSync(path.join(to, name), { recursive: true, mode: 0o700 });
    for (const name of Object.keys(files)) {
      await copy(path.join(dataDir, name), path.join(to, name));
      files[name] = await sumOf(path.join(to, name));
    }
    return { files, folders };
  } finally {
    lock.release();
  }
}

/** Throws `conflict` where the data folder holds a database already. The answer restores it. */
export function restoreClusterOf(dataDir: string): (folder: string, manifest: Manifest) => Promise<void> {
  const place = path.join(dataDir, CLUSTER);
  const refuse = () => {
    if (fs.existsSync(place))
      throw new TwinmeshError(
        'conflict',
        `${dataDir} holds a database already. Set DATA_DIR to an empty or new folder, or move ${place} away.`,
      );
  };
  refuse();
  return async (folder, { files, folders, rows, settings }) => {
    const lock = openDataDir(dataDir);
    try {
      refuse();
      const staging = path.join(dataDir, STAGING);
      fs.rmSync(staging, { recursive: true, force: true });
      for (const name of folders) fs.mkdirSync(path.join(staging, name), { recursive: true, mode: 0o700 });
      for (const name of Object.keys(files)) await copy(path.join(folder, name), path.join(staging, name));
      const sql = await Pglite.open({ dataDir: staging });
      try {
        mustBeEqual(rows, await rowsOf(sql, Object.keys(rows)));
        await settle(sql, settings);
      } finally {
        await sql.close();
      }
      fs.renameSync(path.join(staging, CLUSTER), place);
      fs.rmSync(staging, { recursive: true, force: true });
    } finally {
      lock.release();
    }
  };
}

/** Throws `internal`: the program that restores has put back something else than was backed up. */
export function mustBeEqual(wanted: Manifest['rows'], found: Manifest['rows']): void {
  const faults = Object.keys(wanted).filter((name) => wanted[name] !== found[name]);
  if (faults.length === 0) return;
  const told = faults.map((name) => `${name} has ${found[name]} rows instead of ${wanted[name]}`).join(', ');
  throw new TwinmeshError('internal', `What was restored is not what was backed up: ${told}.`);
}

async function copy(from: string, to: string): Promise<void> {
  await pipeline(fs.createReadStream(from), fs.createWriteStream(to, { mode: 0o600, flags: 'wx' }));
}
