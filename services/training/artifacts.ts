import { createReadStream, existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';

/**
 * Files of trained versions: in the models folder of the node that trained them, and in object storage, from where the other
 * inference nodes fetch them.
 *
 *  1  A version appears whole in a models folder or not at all.
 *  2  Only files of these names are fetched, none longer than MAX_BYTES.
 */
export const ARTIFACTS = ['model.onnx', 'card.json', 'parity.json', 'held-out.json'] as const;
/** Not every trainer writes it. */
export const OPTIONAL = 'held-out.json';
const MAX_BYTES = 16 * 1_048_576;

export const keyOf = (name: string, version: string, file: string): string => `models/${name}/${version}/${file}`;

/** Throws unavailable where nothing can be put into the models folder: better before hours of training than after. */
export async function checkRoom(root: string): Promise<void> {
  try {
    await mkdir(root, { recursive: true });
    await rm(await mkdtemp(join(root, '.room-')), { recursive: true });
  } catch (error) {
    throw new TwinmeshError('unavailable', `Nothing can be written to the models folder ${root}: ${messageOf(error)}`);
  }
}

/** Puts what a trainer wrote into the models folder as `name/version`. Throws conflict where that is there already. */
export async function place(from: string, root: string, name: string, version: string): Promise<string> {
  const folder = join(root, name, version);
  if (existsSync(folder)) throw new TwinmeshError('conflict', `${name}@${version} is in the models folder already.`);
  const fresh = join(root, name, `.${version}.${process.pid}`);
  await mkdir(fresh, { recursive: true });
  try {
    for (const file of ARTIFACTS)
      if (existsSync(join(from, file))) await cp(join(from, file), join(fresh, file), { dereference: true });
    await rename(fresh, folder);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    throw error;
  }
  return folder;
}

export async function upload(objects: ObjectStore, folder: string, name: string, version: string): Promise<void> {
  const files = await readdir(folder);
  // the card last: who sees it finds the rest
  for (const file of ['model.onnx', 'parity.json', 'held-out.json', 'card.json'])
    if (files.includes(file)) await objects.put(keyOf(name, version, file), createReadStream(join(folder, file)));
}

/** Null where object storage does not have it. Throws bad_model where it is too long. */
export async function readArtifact(
  objects: ObjectStore,
  name: string,
  version: string,
  file: string,
): Promise<Uint8Array | null> {
  const key = keyOf(name, version, file);
  const bytes = await objects.sizeOf(key);
  if (bytes === null) return null;
  if (bytes > MAX_BYTES) throw new TwinmeshError('bad_model', `${key} has ${bytes} bytes.`);
  return objects.read(key, 0, bytes);
}

/** Fetches a version that another node trained. Throws not_found where object storage does not have it. */
export async function fetchVersion(objects: ObjectStore, root: string, name: string, version: string): Promise<void> {
  const folder = join(root, name, version);
  if (existsSync(folder)) return;
  const fresh = join(root, name, `.${version}.${process.pid}`);
  await mkdir(fresh, { recursive: true });
  try {
    for (const file of ARTIFACTS) {
      const bytes = await readArtifact(objects, name, version, file);
      if (bytes === null && file !== OPTIONAL)
        throw new TwinmeshError('not_found', `${objects.place} has no ${keyOf(name, version, file)}.`);
      if (bytes !== null) await writeFile(join(fresh, file), bytes);
    }
    await mkdir(dirname(folder), { recursive: true });
    await rename(fresh, folder);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}
