import type { Sql } from '../sql.ts';

/**
 * Whether the journal of a twin has a prediction of the name. Reads all of it where it has none: for names that the kind of the twin
 * does not have, and of which a page had nothing.
 */
export async function everPredicted(sql: Sql, twin: number, name: string): Promise<boolean> {
  const rows = await sql.query(
    `select e.revision from entries e where e.twin = $1::bigint and e.type = 'prediction' and e.body ->> 'name' = $2::text limit 1`,
    [twin, name],
  );
  return rows.length > 0;
}
