import { decodeCursor, encodeCursor, type Page, pageOf } from '../../actors/store/queries/page.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { Caller } from '../gateway/caller.ts';

/**
 * The audit trail: who commanded, acknowledged, edited what, when.
 *  1. A row is written before the action runs: what cannot be recorded is not done.
 *  2. Its outcome is written behind it; a row without one means that the process ended in between.
 *  3. No secret gets into it, and no row is larger than `MAX_DETAIL_BYTES` of what the caller sent.
 */
export interface AuditAttempt {
  caller: Caller;
  action: string;
  target: string | null;
  params: Record<string, unknown>;
  requestId: string;
}

const MAX_DETAIL_BYTES = 4096;
const SECRET = /key|secret|token|password|authorization/i;

/** Records an attempt and answers its row. Throws store_down. */
export async function recordAttempt(sql: Sql, attempt: AuditAttempt): Promise<number> {
  const [row] = await sql.query<{ id: number }>(
    `insert into audit (actor, role, action, target, details, request_id) values ($1, $2, $3, $4, $5::jsonb, $6) returning id`,
    [
      `${attempt.caller.name} (${attempt.caller.keyId})`,
      attempt.caller.role,
      attempt.action,
      attempt.target,
      JSON.stringify({ params: redacted(attempt.params) }),
      attempt.requestId,
    ],
  );
  return row.id;
}

/** How it ended: `done`, or the code of the error. */
export async function recordOutcome(sql: Sql, id: number, outcome: string): Promise<void> {
  await sql.query(`update audit set details = details || $2::jsonb where id = $1`, [id, JSON.stringify({ outcome })]);
}

/** Params fit for the trail: secrets hidden, bytes and large values left out. */
export function redacted(params: Record<string, unknown>): unknown {
  const safe = JSON.stringify(params, (name, value: unknown) => {
    if (name !== '' && SECRET.test(name) && typeof value === 'string') return '[hidden]';
    if (Buffer.isBuffer(value) || value instanceof Uint8Array) return `[${value.length} bytes]`;
    // JSON.stringify hands over what Buffer.toJSON has made of a buffer.
    if (isBufferJson(value)) return `[${value.data.length} bytes]`;
    return value;
  });
  return safe.length <= MAX_DETAIL_BYTES ? JSON.parse(safe) : { omitted: `${safe.length} characters` };
}

function isBufferJson(value: unknown): value is { type: 'Buffer'; data: number[] } {
  if (typeof value !== 'object' || value === null) return false;
  const { type, data } = value as { type?: unknown; data?: unknown };
  return type === 'Buffer' && Array.isArray(data);
}

export interface AuditRow {
  id: number;
  at: Date;
  actor: string;
  role: string;
  action: string;
  target: string | null;
  details: Record<string, unknown>;
  requestId: string | null;
}

export interface AuditFilter {
  actor?: string;
  action?: string;
  target?: string;
  limit: number;
  cursor?: string;
}

/** Newest first. Throws bad_request for a cursor that is none. */
export async function readTrail(sql: Sql, filter: AuditFilter): Promise<Page<AuditRow>> {
  const { actor = null, action = null, target = null, limit } = filter;
  const scope = JSON.stringify(['audit', actor, action, target]);
  const [before] = filter.cursor ? decodeCursor(filter.cursor, scope, ['integer']) : [null];
  const rows = await sql.query<AuditRow>(
    `select id, at, actor, role, action, target, details, request_id as "requestId" from audit
     where ($1::int8 is null or id < $1) and ($2::text is null or position($2 in actor) > 0)
       and ($3::text is null or action = $3) and ($4::text is null or target = $4)
     order by id desc limit $5`,
    [before, actor, action, target, limit + 1],
  );
  return pageOf(
    rows,
    limit,
    (row) => row,
    (row) => encodeCursor(scope, [row.id]),
  );
}
