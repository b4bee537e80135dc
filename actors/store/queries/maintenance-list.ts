import type { MaintenanceBody } from '../../protocol/event.ts';
import { parseTwinId } from '../../protocol/twin-id.ts';
import type { Sql } from '../sql.ts';
import { oneOf } from './alert-list.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';

/**
 * Who needs what, and when, as the models say: the newest `maintenance.predicted` of each twin and prediction. Such an event is
 * written when the recommended action changes, so the newest one stands.
 */
export interface MaintenanceQuery {
  kind?: string;
  twinId?: string;
  /** inspect, schedule_maintenance, stop, none; several separated by commas. Default: all but none. */
  action?: string;
  /** low, medium, high, critical; several separated by commas. */
  priority?: string;
  /** 1 to 1,000, default 100. */
  limit?: number;
  cursor?: string;
}

/** As in the messages that go out; times ISO 8601. */
export interface MaintenanceItem {
  event_id: string;
  twin: string;
  kind: string;
  /** Event time of the newest reading that the prediction is based on. */
  timestamp: string;
  prediction: string;
  predicted_rul_hours: number;
  confidence_interval: [number, number] | null;
  recommended_action: MaintenanceBody['action'];
  priority: MaintenanceBody['priority'];
  /** When the remaining life is over, were it as predicted; null beyond the year 9999. */
  due_at: string | null;
  model_version: string;
  revision: number;
}

interface Row {
  event_id: string;
  twin_id: string;
  kind: string;
  at: Date;
  revision: number;
  body: MaintenanceBody;
  rank: number;
  hours: number;
}

const ACTIONS = ['none', 'inspect', 'schedule_maintenance', 'stop'];
const PRIORITIES = ['low', 'medium', 'high', 'critical'];
const LAST_MS = Date.UTC(9999, 11, 31);

/** Worst first: priority, then the least hours. Retired twins are left out. Throws `bad_request`, `bad_id`. */
export async function listMaintenance(sql: Sql, query: MaintenanceQuery): Promise<Page<MaintenanceItem>> {
  const limit = limitOf(query.limit, 100, 1_000);
  const { kind, twinId, action, priority } = query;
  const b = new Binder();
  const of = [`e.type = 'maintenance.predicted'`];
  if (kind !== undefined) of.push(`e.kind = ${b.add(kind, '::text')}`);
  if (twinId !== undefined) {
    parseTwinId(twinId);
    of.push(`e.twin_id = ${b.add(twinId, '::text')}`);
  }
  const actions = action === undefined ? ACTIONS.slice(1) : oneOf('action', action, ACTIONS);
  const where = [`n.action = any(${b.add(actions, '::text[]')})`];
  if (priority !== undefined)
    where.push(`n.priority = any(${b.add(oneOf('priority', priority, PRIORITIES), '::text[]')})`);
  const scope = JSON.stringify(['maintenance', [kind, twinId, action, priority].map((x) => x ?? null)]);
  if (query.cursor !== undefined) {
    const [rank, hours, id] = decodeCursor(query.cursor, scope, ['integer', 'number', 'text']);
    where.push(
      `(n.rank, n.hours, n.event_id) > (${b.add(rank, '::int')}, ${b.add(hours, '::float8')}, ${b.add(id, '::text')})`,
    );
  }
  const rows = await sql.query<Row>(
    `with newest as (
       select distinct on (e.twin, e.body ->> 'prediction') e.event_id, e.twin, e.twin_id, e.kind, e.at, e.revision, e.body,
         e.body ->> 'action' as action, e.body ->> 'priority' as priority, (e.body ->> 'hours')::float8 as hours,
         -coalesce(array_position(array['low', 'medium', 'high', 'critical'], e.body ->> 'priority'), 0) as rank
       from events e where ${of.join(' and ')} order by e.twin, e.body ->> 'prediction', e.shard desc, e.seq desc)
     select n.event_id, n.twin_id, n.kind, n.at, n.revision, n.body, n.rank, n.hours from newest n
     where ${where.join(' and ')} and not exists (select from twins t where t.twin = n.twin and t.retired)
     order by n.rank, n.hours, n.event_id limit ${limit + 1}`,
    b.values,
  );
  return pageOf(rows, limit, maintenanceItem, (row) => encodeCursor(scope, [row.rank, row.hours, row.event_id]));
}

function maintenanceItem({ event_id, twin_id, kind, at, revision, body }: Row): MaintenanceItem {
  const due = at.getTime() + body.hours * 3_600_000;
  return {
    event_id,
    twin: twin_id,
    kind,
    timestamp: at.toISOString(),
    prediction: body.prediction,
    predicted_rul_hours: body.hours,
    confidence_interval: body.hoursInterval ?? null,
    recommended_action: body.action,
    priority: body.priority,
    due_at: due < LAST_MS ? new Date(due).toISOString() : null,
    model_version: body.model,
    revision,
  };
}
