import type { AlertBody, AnomalyBody, ModelAnomalyBody, TwinEvent } from '../protocol/event.ts';

/**
 * The tables `alerts` and `anomaly_events` as a pure function of the events of a cut.
 *
 *  1 An alert takes the fields of its newest event and moves only to a greater revision.
 *  2 Events of one alert inside one cut are folded here, because one statement can touch a row once.
 *  3 What people write into an anomaly (confirmed, root cause, resolution) is never touched again.
 */
export type AlertState = 'raised' | 'acknowledged' | 'cleared' | 'resolved';

/** A row of `alerts`. Times in ms. */
export interface AlertRow {
  alertId: string;
  twinId: string;
  kind: string;
  alertType: string;
  severity: string;
  message: string;
  state: AlertState;
  raisedAt: number;
  acknowledged: boolean;
  acknowledgedBy: string | null;
  acknowledgedAt: number | null;
  resolvedAt: number | null;
  silencedUntil: number | null;
  note: string | null;
  revision: number;
}

/** What the events of a cut do to one alert: a new row, or changes of the fields that are not undefined. */
export interface AlertChange {
  shard: number;
  raised: boolean;
  /** For changes without a raise, fields that no event set are null here and keep their value in the table. */
  row: Omit<AlertRow, 'state'> & { state: AlertState | null };
}

/** A row of `anomaly_events` as it is born. Times in ms. */
export interface AnomalyRow extends Omit<AnomalyBody, 'value' | 'detector'> {
  /** Null where a model found it and the twin has no value of the metric. */
  value: number | null;
  detector: AnomalyBody['detector'] | ModelAnomalyBody['detector'];
  /** `name@version`, and the share of each metric, where a model found it. */
  model?: string;
  contributions?: Record<string, number>;
  shard: number;
  anomalyId: string;
  twinId: string;
  kind: string;
  at: number;
  revision: number;
}

export function alertChanges(events: readonly TwinEvent[]): AlertChange[] {
  const changes = new Map<string, AlertChange>();
  for (const event of events) {
    if (!event.type.startsWith('alert.')) continue;
    const body = event.body as unknown as AlertBody & { until?: number };
    let change = changes.get(body.alertId);
    if (!change || event.type === 'alert.raised') {
      change = { shard: event.shard, raised: event.type === 'alert.raised', row: blank(event, body) };
      changes.set(body.alertId, change);
    }
    const row = change.row;
    row.revision = event.revision;
    if (body.note !== undefined) row.note = body.note;
    switch (event.type) {
      case 'alert.raised':
        row.state = 'raised';
        break;
      case 'alert.acknowledged':
        row.state = 'acknowledged';
        row.acknowledged = true;
        row.acknowledgedBy = body.by ?? null;
        row.acknowledgedAt = event.at;
        break;
      case 'alert.cleared':
        row.state = 'cleared';
        row.resolvedAt = event.at;
        break;
      case 'alert.resolved':
        row.state = 'resolved';
        row.resolvedAt = event.at;
        break;
      case 'alert.silenced':
        row.silencedUntil = body.until ?? null;
        break;
    }
  }
  return [...changes.values()];
}

/** What the SQL of the checkpoint does to the table, on a map by alert id. */
export function applyAlerts(alerts: Map<string, AlertRow>, changes: readonly AlertChange[]): void {
  for (const { raised, row } of changes) {
    const there = alerts.get(row.alertId);
    if (there && there.revision >= row.revision) continue;
    if (raised) alerts.set(row.alertId, row as AlertRow);
    else if (there) {
      alerts.set(row.alertId, {
        ...there,
        state: row.state ?? there.state,
        acknowledged: there.acknowledged || row.acknowledged,
        acknowledgedBy: row.acknowledged ? row.acknowledgedBy : there.acknowledgedBy,
        acknowledgedAt: row.acknowledgedAt ?? there.acknowledgedAt,
        resolvedAt: row.resolvedAt ?? there.resolvedAt,
        silencedUntil: row.silencedUntil ?? there.silencedUntil,
        note: row.note ?? there.note,
        revision: row.revision,
      });
    }
  }
}

export function anomalies(events: readonly TwinEvent[]): AnomalyRow[] {
  const rows: AnomalyRow[] = [];
  for (const event of events) {
    if (event.type !== 'anomaly.detected') continue;
    const body = event.body as unknown as AnomalyBody | ModelAnomalyBody;
    rows.push({
      ...(body.detector === 'model' ? { model: body.model, contributions: body.contributions } : {}),
      field: body.field,
      value: body.value,
      expected: body.expected ?? null,
      score: body.score,
      threshold: body.threshold,
      detector: body.detector,
      severity: body.severity,
      reason: body.reason,
      shard: event.shard,
      anomalyId: event.eventId,
      twinId: event.twinId,
      kind: kindOf(event.twinId),
      at: event.at,
      revision: event.revision,
    });
  }
  return rows;
}

export function kindOf(twinId: string): string {
  return twinId.slice(0, twinId.indexOf(':'));
}

function blank(event: TwinEvent, body: AlertBody): AlertChange['row'] {
  return {
    alertId: body.alertId,
    twinId: event.twinId,
    kind: kindOf(event.twinId),
    alertType: body.rule,
    severity: body.severity,
    message: body.message,
    state: null,
    raisedAt: event.at,
    acknowledged: false,
    acknowledgedBy: null,
    acknowledgedAt: null,
    resolvedAt: null,
    silencedUntil: null,
    note: null,
    revision: event.revision,
  };
}
