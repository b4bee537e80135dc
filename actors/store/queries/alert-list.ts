import { SEVERITIES, type Severity } from '../../protocol/entry.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import { parseTwinId } from '../../protocol/twin-id.ts';
import type { AlertState } from '../projection.ts';
import type { Sql } from '../sql.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
import type { Span } from './span.ts';

/** Alerts, newest first by when they were raised. */
export interface AlertQuery {
  /** raised, acknowledged, cleared, resolved; several separated by commas, `standing` for the first two. */
  state?: string;
  /** info, warning, high, critical; several separated by commas. */
  severity?: string;
  kind?: string;
  twinId?: string;
  span: Partial<Span>;
  /** 1 to 1,000, default 100. */
  limit?: number;
  cursor?: string;
}

/** As in the messages that go out; times ISO 8601. */
export interface AlertItem {
  alert_id: string;
  timestamp: string;
  twin: string;
  kind: string;
  alert_type: string;
  severity: Severity;
  message: string;
  state: AlertState;
  acknowledged: boolean;
  acknowledged_by: string | null;
  acknowledged_at: string | null;
  resolved_at: string | null;
  silenced_until: string | null;
  note: string | null;
  /** Revision of the twin at the newest change of the alert. */
  revision: number;
}

interface Row {
  alert_id: string;
  twin_id: string;
  kind: string;
  alert_type: string;
  severity: Severity;
  message: string;
  state: AlertState;
  raised_at: Date;
  acknowledged: boolean;
  acknowledged_by: string | null;
  acknowledged_at: Date | null;
  resolved_at: Date | null;
  silenced_until: Date | null;
  note: string | null;
  revision: number;
}

const STATES: readonly AlertState[] = ['raised', 'acknowledged', 'cleared', 'resolved'];
const COLUMNS =
  'alert_id, twin_id, kind, alert_type, severity, message, state, raised_at, acknowledged, acknowledged_by, acknowledged_at, resolved_at, silenced_until, note, revision';

/** Throws `bad_request`, `bad_id`. */
export async function listAlerts(sql: Sql, query: AlertQuery): Promise<Page<AlertItem>> {
  const limit = limitOf(query.limit, 100, 1_000);
  const b = new Binder();
  const where = ['true'];
  if (query.state !== undefined) {
    const states = query.state === 'standing' ? ['raised', 'acknowledged'] : oneOf('state', query.state, STATES);
    where.push(`state = any(${b.add(states, '::text[]')})`);
  }
  if (query.severity !== undefined)
    where.push(`severity = any(${b.add(oneOf('severity', query.severity, SEVERITIES), '::text[]')})`);
  if (query.kind !== undefined) where.push(`kind = ${b.add(query.kind, '::text')}`);
  if (query.twinId !== undefined) {
    parseTwinId(query.twinId);
    where.push(`twin_id = ${b.add(query.twinId, '::text')}`);
  }
  if (query.span.from !== undefined) where.push(`raised_at >= ${b.time(query.span.from)}`);
  if (query.span.to !== undefined) where.push(`raised_at < ${b.time(query.span.to)}`);
  const scope = JSON.stringify([
    'alerts',
    query.state ?? null,
    query.severity ?? null,
    query.kind ?? null,
    query.twinId ?? null,
  ]);
  if (query.cursor !== undefined) {
    const [at, id] = decodeCursor(query.cursor, scope, ['time', 'text']);
    const time = b.time(at as number);
    where.push(`raised_at <= ${time} and (raised_at, alert_id) < (${time}, ${b.add(id, '::text')})`);
  }
  const rows = await sql.query<Row>(
    `select ${COLUMNS} from alerts where ${where.join(' and ')} order by raised_at desc, alert_id desc limit ${limit + 1}`,
    b.values,
  );
  return pageOf(rows, limit, alertItem, (row) => encodeCursor(scope, [row.raised_at.getTime(), row.alert_id]));
}

/** Words of a closed list, separated by commas. Throws `bad_request`. */
export function oneOf(name: string, text: string, known: readonly string[]): string[] {
  const words = text.split(',').map((word) => word.trim());
  if (words.some((word) => !known.includes(word))) {
    throw new TwinmeshError('bad_request', `${name}: ${known.join(', ')}; several separated by commas.`);
  }
  return [...new Set(words)];
}

function alertItem(row: Row): AlertItem {
  return {
    alert_id: row.alert_id,
    timestamp: row.raised_at.toISOString(),
    twin: row.twin_id,
    kind: row.kind,
    alert_type: row.alert_type,
    severity: row.severity,
    message: row.message,
    state: row.state,
    acknowledged: row.acknowledged,
    acknowledged_by: row.acknowledged_by,
    acknowledged_at: row.acknowledged_at?.toISOString() ?? null,
    resolved_at: row.resolved_at?.toISOString() ?? null,
    silenced_until: row.silenced_until?.toISOString() ?? null,
    note: row.note,
    revision: row.revision,
  };
}
