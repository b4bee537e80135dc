import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Pglite } from '../../actors/store/pglite.ts';

/**
 * Embedded databases for tests. Making one takes seconds of a processor, copying it does not: an empty one is made once for
 * each version of PGlite and of the code that makes it, in ~/.cache/twinmesh, and copied. Without tables: these are made anew.
 */
const ROOT = path.join(import.meta.dirname, '..', '..');
const MAKERS = [
  'node_modules/@electric-sql/pglite/package.json',
  'actors/store/pglite-worker.ts',
  'actors/store/pglite.ts',
];

/** Puts an empty database where a node with this DATA_DIR looks for its own. */
export async function emptyDatabase(dataDir: string): Promise<void> {
  fs.mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  fs.cpSync(await emptyTemplate(), path.join(dataDir, 'pg'), { recursive: true });
}

/** An empty database in a folder of its own, which goes when it is closed. */
export async function openEmptyDatabase(): Promise<Pglite> {
  const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-embedded-'));
  await emptyDatabase(dataDir);
  const sql = await Pglite.open({ dataDir, durable: false });
  const close = sql.close.bind(sql);
  sql.close = async () => {
    await close();
    fs.rmSync(dataDir, { recursive: true, force: true });
  };
  return sql;
}

/** Where the empty one is, made now if need be. */
export async function emptyTemplate(): Promise<string> {
  const hash = createHash('sha256');
  for (const file of MAKERS) hash.update(fs.readFileSync(path.join(ROOT, file)));
  const place = path.join(os.homedir(), '.cache', 'twinmesh', `embedded-${hash.digest('hex').slice(0, 16)}`);
  if (fs.existsSync(place)) return place;
  fs.mkdirSync(path.dirname(place), { recursive: true });
  // Two test files may make it at once: each in a folder of its own, and the first one done is used.
  const making = fs.mkdtempSync(`${place}.making-`);
  try {
    const sql = await Pglite.open({ dataDir: making, durable: false });
    await sql.close();
    fs.renameSync(path.join(making, 'pg'), place);
  } catch (error) {
    if (!fs.existsSync(place)) throw error;
  } finally {
    fs.rmSync(making, { recursive: true, force: true });
  }
  return place;
}
