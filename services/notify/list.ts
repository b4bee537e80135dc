import { oneOf } from '../../actors/store/queries/alert-list.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from '../../actors/store/queries/page.ts';
import type { Sql } from '../../actors/store/sql.ts';

/** Notifications for reading, newest first, and how each receiver's queue stands. */
export interface NotificationQuery {
  receiver?: string;
  /** waiting, sent, dead, dropped; several separated by commas. */
  state?: string;
  twinId?: string;
  limit?: number;
  cursor?: string;
}

const STATES = ['waiting', 'sent', 'dead', 'dropped'];

interface Row {
  id: number;
  receiver: string;
  event_id: string | null;
  rule: string;
  thread: string;
  action: string;
  twin_id: string | null;
  severity: string;
  state: string;
  held: boolean;
  attempts: number;
  next_at: Date;
  last_error: string | null;
  title: string;
  created_at: Date;
  done_at: Date | null;
}

/** Throws `bad_request`. */
export async function listNotifications(sql: Sql, query: NotificationQuery): Promise<Page<Record<string, unknown>>> {
  const limit = limitOf(query.limit, 100, 1_000);
  const { receiver, state, twinId } = query;
  const b = new Binder();
  const where = ['true'];
  if (receiver !== undefined) where.push(`receiver = ${b.add(receiver, '::text')}`);
  if (state !== undefined) where.push(`state = any(${b.add(oneOf('state', state, STATES), '::text[]')})`);
  if (twinId !== undefined) where.push(`twin_id = ${b.add(twinId, '::text')}`);
  const scope = JSON.stringify(['notifications', [receiver, state, twinId].map((x) => x ?? null)]);
  if (query.cursor !== undefined) {
    const [at, id] = decodeCursor(query.cursor, scope, ['time', 'integer']);
    const time = b.time(at as number);
    where.push(`created_at <= ${time} and (created_at, id) < (${time}, ${b.add(id, '::bigint')})`);
  }
  const rows = await sql.query<Row>(
    `select id, receiver, event_id, rule, thread, action, twin_id, severity, state, held, attempts, next_at, last_error,
       payload ->> 'title' as title, created_at, done_at
     from notifications where ${where.join(' and ')} order by created_at desc, id desc limit ${limit + 1}`,
    b.values,
  );
  return pageOf(rows, limit, item, (row) => encodeCursor(scope, [row.created_at.getTime(), row.id]));
}

function item({ next_at, created_at, done_at, held, ...rest }: Row): Record<string, unknown> {
  return {
    ...rest,
    held: held && rest.state === 'waiting',
    next_at: rest.state === 'waiting' ? next_at.toISOString() : null,
    created_at: created_at.toISOString(),
    done_at: done_at?.toISOString() ?? null,
  };
}

export interface QueueState {
  waiting: number;
  oldest_at: string | null;
  dead: number;
  sent_at: string | null;
  last_error: string | null;
}

/** Over all nodes, by receiver; receivers of whom nothing is known are left out. */
export async function queueStates(sql: Sql, receivers: readonly string[]): Promise<Map<string, QueueState>> {
  const rows = await sql.query<{
    receiver: string;
    waiting: number;
    oldest: Date | null;
    dead: number;
    sent: Date | null;
    last_error: string | null;
  }>(
    `select r.receiver,
       (select count(*)::int from notifications n where n.receiver = r.receiver and n.state = 'waiting') as waiting,
       (select min(created_at) from notifications n where n.receiver = r.receiver and n.state = 'waiting') as oldest,
       (select count(*)::int from notifications n where n.receiver = r.receiver and n.state = 'dead') as dead,
       (select max(done_at) from notifications n where n.receiver = r.receiver and n.state = 'sent') as sent,
       (select last_error from notifications n where n.receiver = r.receiver and n.state in ('waiting', 'dead') and n.last_error is not null
        order by n.id desc limit 1) as last_error
     from unnest($1::text[]) as r(receiver)`,
    [receivers],
  );
  return new Map(
    rows.map((row) => [
      row.receiver,
      {
        waiting: row.waiting,
        oldest_at: row.oldest?.toISOString() ?? null,
        dead: row.dead,
        sent_at: row.sent?.toISOString() ?? null,
        last_error: row.last_error,
      },
    ]),
  );
}
