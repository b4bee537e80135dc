import { TwinmeshError } from '../../protocol/errors.ts';
import { parseTwinId } from '../../protocol/twin-id.ts';
import type { Sql } from '../sql.ts';
import { oneOf } from './alert-list.ts';
import { Binder, decodeCursor, encodeCursor, limitOf, type Page, pageOf } from './page.ts';
import type { Span } from './span.ts';

/** Anomalies, newest first by event time, and what people said about them. */
export interface AnomalyQuery {
  twinId?: string;
  kind?: string;
  field?: string;
  /** low, medium, high; several separated by commas. */
  severity?: string;
  /** zscore, rate, stuck, model; several separated by commas. */
  detector?: string;
  /** Name of a model, or `name@version`. */
  model?: string;
  /** What was said: `open`, `confirmed` or `rejected`. */
  review?: string;
  span: Partial<Span>;
  /** 1 to 1,000, default 100. */
  limit?: number;
  cursor?: string;
}

export interface AnomalyItem {
  anomaly_id: string;
  twin_id: string;
  kind: string;
  timestamp: string;
  /** The metric; where a model found it, the one with the largest share. */
  field: string;
  /** Null where a model found it and the twin had no value of that metric. */
  value: number | null;
  /** `"18-28"`; null where the detector has none. */
  expected_range: string | null;
  expected: [number, number] | null;
  score: number;
  threshold: number;
  detector: string;
  /** `name@version`, and the share of each metric; null where no model found it. */
  model: string | null;
  contributions: Record<string, number> | null;
  severity: 'low' | 'medium' | 'high';
  reason: string;
  /** Null: nobody has said yet. */
  is_confirmed: boolean | null;
  root_cause: string | null;
  resolution: string | null;
  resolved_at: string | null;
  resolved_by: string | null;
  revision: number;
}

interface Row extends Omit<AnomalyItem, 'timestamp' | 'expected_range' | 'expected' | 'resolved_at'> {
  at: Date;
  expected_lo: number | null;
  expected_hi: number | null;
  resolved_at: Date | null;
}

const COLUMNS =
  'anomaly_id, twin_id, kind, at, field, value, expected_lo, expected_hi, score, threshold, detector, model, contributions, severity, reason, is_confirmed, root_cause, resolution, resolved_at, resolved_by, revision';
const REVIEWS = ['open', 'confirmed', 'rejected'];

/** Throws `bad_request`, `bad_id`. */
export async function listAnomalies(sql: Sql, query: AnomalyQuery): Promise<Page<AnomalyItem>> {
  const limit = limitOf(query.limit, 100, 1_000);
  const b = new Binder();
  const where = ['true'];
  if (query.twinId !== undefined) {
    parseTwinId(query.twinId);
    where.push(`twin_id = ${b.add(query.twinId, '::text')}`);
  }
  if (query.kind !== undefined) where.push(`kind = ${b.add(query.kind, '::text')}`);
  if (query.field !== undefined) where.push(`field = ${b.add(query.field, '::text')}`);
  if (query.severity !== undefined) {
    where.push(`severity = any(${b.add(oneOf('severity', query.severity, ['low', 'medium', 'high']), '::text[]')})`);
  }
  if (query.detector !== undefined)
    where.push(`detector = any(${b.add(query.detector.split(',').slice(0, 20), '::text[]')})`);
  if (query.model !== undefined) {
    const column = query.model.includes('@') ? 'model' : `split_part(model, '@', 1)`;
    where.push(`${column} = ${b.add(query.model, '::text')}`);
  }
  if (query.review !== undefined) {
    const said = oneOf('review', query.review, REVIEWS).map((word) =>
      word === 'open' ? 'is_confirmed is null' : `is_confirmed is ${word === 'confirmed'}`,
    );
    where.push(`(${said.join(' or ')})`);
  }
  if (query.span.from !== undefined) where.push(`at >= ${b.time(query.span.from)}`);
  if (query.span.to !== undefined) where.push(`at < ${b.time(query.span.to)}`);
  const { twinId, kind, field, severity, detector, review, model } = query;
  const filters = [twinId, kind, field, severity, detector, review, model];
  const scope = JSON.stringify(['anomalies', filters.map((x) => x ?? null)]);
  if (query.cursor !== undefined) {
    const [at, id] = decodeCursor(query.cursor, scope, ['time', 'text']);
    const time = b.time(at as number);
    where.push(`at <= ${time} and (at, anomaly_id) < (${time}, ${b.add(id, '::text')})`);
  }
  const rows = await sql.query<Row>(
    `select ${COLUMNS} from anomaly_events where ${where.join(' and ')} order by at desc, anomaly_id desc limit ${limit + 1}`,
    b.values,
  );
  return pageOf(rows, limit, anomalyItem, (row) => encodeCursor(scope, [row.at.getTime(), row.anomaly_id]));
}

export interface Review {
  confirmed: boolean;
  rootCause?: string;
  resolution?: string;
  by: string;
  nowMs: number;
}

/**
 * Writes down what somebody found an anomaly to be. Said again, the newest word counts, and what it leaves out of cause
 * and resolution stays. Throws `not_found`.
 */
export async function reviewAnomaly(sql: Sql, anomalyId: string, review: Review): Promise<AnomalyItem> {
  const b = new Binder();
  const [row] = await sql.query<Row>(
    `update anomaly_events set is_confirmed = ${b.add(review.confirmed, '::boolean')},
       root_cause = coalesce(${b.add(review.rootCause ?? null, '::text')}, root_cause),
       resolution = coalesce(${b.add(review.resolution ?? null, '::text')}, resolution),
       resolved_at = ${b.time(review.nowMs)}, resolved_by = ${b.add(review.by, '::text')}
     where anomaly_id = ${b.add(anomalyId, '::text')} returning ${COLUMNS}`,
    b.values,
  );
  if (row === undefined) throw new TwinmeshError('not_found', 'There is no anomaly of this id.');
  return anomalyItem(row);
}

/** `18-28`, in as many digits as tell the ends apart. */
export function rangeText(lo: number | null, hi: number | null): string | null {
  if (lo === null || hi === null) return null;
  const width = Math.abs(hi - lo);
  const digits = width >= 10 ? 0 : width >= 1 ? 1 : width > 0 ? Math.min(12, 1 - Math.floor(Math.log10(width))) : 2;
  const text = (value: number) => String(Number(value.toFixed(digits)) + 0);
  return `${text(lo)}-${text(hi)}`;
}

function anomalyItem(row: Row): AnomalyItem {
  const { at, expected_lo, expected_hi, resolved_at, ...rest } = row;
  return {
    ...rest,
    timestamp: at.toISOString(),
    expected_range: rangeText(expected_lo, expected_hi),
    expected: expected_lo === null || expected_hi === null ? null : [expected_lo, expected_hi],
    resolved_at: resolved_at?.toISOString() ?? null,
  };
}
