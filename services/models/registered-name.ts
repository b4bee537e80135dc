import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';

/** Throws not_found where no version of a model has the name, live or not. */
export async function mustBeRegistered(sql: Sql, name: string): Promise<void> {
  const rows = await sql.query('select name from models where name = $1 limit 1', [name]);
  if (rows.length === 0) throw new TwinmeshError('not_found', `There is no model ${name.slice(0, 48)}.`);
}
