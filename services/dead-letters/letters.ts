import type { ErrorCode } from '../../actors/protocol/errors.ts';
import { decodeCursor, encodeCursor, type Page, pageOf } from '../../actors/store/queries/page.ts';
import type { Sql } from '../../actors/store/sql.ts';

/** A dead letter as people see it. */
export interface Letter {
  id: number;
  receivedAt: Date;
  /** `protocol:address`. */
  source: string;
  code: string;
  message: string;
  twinId: string | null;
  payload: string;
  /** The payload was longer than what is kept: it cannot be replayed. */
  truncated: boolean;
  replayedAt: Date | null;
}

export interface LetterFilter {
  code?: string;
  /** A source, or the protocol before its colon. */
  source?: string;
  twinId?: string;
}

const COLUMNS = `id, received_at as "receivedAt", source, code, message, twin_id as "twinId", payload, truncated,
  replayed_at as "replayedAt"`;
const MATCHES = `($1::text is null or code = $1) and ($2::text is null or source = $2 or starts_with(source, $2 || ':'))
  and ($3::text is null or twin_id = $3)`;

const parameters = ({ code, source, twinId }: LetterFilter) => [code ?? null, source ?? null, twinId ?? null];

/** Newest first. Throws bad_request for a cursor that is none. */
export async function listLetters(
  sql: Sql,
  filter: LetterFilter,
  page: { limit: number; cursor?: string },
): Promise<Page<Letter>> {
  const scope = JSON.stringify(['dead-letters', ...parameters(filter)]);
  const [before] = page.cursor ? decodeCursor(page.cursor, scope, ['integer']) : [null];
  const rows = await sql.query<Letter>(
    `select ${COLUMNS} from dead_letters where ${MATCHES} and ($4::int8 is null or id < $4) order by id desc limit $5`,
    [...parameters(filter), before, page.limit + 1],
  );
  return pageOf(
    rows,
    page.limit,
    (row) => row,
    (row) => encodeCursor(scope, [row.id]),
  );
}

/** Refused for who sent it. A replay is trusted, so these are sent again only when somebody names them, by id or by code. */
const REFUSED_SENDER: readonly ErrorCode[] = ['not_yourself', 'unauthenticated', 'forbidden'];

/** Letters to replay, oldest first: the given ones, or all of a filter that have not been replayed. */
export function lettersToReplay(
  sql: Sql,
  ids: readonly number[] | undefined,
  filter: LetterFilter & { after?: number },
  limit: number,
): Promise<Letter[]> {
  if (ids !== undefined) {
    return sql.query<Letter>(`select ${COLUMNS} from dead_letters where id = any($1::int8[]) order by id limit $2`, [
      ids,
      limit,
    ]);
  }
  return sql.query<Letter>(
    `select ${COLUMNS} from dead_letters where ${MATCHES} and id > $4 and replayed_at is null and not truncated
       and ($1::text is not null or code <> all($6::text[]))
     order by id limit $5`,
    [...parameters(filter), filter.after ?? 0, limit, REFUSED_SENDER],
  );
}

export async function markReplayed(sql: Sql, ids: readonly number[]): Promise<void> {
  if (ids.length > 0) await sql.query('update dead_letters set replayed_at = now() where id = any($1::int8[])', [ids]);
}

/** Letters behind an id, oldest first. */
export function lettersAfter(sql: Sql, id: number, limit: number): Promise<Letter[]> {
  return sql.query<Letter>(`select ${COLUMNS} from dead_letters where id > $1 order by id limit $2`, [id, limit]);
}

export async function newestLetter(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ id: number | null }>('select max(id) as id from dead_letters');
  return row.id ?? 0;
}
