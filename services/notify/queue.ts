import type { Sql } from '../../actors/store/sql.ts';
import type { NotificationPayload } from './notice.ts';

/**
 * What waits for one receiver, in the table `notifications`. A node claims a few rows at a time and has them to itself until
 * `claimed_until`; a node that dies leaves them to the others then, or to its own next start at once.
 *
 *  1 Of one thread the older goes first: a receiver never hears of the end before the beginning. What is held for quiet
 *    hours does not count.
 */
export interface Claimed {
  id: number;
  key: string;
  thread: string;
  attempts: number;
  createdAtMs: number;
  payload: NotificationPayload;
}

const iso = (ms: number) => new Date(ms).toISOString();

export async function claim(
  sql: Sql,
  receiver: string,
  node: string,
  limit: number,
  nowMs: number,
  leaseMs: number,
): Promise<Claimed[]> {
  const rows = await sql.query<{
    id: number;
    dedup_key: string;
    thread: string;
    attempts: number;
    created_at: Date;
    payload: NotificationPayload;
  }>(
    `update notifications n set owner = $2, claimed_until = $4::timestamptz where n.id in (
       select c.id from notifications c
       where c.receiver = $1 and c.state = 'waiting' and c.next_at <= $3::timestamptz
         and (c.claimed_until is null or c.claimed_until <= $3::timestamptz)
         and not exists (select from notifications o where o.thread = c.thread and o.receiver = c.receiver and o.id < c.id
           and o.state = 'waiting' and not (o.held and o.next_at > $3::timestamptz))
       order by c.next_at, c.id limit $5 for update skip locked)
     returning n.id, n.dedup_key, n.thread, n.attempts, n.created_at, n.payload`,
    [receiver, node, iso(nowMs), iso(nowMs + leaseMs), limit],
  );
  return rows
    .map((row) => ({
      id: row.id,
      key: row.dedup_key,
      thread: row.thread,
      attempts: row.attempts,
      createdAtMs: row.created_at.getTime(),
      payload: row.payload,
    }))
    .sort((a, b) => a.id - b.id);
}

export async function sent(sql: Sql, id: number, nowMs: number): Promise<void> {
  await sql.query(
    `update notifications set state = 'sent', attempts = attempts + 1, done_at = $2, owner = null, claimed_until = null where id = $1`,
    [id, iso(nowMs)],
  );
}

export async function failed(sql: Sql, id: number, error: string, nextAtMs: number): Promise<void> {
  await sql.query(
    `update notifications set attempts = attempts + 1, last_error = $2, next_at = $3, owner = null, claimed_until = null
     where id = $1 and state = 'waiting'`,
    [id, error, iso(nextAtMs)],
  );
}

/** With what follows it: whoever was never told of the beginning need not hear of the end. */
export async function dead(sql: Sql, receiver: string, row: Claimed, error: string, nowMs: number): Promise<void> {
  await sql.query(
    `with gone as (
       update notifications set state = 'dead', attempts = attempts + 1, last_error = $2, done_at = $3, owner = null,
         claimed_until = null where id = $1 and state = 'waiting')
     update notifications set state = 'dropped', done_at = $3, last_error = 'What it follows was not delivered.'
     where $6 and thread = $4 and receiver = $5 and id > $1 and state = 'waiting' and action <> 'trigger'`,
    [row.id, error, iso(nowMs), row.thread, receiver, row.payload.action === 'trigger'],
  );
}

/** Gives claimed rows back, untried. */
export async function giveBack(sql: Sql, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await sql.query(
    `update notifications set owner = null, claimed_until = null where id = any($1::bigint[]) and state = 'waiting'`,
    [ids],
  );
}

/** What this node had claimed before it was started anew. */
export async function giveBackAll(sql: Sql, node: string): Promise<void> {
  await sql.query(
    `update notifications set owner = null, claimed_until = null where owner = $1 and state = 'waiting'`,
    [node],
  );
}

/** Receivers for whom something is due and that nobody has claimed. */
export async function dueReceivers(sql: Sql, nowMs: number): Promise<string[]> {
  const rows = await sql.query<{ receiver: string }>(
    `select distinct receiver from notifications
     where state = 'waiting' and next_at <= $1 and (claimed_until is null or claimed_until <= $1)`,
    [iso(nowMs)],
  );
  return rows.map((row) => row.receiver);
}
