import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { iso } from './span.ts';

/** When the first and the last reading that a twin has folded were received, ISO 8601. */
export interface ReceivedSpan {
  first: string;
  last: string;
}

/** Of all twins of the kinds, or of some of them; null where they have no readings. Reads their history as a whole. */
export async function receivedSpan(
  sql: Sql,
  kinds: readonly Kind[],
  ids: readonly string[] | undefined,
): Promise<ReceivedSpan | null> {
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  for (const { kind } of kinds) {
    const [row] = await sql.query<{ first: Date | null; last: Date | null }>(
      `select min(r.received_at) as first, max(r.received_at) as last from ${kind}_readings r join twins t on t.twin = r.twin
       where r.revision is not null and ($1::text[] is null or t.twin_id = any($1))`,
      [ids ?? null],
    );
    if (row.first !== null) first = Math.min(first, row.first.getTime());
    if (row.last !== null) last = Math.max(last, row.last.getTime());
  }
  return first > last ? null : { first: iso(first), last: iso(last) };
}
