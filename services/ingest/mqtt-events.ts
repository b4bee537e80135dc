import type { TwinEvent } from '../../actors/protocol/event.ts';
import { parseTwinId } from '../../actors/protocol/twin-id.ts';
import type { EventSink } from '../../actors/runtime/host-api.ts';
import type { Sql } from '../../actors/store/sql.ts';

/**
 * Events of twins as MQTT messages: `twins/<kind>/<id>/events/<type>`, and the delta of desired against reported, retained,
 * at `twins/<kind>/<id>/desired/delta`. Delivered at least once; `event_id` is stable.
 */
export type Publish = (topic: string, payload: string, options: { retain: boolean; qos: 0 | 1 }) => Promise<void>;

export function mqttEvents(publish: Publish): EventSink {
  return {
    name: 'mqtt',
    async deliver(events) {
      await Promise.all(
        events.flatMap((event) =>
          messagesOf(event).map((m) => publish(m.topic, m.payload, { qos: 1, retain: m.retain })),
        ),
      );
    },
  };
}

export interface OutgoingMessage {
  topic: string;
  payload: string;
  retain: boolean;
}

/** What an event says over MQTT, in the shapes of docs/events. */
export function messagesOf(event: TwinEvent): OutgoingMessage[] {
  const { kind, id } = parseTwinId(event.twinId);
  const root = `twins/${kind}/${id}`;
  const whose = kind === 'machine' ? { machine_id: id } : { twin_id: event.twinId };
  const head = { event_id: event.eventId, timestamp: new Date(event.at).toISOString() };
  const message = (type: string, body: Record<string, unknown>): OutgoingMessage => ({
    topic: `${root}/events/${type}`,
    payload: JSON.stringify({ ...head, ...body }),
    retain: false,
  });

  switch (event.type) {
    case 'anomaly.detected':
      return [message('anomaly-detected', { ...whose, ...anomaly(event.body) })];
    case 'alert.raised':
    case 'alert.cleared':
    case 'alert.acknowledged':
    case 'alert.resolved':
    case 'alert.silenced':
      return [message('alerts', alert(event))];
    case 'desired.changed':
      return [
        { topic: `${root}/desired/delta`, payload: deltaPayload(event.body.delta), retain: true },
        message('desired-changed', { ...whose, revision: event.revision, ...event.body }),
      ];
    default:
      return [message(event.type.replace('.', '-'), { ...whose, revision: event.revision, ...event.body })];
  }
}

function anomaly(body: Record<string, unknown>): Record<string, unknown> {
  const score = Number(body.score);
  const threshold = Number(body.threshold);
  return {
    anomaly_score: score,
    threshold,
    is_anomaly: true,
    // 0.5 at the threshold, towards 1 as the score leaves it behind.
    confidence: score + threshold > 0 ? score / (score + threshold) : 0.5,
    // A statistical detector looks at one metric: it has the whole share.
    feature_contributions: { [String(body.field)]: 1 },
    model_version: `statistical:${body.detector}`,
    field: body.field,
    value: body.value,
    expected: body.expected,
    severity: body.severity,
    reason: body.reason,
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
function deltaPayload(delta: unknown): string {
  if (typeof delta !== 'object' || delta === null || Object.keys(delta).length === 0) return '';
  return JSON.stringify(delta);
}

/** The embedded broker keeps retained messages in memory: after a start the deltas that stand are published anew. */
export async function publishDeltas(sql: Sql, publish: Publish): Promise<number> {
  const rows = await sql.query<{ twinId: string; delta: unknown }>(
    `select distinct on (e.twin) e.twin_id as "twinId", e.body->'delta' as delta
     from events e join twins t on t.twin = e.twin
     where e.type = 'desired.changed' and not t.retired order by e.twin, e.revision desc`,
  );
  let published = 0;
  for (const { twinId, delta } of rows) {
    const payload = deltaPayload(delta);
    if (payload === '') continue;
    const { kind, id } = parseTwinId(twinId);
    await publish(`twins/${kind}/${id}/desired/delta`, payload, { retain: true, qos: 1 });
    published++;
  }
  return published;
}
