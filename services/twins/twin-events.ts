import type { EventType, TwinEvent } from '../../actors/protocol/event.ts';
import { decodeCursor, encodeCursor, type Page, pageOf } from '../../actors/store/queries/page.ts';
import { findTwin } from '../../actors/store/queries/twin-key.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { eventView } from './entry-view.ts';

/** Events of one twin, newest first. */
export interface EventFilter {
  /** A type, or the part of it before the dot. */
  type?: string;
  limit: number;
  cursor?: string;
}

interface Row {
  event_id: string;
  twin_id: string;
  revision: number;
  seq: number;
  type: EventType;
  at: Date;
  received_at: Date;
  body: Record<string, unknown>;
}

/** Throws bad_id, not_found, bad_request. */
export async function twinEvents(
  sql: Sql,
  twinId: string,
  filter: EventFilter,
): Promise<Page<Record<string, unknown>>> {
  const { twin } = await findTwin(sql, twinId);
  const scope = JSON.stringify(['events', twinId, filter.type ?? null]);
  const [revision, seq] = filter.cursor ? decodeCursor(filter.cursor, scope, ['integer', 'integer']) : [null, null];
  const rows = await sql.query<Row>(
    `select event_id, twin_id, revision, seq, type, at, received_at, body from events
     where twin = $1 and ($2::int8 is null or (revision, seq) < ($2::int8, $3::int8))
       and ($4::text is null or type = $4 or split_part(type, '.', 1) = $4)
     order by revision desc, seq desc limit $5`,
    [twin, revision, seq, filter.type ?? null, filter.limit + 1],
  );
  return pageOf(
    rows,
    filter.limit,
    (row) => eventView(eventOf(row)),
    (row) => encodeCursor(scope, [row.revision, row.seq]),
  );
}

function eventOf(row: Row): Omit<TwinEvent, 'shard' | 'seq' | 'twin'> {
  return {
    eventId: row.event_id,
    twinId: row.twin_id,
    revision: row.revision,
    type: row.type,
    at: row.at.getTime(),
    receivedAt: row.received_at.getTime(),
    body: row.body,
  };
}
