import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Real data beside the checkout, where there is some. */
const BESIDE = fileURLToPath(new URL('../../../shared/data', import.meta.url));

/** The folder of real data: as named, else TWINMESH_DATA, else ../shared/data; null where there is none. */
export function dataFolder(named: string | undefined = process.env.TWINMESH_DATA): string | null {
  const folder = resolve(named || BESIDE);
  return existsSync(folder) ? folder : null;
}
