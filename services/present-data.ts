import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TwinmeshError } from '../actors/protocol/errors.ts';

/**
 * For commands that only read: opening the embedded database would make one where none is, and what they then say is that there is
 * nothing. Throws `data_dir`.
 */
export function mustHoldData({ dataDir, databaseUrl }: { dataDir: string; databaseUrl: string | null }): void {
  const dir = resolve(dataDir);
  if (databaseUrl !== null || existsSync(join(dir, 'pg', 'PG_VERSION'))) return;
  throw new TwinmeshError(
    'data_dir',
    `No data is in ${dir}: no node has run on it. Set DATA_DIR to the folder of a node.`,
    {
      dir,
    },
  );
}
