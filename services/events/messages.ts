import type { AnomalyBody, MaintenanceBody, ModelAnomalyBody, TwinEvent } from '../../actors/protocol/event.ts';
import { parseTwinId } from '../../actors/protocol/twin-id.ts';

/**
 * What events of twins say outside: the same bodies over MQTT and Kafka, each with a stable `event_id`. Over MQTT at
 * `twins/<kind>/<id>/events/<type>`, and the delta of desired against reported, retained, at `twins/<kind>/<id>/desired/delta`.
 */
export interface OutgoingMessage {
  /** `alerts`, `anomaly-detected` and so on. */
  type: string;
  /** Over MQTT. */
  topic: string;
  payload: string;
  retain: boolean;
}

/** The messages of one event. */
export function messagesOf(event: TwinEvent): OutgoingMessage[] {
  const { kind, id } = parseTwinId(event.twinId);
  const root = `twins/${kind}/${id}`;
  const whose = kind === 'machine' ? { machine_id: id } : { twin_id: event.twinId };
  const head = { event_id: event.eventId, timestamp: new Date(event.at).toISOString() };
  const message = (type: string, body: Record<string, unknown>): OutgoingMessage => ({
    type,
    topic: `${root}/events/${type}`,
    payload: JSON.stringify({ ...head, ...body }),
    retain: false,
  });

  switch (event.type) {
    case 'anomaly.detected':
      return [message('anomaly-detected', { ...whose, ...anomaly(event.body as unknown as Anomaly) })];
    case 'maintenance.predicted':
      return [
        message('maintenance-predictions', { ...whose, ...maintenance(event.body as unknown as MaintenanceBody) }),
      ];
    case 'alert.raised':
    case 'alert.cleared':
    case 'alert.acknowledged':
    case 'alert.resolved':
    case 'alert.silenced':
      return [message('alerts', alert(event))];
    case 'desired.changed':
      return [
        {
          type: 'delta',
          topic: `${root}/desired/delta`,
          payload: deltaPayload(event.body.delta),
          retain: true,
        },
        message('desired-changed', { ...whose, revision: event.revision, ...event.body }),
      ];
    default:
      return [message(event.type.replace('.', '-'), { ...whose, revision: event.revision, ...event.body })];
  }
}

type Anomaly = AnomalyBody | ModelAnomalyBody;

function anomaly(body: Anomaly): Record<string, unknown> {
  const score = Number(body.score);
  const threshold = Number(body.threshold);
  const model = body.detector === 'model';
  return {
    anomaly_score: score,
    threshold,
    is_anomaly: true,
    // 0.5 at the threshold, towards 1 as the score leaves it behind.
    confidence: score + threshold > 0 ? score / (score + threshold) : 0.5,
    // A statistical detector looks at one metric: it has the whole share.
    feature_contributions: model ? shares(body.contributions, body.field) : { [body.field]: 1 },
    model_version: model ? body.model : `statistical:${body.detector}`,
    field: body.field,
    value: body.value,
    expected: body.expected,
    severity: body.severity,
    reason: body.reason,
    ...(model ? { prediction: body.prediction } : {}),
  };
}

/** Consumers are promised shares that sum to 1, whatever a model's graph makes of its last digits. */
function shares(contributions: Record<string, number>, field: string): Record<string, number> {
  const all = Object.entries(contributions).map(([name, share]) => [name, Math.max(0, share)] as const);
  const sum = all.reduce((total, [, share]) => total + share, 0);
  if (!(sum > 0) || !Number.isFinite(sum)) return { [field]: 1 };
  return Object.fromEntries(all.map(([name, share]) => [name, share / sum]));
}

function maintenance(body: MaintenanceBody): Record<string, unknown> {
  return {
    predicted_rul_hours: body.hours,
    confidence_interval: body.hoursInterval,
    recommended_action: body.action,
    priority: body.priority,
    model_version: body.model,
    prediction: body.prediction,
    value: body.value,
    unit: body.unit,
    interval: body.interval,
  };
}

const STATES: Record<string, string> = {
  'alert.raised': 'raised',
  'alert.silenced': 'raised',
  'alert.acknowledged': 'acknowledged',
  'alert.resolved': 'cleared',
  'alert.cleared': 'cleared',
};

function alert({ type, twinId, body }: TwinEvent): Record<string, unknown> {
  const { alertId, rule, severity, message, ...rest } = body;
  return { alert_id: alertId, twin: twinId, alert_type: rule, severity, message, state: STATES[type], ...rest };
}

/** An empty payload takes the retained message away: nothing is desired that is not reported. */
export function deltaPayload(delta: unknown): string {
  if (typeof delta !== 'object' || delta === null || Object.keys(delta).length === 0) return '';
  return JSON.stringify(delta);
}
