import { TwinmeshError } from '../../protocol/errors.ts';
import { parseTwinId } from '../../protocol/twin-id.ts';
import type { Sql } from '../sql.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
import type { Span } from './span.ts';

/** Events of the fleet, newest first by event time. */
export interface EventQuery {
  kind?: string;
  twinId?: string;
  /** Types, or the parts before their dots, separated by commas: `alert,health.changed`. */
  type?: string;
  span: Partial<Span>;
  /** 1 to 1,000, default 100. */
  limit?: number;
  cursor?: string;
}

export interface EventItem {
  event_id: string;
  twinId: string;
  kind: string;
  type: string;
  revision: number;
  at: string;
  receivedAt: string;
  body: Record<string, unknown>;
}

interface Row {
  shard: number;
  seq: number;
  event_id: string;
  twin_id: string;
  kind: string;
  type: string;
  revision: number;
  at: Date;
  received_at: Date;
  body: Record<string, unknown>;
}

const COLUMNS = 'e.shard, e.seq, e.event_id, e.twin_id, e.kind, e.type, e.revision, e.at, e.received_at, e.body';

/** Throws `bad_request`. */
export async function listEvents(sql: Sql, query: EventQuery): Promise<Page<EventItem>> {
  const limit = limitOf(query.limit, 100, 1_000);
  const b = new Binder();
  const where = ['true', ...conditions(query, b)];
  if (query.kind !== undefined) where.push(`e.kind = ${b.add(query.kind, '::text')}`);
  if (query.twinId !== undefined) {
    parseTwinId(query.twinId);
    where.push(`e.twin_id = ${b.add(query.twinId, '::text')}`);
  }
  const scope = JSON.stringify(['events', query.kind ?? null, query.twinId ?? null, query.type ?? null]);
  if (query.cursor !== undefined) {
    const [at, shard, seq] = decodeCursor(query.cursor, scope, ['time', 'integer', 'integer']);
    const time = b.time(at as number);
    where.push(
      `e.at <= ${time} and (e.at, e.shard, e.seq) < (${time}, ${b.add(shard, '::bigint')}, ${b.add(seq, '::bigint')})`,
    );
  }
  const rows = await sql.query<Row>(
    `select ${COLUMNS} from events e where ${where.join(' and ')} order by e.at desc, e.shard desc, e.seq desc limit ${limit + 1}`,
    b.values,
  );
  return pageOf(rows, limit, eventItem, (row) => encodeCursor(scope, [row.at.getTime(), row.shard, row.seq]));
}

function conditions(query: EventQuery, b: Binder): string[] {
  const out: string[] = [];
  if (query.type !== undefined) {
    const types = query.type.split(',').map((type) => type.trim());
    if (types.length > 20 || types.some((type) => !/^[a-z]+(\.[a-z_]+)?$/.test(type))) {
      throw new TwinmeshError('bad_request', 'type: names such as alert or alert.raised, separated by commas.');
    }
    const whole = types.filter((type) => type.includes('.'));
    const parts = types.filter((type) => !type.includes('.'));
    out.push(
      `(e.type = any(${b.add(whole, '::text[]')}) or split_part(e.type, '.', 1) = any(${b.add(parts, '::text[]')}))`,
    );
  }
  if (query.span.from !== undefined) out.push(`e.at >= ${b.time(query.span.from)}`);
  if (query.span.to !== undefined) out.push(`e.at < ${b.time(query.span.to)}`);
  return out;
}

function eventItem(row: Row): EventItem {
  return {
    event_id: row.event_id,
    twinId: row.twin_id,
    kind: row.kind,
    type: row.type,
    revision: row.revision,
    at: row.at.toISOString(),
    receivedAt: row.received_at.toISOString(),
    body: row.body,
  };
}
