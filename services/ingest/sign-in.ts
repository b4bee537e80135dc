import type { Speaker } from '../../actors/ingress/speaker.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { authenticateKey } from '../keys/keyring.ts';

/**
 * Who signs in over MQTT: the password is the key (the user name is then free, and mostly the device's), or user name and
 * password are the two parts of the key. Null where that is nobody. Throws store_down.
 */
export async function signIn(sql: Sql, username: string, password: string): Promise<Speaker | null> {
  return (await authenticateKey(sql, password)) ?? (await authenticateKey(sql, `tm_${username}_${password}`));
}
