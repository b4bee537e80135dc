import { describe, expect, it } from 'vitest';
import type { EventType, TwinEvent } from '../../actors/protocol/event.ts';
import type { Fresh } from './store.ts';
import { event, key, T0, Writer } from './store-sample.ts';

/** Tables for people that follow from the events of a cut. */
export function storeProjections(fresh: Fresh): void {
  const twin = key(0);
  const alert = (type: EventType, seq: number, revision: number, more: Record<string, unknown> = {}): TwinEvent =>
    event(twin, seq, revision, {
      type,
      body: { alertId: 'A', rule: 'hot', severity: 'high', message: 'Too hot', ...more },
    });
  const raised = {
    alertId: 'A',
    twinId: 'meter:T-0-1',
    kind: 'meter',
    alertType: 'hot',
    severity: 'high',
    message: 'Too hot',
    state: 'raised',
    raisedAt: T0 + 1000,
    acknowledged: false,
    acknowledgedBy: null,
    acknowledgedAt: null,
    resolvedAt: null,
    silencedUntil: null,
    note: null,
    revision: 1,
  };

  describe('alerts and anomalies', () => {
    it('follows an alert through its life, over several commits', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.commit([0], { events: [alert('alert.raised', 1, 1)] });
      expect(await peek.alerts()).toEqual([raised]);
      await writer.commit([0], { events: [alert('alert.silenced', 2, 2, { until: T0 + 99_000, by: 'ann' })] });
      await writer.commit([0], { events: [alert('alert.acknowledged', 3, 3, { by: 'bob', note: 'seen' })] });
      const acknowledged = {
        ...raised,
        state: 'acknowledged',
        acknowledged: true,
        acknowledgedBy: 'bob',
        acknowledgedAt: T0 + 3000,
        silencedUntil: T0 + 99_000,
        note: 'seen',
        revision: 3,
      };
      expect(await peek.alerts()).toEqual([acknowledged]);
      await writer.commit([0], { events: [alert('alert.cleared', 4, 4)] });
      expect(await peek.alerts()).toEqual([{ ...acknowledged, state: 'cleared', resolvedAt: T0 + 4000, revision: 4 }]);
    });

    it('follows it inside one commit too', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.commit([0], {
        events: [
          alert('alert.raised', 1, 1),
          alert('alert.acknowledged', 2, 2, { by: 'bob' }),
          alert('alert.resolved', 3, 3, { by: 'bob', note: 'done' }),
        ],
      });
      expect(await peek.alerts()).toEqual([
        {
          ...raised,
          state: 'resolved',
          acknowledged: true,
          acknowledgedBy: 'bob',
          acknowledgedAt: T0 + 2000,
          resolvedAt: T0 + 3000,
          note: 'done',
          revision: 3,
        },
      ]);
    });

    it('never moves an alert to an older revision', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      await writer.commit([0], { events: [alert('alert.raised', 1, 1), alert('alert.cleared', 2, 5)] });
      await writer.commit([0], { events: [alert('alert.raised', 3, 4), alert('alert.acknowledged', 4, 5)] });
      expect(await peek.alerts()).toMatchObject([{ state: 'cleared', acknowledged: false, revision: 5 }]);
      await writer.commit([0], { events: [alert('alert.acknowledged', 6, 5, { by: 'late' })] });
      expect(await peek.alerts()).toMatchObject([{ state: 'cleared', acknowledged: false, acknowledgedBy: null }]);
      // A change of an alert that is not there makes none.
      await writer.commit([0], { events: [alert('alert.cleared', 5, 9, { alertId: 'B' })] });
      expect(await peek.alerts()).toHaveLength(1);
    });

    it('writes an anomaly down once', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const body = {
        field: 'flow',
        value: 9.5,
        expected: [1, 2.5] as [number, number],
        score: 4.2,
        threshold: 3,
        detector: 'zscore' as const,
        severity: 'medium' as const,
        reason: 'far from the mean',
      };
      const first = event(twin, 1, 1, { type: 'anomaly.detected', body });
      const second = event(twin, 2, 2, { type: 'anomaly.detected', body: { ...body, expected: null } });
      await writer.commit([0], { events: [first, second] });
      const row = {
        ...body,
        anomalyId: first.eventId,
        twinId: 'meter:T-0-1',
        kind: 'meter',
        at: T0 + 1000,
        revision: 1,
      };
      expect(await peek.anomalies()).toEqual([
        row,
        { ...row, anomalyId: second.eventId, at: T0 + 2000, revision: 2, expected: null },
      ]);
      await writer.commit([0], { events: [{ ...first, seq: 3 }] });
      expect(await peek.anomalies()).toHaveLength(2);
    });

    it('writes down what a model found, with its name and the shares', async () => {
      const { store, peek } = await fresh();
      const writer = new Writer(store, 'a');
      await writer.claim(0);
      const body = {
        prediction: 'anomaly',
        model: 'meter-anomaly@1.0.0',
        score: 2,
        threshold: 1,
        field: 'flow',
        value: null,
        contributions: { flow: 0.75, pressure: 0.25 },
        detector: 'model' as const,
        severity: 'low' as const,
        reason: 'unlike what the model knows',
        expected: null,
      };
      const found = event(twin, 1, 1, { type: 'anomaly.detected', body });
      await writer.commit([0], { events: [found] });
      const { prediction: _prediction, ...columns } = body;
      expect(await peek.anomalies()).toEqual([
        { ...columns, anomalyId: found.eventId, twinId: 'meter:T-0-1', kind: 'meter', at: T0 + 1000, revision: 1 },
      ]);
    });
  });
}
