import { createHash } from 'node:crypto';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { ArchivedFile } from '../../actors/store/queries/archive.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';
import { openParquet } from '../parquet/parquet-reader.ts';

/** What is wrong with a file of the archive, as a sentence; null where it is as it was written. Throws `unavailable`. */
export async function faultOfFile(objects: ObjectStore, file: ArchivedFile): Promise<string | null> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for await (const piece of objects.stream(file.key)) {
      hash.update(piece);
      bytes += piece.length;
    }
    if (bytes !== file.bytes) return `${file.key} has ${bytes} bytes instead of ${file.bytes}.`;
    if (hash.digest('hex') !== file.sha256) return `${file.key} has another content than was written.`;
    const { rows } = await openParquet(objects, file.key, bytes);
    return rows === file.rows ? null : `${file.key} has ${rows} rows instead of ${file.rows}.`;
  } catch (error) {
    if (!(error instanceof TwinmeshError)) return `${file.key} cannot be read: ${messageOf(error)}.`;
    if (error.code !== 'not_found') throw error;
    return `${file.key} is missing.`;
  }
}
