import { TwinmeshError } from '../../protocol/errors.ts';
import { parseTwinId } from '../../protocol/twin-id.ts';
import type { Sql } from '../sql.ts';

/** What a query of one twin's history starts from. Times in ms. */
export interface TwinKey {
  twin: number;
  twinId: string;
  kind: string;
  id: string;
  /** Event time of the newest reading folded. */
  at: number | null;
}

interface Row {
  twin: number;
  twin_id: string;
  kind: string;
  id: string;
  at: Date | null;
}

/** Throws `bad_id`, `not_found`. */
export async function findTwin(sql: Sql, twinId: string): Promise<TwinKey> {
  parseTwinId(twinId);
  const [row] = await sql.query<Row>(
    'select twin, twin_id, kind, id, at from twins where twin_id = $1::text',
    [twinId],
    {
      name: 'find_twin',
    },
  );
  if (row === undefined) throw new TwinmeshError('not_found', `There is no twin ${twinId}.`);
  return { twin: row.twin, twinId: row.twin_id, kind: row.kind, id: row.id, at: row.at?.getTime() ?? null };
}
