import type { Sql } from '../../actors/store/sql.ts';
import { mintKey } from './hashing.ts';
import { insertFirstKey } from './store.ts';

/** Makes the first admin key of a new database and answers it, to be shown once; null at every later start. */
export async function firstAdminKey(sql: Sql): Promise<string | null> {
  const minted = mintKey();
  const made = await insertFirstKey(sql, {
    id: minted.id,
    name: 'first admin',
    role: 'admin',
    hash: minted.hash,
    createdBy: null,
  });
  return made ? minted.key : null;
}
