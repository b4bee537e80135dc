import type { TwinEvent } from '../../protocol/event.ts';
import type { Sql } from '../sql.ts';
import { msOf } from './journal.ts';
import { prepared } from './statement.ts';

const EVENTS = `
  select event_id as "eventId", shard, seq, twin, twin_id as "twinId", revision, type,
    ${msOf('at')} as at, ${msOf('received_at')} as "receivedAt", body
  from events where shard = $1 and seq > $2 order by seq limit $3`;

const CURSORS = 'select shard, seq from sink_cursors where sink = $1 and shard = any($2::int4[])';

const DUE_WAKES = `
  select shard, twin_id as "twinId" from twin_snapshots
  where latest and wake_at is not null and shard = any($1::int4[]) and wake_at <= $2
  order by wake_at, twin limit $3 offset $4`;

/** Events in order of the shard's own seq, which the fence hands out: nothing can appear later below a seq once read. */
export async function events(sql: Sql, shard: number, afterSeq: number, limit: number): Promise<TwinEvent[]> {
  const rows = await sql.query<TwinEvent>(EVENTS, [shard, afterSeq, limit], prepared(EVENTS));
  return rows.map((row) => ({ ...row, at: Math.round(row.at), receivedAt: Math.round(row.receivedAt) }));
}

/** Shards without a cursor of this sink are left out. */
export async function cursors(sql: Sql, sink: string, shards: readonly number[]): Promise<Map<number, number>> {
  const rows = await sql.query<{ shard: number; seq: number }>(CURSORS, [sink, shards], prepared(CURSORS));
  return new Map(rows.map((row) => [row.shard, row.seq]));
}

export async function dueWakes(
  sql: Sql,
  shards: readonly number[],
  nowMs: number,
  limit: number,
  skip: number,
): Promise<{ shard: number; twinId: string }[]> {
  return await sql.query(DUE_WAKES, [shards, new Date(nowMs), limit, skip], prepared(DUE_WAKES));
}
