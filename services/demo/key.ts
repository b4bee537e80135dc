import type { Sql } from '../../actors/store/sql.ts';
import { mintKey } from '../keys/hashing.ts';
import { keyRing } from '../keys/keyring.ts';
import { insertKey, rotateKey } from '../keys/store.ts';

/** One row for every start: the demo gets a new secret each time and keeps it in memory alone. */
const DEMO_KEY_ID = 'demofleet000';

/** The key that the demo fleet speaks with, a gateway's; null when somebody has revoked it. */
export async function demoKey(sql: Sql): Promise<string | null> {
  const minted = mintKey(DEMO_KEY_ID);
  const rotated = await rotateKey(sql, DEMO_KEY_ID, minted.hash);
  if (rotated === null) {
    const known = await sql.query('select from keys where id = $1', [DEMO_KEY_ID]);
    if (known.length > 0) return null;
    await insertKey(sql, {
      id: DEMO_KEY_ID,
      name: 'demo fleet',
      role: 'device',
      hash: minted.hash,
      gateway: true,
      createdBy: null,
    });
  }
  keyRing(sql).forget(DEMO_KEY_ID);
  return minted.key;
}
