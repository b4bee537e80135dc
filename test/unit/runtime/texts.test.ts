import { describe, expect, it } from 'vitest';
import type { Emitted } from '../../../actors/protocol/event.ts';
import { defineTwin } from '../../../actors/protocol/kind.ts';
import { H } from '../../../actors/runtime/layout.ts';
import { newState, type TwinState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { noticeOf } from '../../../services/notify/notice.ts';
import { event } from '../notify/sample.ts';

const T0 = Date.UTC(2026, 5, 1);
const quick = { hysteresis: 1, holdMs: 0, cooldownMs: 0, severity: 'high' as const };

const pump = defineTwin({
  kind: 'pump',
  version: 1,
  title: 'Pump',
  description: 'for tests',
  metrics: {
    vibration: { unit: 'mm/s', min: 0, max: 1_000 },
    level: { unit: 'm', min: 0, max: 1_000 },
  },
  formats: [{ name: 'x', example: {}, decode: () => ({ id: 'p', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: 60_000, panes: 6 } },
  detectors: {
    cooldownMs: 20_000,
    zscore: {
      window: '1m',
      threshold: 3,
      minCount: 5,
      metrics: ['vibration'],
      minStd: { vibration: 1 },
      holdMs: 90_000,
    },
    stuck: { level: { count: 3, forMs: 1_000 } },
  },
  rules: [
    { name: 'shakes', metric: 'vibration', above: 90, ...quick, message: 'It shakes at {value} mm/s.' },
    { name: 'dry', metric: 'level', below: 2, ...quick, message: 'The level is {value} m: fill it.' },
  ],
  silentAfterMs: 600_000,
  graph: { type: 'pump' },
  digest: () => '',
});

class Bench {
  readonly state: TwinState = newState(pump, 'pump:p');
  readonly events: Emitted[] = [];

  read(at: number, values: Record<string, number>): this {
    const reading = { kind: 'pump', id: 'p', at: T0 + at, values };
    fold(
      this.state,
      { type: 'reading', revision: this.state.n[H.REVISION] + 1, receivedAt: T0 + at, reading },
      this.events,
    );
    return this;
  }

  bodies(type: Emitted['type']): Record<string, unknown>[] {
    return this.events.filter((one) => one.type === type).map(({ body }) => body);
  }
}

describe('what texts say', () => {
  it('names the baseline that a value was measured against: the mean, or since when it is held', () => {
    const b = new Bench();
    for (let i = 0; i < 20; i++) b.read(i * 1_000, { vibration: 10 + (i % 2) });
    for (let i = 20; i < 60; i++) b.read(i * 1_000, { vibration: 30 });
    const [first, second] = b.bodies('anomaly.detected').map(({ reason }) => String(reason));
    expect(first).toMatch(/ standard deviations from its 1m mean of 10\.5; expected 7\.5 to 13\.5\.$/);
    // By then the window's own mean is near 30.
    expect(second).toMatch(
      /^vibration 30 is 19\.5 standard deviations from 10\.5, its 1m mean held since 2026-06-01T00:00:20\.000Z, when it was first unusual; expected 7\.5 to 13\.5\.$/,
    );
  });

  it('gives numbers four significant digits', () => {
    const b = new Bench().read(0, { vibration: 91.23456 });
    expect(b.bodies('alert.raised')[0].message).toBe('It shakes at 91.23 mm/s.');
    for (let i = 0; i < 3; i++) b.read(i * 1_000, { level: 3.4567891 });
    expect(b.bodies('anomaly.detected')[0].reason).toBe(
      'level has stood still at 3.457 for 3 readings over 2 s: the sensor may be stuck.',
    );
  });

  it('says of an alert that has cleared that it is over, with the value now, and so to whoever is told', () => {
    const b = new Bench().read(0, { level: 1 }).read(1_000, { level: 3.456789 });
    const [body] = b.bodies('alert.cleared');
    expect(body).toMatchObject({
      message: 'It is over: level is 3.457 m; the limit is 2 m.',
      value: 3.456789,
    });
    expect(noticeOf(event('alert.cleared', body))).toMatchObject({
      action: 'resolve',
      text: 'It is over: level is 3.457 m; the limit is 2 m.',
    });
  });

  it('says so where the rule was switched off while its alert stood', () => {
    const b = new Bench().read(0, { level: 1 });
    const tuning = { version: 1, rules: { dry: { enabled: false } } };
    fold(b.state, { type: 'tuning', revision: b.state.n[H.REVISION] + 1, receivedAt: T0 + 500, tuning } as never, []);
    b.read(1_000, { level: 1 });
    expect(b.bodies('alert.cleared')[0].message).toBe('It is over: the rule has been switched off; level is 1 m.');
  });
});
