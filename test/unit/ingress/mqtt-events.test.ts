import { describe, expect, it } from 'vitest';
import type { EventType, TwinEvent } from '../../../actors/protocol/event.ts';
import { messagesOf } from '../../../services/events/messages.ts';
import { mqttEvents } from '../../../services/ingest/mqtt-events.ts';

const AT = Date.UTC(2026, 0, 1);

function event(type: EventType, body: Record<string, unknown>, twinId = 'machine:M1'): TwinEvent {
  return {
    type,
    at: AT,
    body,
    twinId,
    eventId: `${twinId}~7~0`,
    shard: 1,
    seq: 3,
    twin: 5,
    revision: 7,
    receivedAt: AT,
  };
}

function only(type: EventType, body: Record<string, unknown>, twinId?: string) {
  const messages = messagesOf(event(type, body, twinId));
  expect(messages).toHaveLength(1);
  return { ...messages[0], body: JSON.parse(messages[0].payload) };
}

describe('events over MQTT', () => {
  it('are anomalies in the shape that consumers of anomaly-detected know', () => {
    const body = {
      field: 'vibration',
      value: 9,
      expected: [1, 3],
      score: 6,
      threshold: 3,
      detector: 'zscore',
      severity: 'high',
      reason: 'z of 6',
    };
    const { topic, body: sent, retain } = only('anomaly.detected', body);
    expect(topic).toBe('twins/machine/M1/events/anomaly-detected');
    expect(retain).toBe(false);
    expect(sent).toMatchObject({
      event_id: 'machine:M1~7~0',
      timestamp: '2026-01-01T00:00:00.000Z',
      machine_id: 'M1',
      anomaly_score: 6,
      threshold: 3,
      is_anomaly: true,
      feature_contributions: { vibration: 1 },
      model_version: 'statistical:zscore',
    });
    expect(sent.confidence).toBeCloseTo(2 / 3);
    expect(only('anomaly.detected', body, 'mote:4').body).toMatchObject({ twin_id: 'mote:4' });
    expect(only('anomaly.detected', body, 'mote:4').body).not.toHaveProperty('machine_id');
  });

  it('are anomalies of models in the same shape, with the share of each metric', () => {
    const body = {
      prediction: 'anomaly',
      model: 'machine-anomaly@1.0.0',
      score: 3,
      threshold: 1,
      field: 'vibration',
      value: 4.1,
      contributions: { vibration: 0.9000001, power: 0.1, pressure: -1e-9 },
      detector: 'model',
      severity: 'medium',
      reason: 'unlike what the model knows',
      expected: null,
    };
    const { topic, body: sent } = only('anomaly.detected', body);
    expect(topic).toBe('twins/machine/M1/events/anomaly-detected');
    expect(sent).toMatchObject({
      machine_id: 'M1',
      anomaly_score: 3,
      threshold: 1,
      is_anomaly: true,
      confidence: 0.75,
      model_version: 'machine-anomaly@1.0.0',
      field: 'vibration',
      value: 4.1,
      prediction: 'anomaly',
    });
    const shares = Object.values<number>(sent.feature_contributions);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    expect(Math.min(...shares)).toBe(0);
    // A model that cannot say why still names the metric.
    expect(only('anomaly.detected', { ...body, contributions: {} }).body.feature_contributions).toEqual({
      vibration: 1,
    });
  });

  it('are predicted maintenance in the shape that consumers of maintenance-predictions know', () => {
    const { topic, body } = only('maintenance.predicted', {
      prediction: 'rul',
      model: 'machine-rul@1.2.0',
      value: 120.5,
      unit: 'h',
      hours: 120.5,
      interval: [90, 150],
      hoursInterval: [90, 150],
      action: 'schedule_maintenance',
      priority: 'high',
    });
    expect(topic).toBe('twins/machine/M1/events/maintenance-predictions');
    expect(Object.keys(body).slice(0, 8)).toEqual([
      'event_id',
      'timestamp',
      'machine_id',
      'predicted_rul_hours',
      'confidence_interval',
      'recommended_action',
      'priority',
      'model_version',
    ]);
    expect(body).toMatchObject({
      event_id: 'machine:M1~7~0',
      timestamp: '2026-01-01T00:00:00.000Z',
      machine_id: 'M1',
      predicted_rul_hours: 120.5,
      confidence_interval: [90, 150],
      recommended_action: 'schedule_maintenance',
      priority: 'high',
      model_version: 'machine-rul@1.2.0',
    });
    const other = only('maintenance.predicted', { hours: 1, action: 'stop' }, 'battery:EV-1').body;
    expect([other.twin_id, other.machine_id]).toEqual(['battery:EV-1', undefined]);
  });

  it.each([
    ['alert.raised', 'raised'],
    ['alert.silenced', 'raised'],
    ['alert.acknowledged', 'acknowledged'],
    ['alert.resolved', 'cleared'],
    ['alert.cleared', 'cleared'],
  ] as const)('are alerts: %s is %s', (type, state) => {
    const body = { alertId: 'machine:M1~hot~7', rule: 'hot', severity: 'high', message: 'too hot', value: 120 };
    const { topic, body: sent } = only(type, body);
    expect(topic).toBe('twins/machine/M1/events/alerts');
    expect(sent).toEqual({
      event_id: 'machine:M1~7~0',
      timestamp: '2026-01-01T00:00:00.000Z',
      alert_id: 'machine:M1~hot~7',
      twin: 'machine:M1',
      alert_type: 'hot',
      severity: 'high',
      message: 'too hot',
      state,
      value: 120,
    });
  });

  it('are everything else under its own name', () => {
    const { topic, body } = only('health.changed', { from: 'ok', to: 'warning' });
    expect(topic).toBe('twins/machine/M1/events/health-changed');
    expect(body).toMatchObject({ machine_id: 'M1', revision: 7, from: 'ok', to: 'warning' });
  });

  it('retain the delta, and take it away when nothing is left of it', () => {
    const [delta, told] = messagesOf(event('desired.changed', { desired: { fan: 1 }, delta: { fan: 1 }, by: 'ada' }));
    expect(delta).toMatchObject({ topic: 'twins/machine/M1/desired/delta', payload: '{"fan":1}', retain: true });
    expect(told.topic).toBe('twins/machine/M1/events/desired-changed');
    const [empty] = messagesOf(event('desired.changed', { desired: { fan: 1 }, delta: {}, by: 'ada' }));
    expect(empty).toMatchObject({ topic: 'twins/machine/M1/desired/delta', payload: '', retain: true });
  });

  it('are handed over in order, and not counted as delivered when the broker does not take one', async () => {
    const topics: string[] = [];
    const sink = mqttEvents(async (topic) => {
      topics.push(topic);
    });
    await sink.deliver(['A', 'B', 'C'].map((id) => event('twin.created', {}, `machine:${id}`)));
    expect(topics).toEqual(['A', 'B', 'C'].map((id) => `twins/machine/${id}/events/twin-created`));
    const down = mqttEvents(() => Promise.reject(new Error('away')));
    await expect(down.deliver([event('twin.created', {})])).rejects.toThrow('away');
  });
});
