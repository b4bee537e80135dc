import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Entry } from '../../../actors/protocol/entry.ts';
import type { Emitted } from '../../../actors/protocol/event.ts';
import { defineTwin } from '../../../actors/protocol/kind.ts';
import { Activation } from '../../../actors/runtime/activation.ts';
import { refuse } from '../../../actors/runtime/commands.ts';
import { judgeReading } from '../../../actors/runtime/judging.ts';
import { H } from '../../../actors/runtime/layout.ts';
import { decodeSnapshot, encodeSnapshot, SNAPSHOT_SHAPE } from '../../../actors/runtime/snapshot.ts';
import { newState, type TwinState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { viewOf } from '../../../actors/runtime/view.ts';

const T0 = 1_750_000_000_000;

const definition = {
  kind: 'boiler',
  version: 2,
  title: 'Boiler',
  description: 'for tests',
  metrics: { temperature: { unit: '°C', min: -50, max: 500 }, pressure: { unit: 'bar', min: 0, max: 100 } },
  formats: [{ name: 'x', example: {}, decode: () => ({ id: 'b', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: 60_000, panes: 6 }, '10m': { spanMs: 600_000, panes: 5 } },
  detectors: {
    cooldownMs: 60_000,
    zscore: {
      window: '1m',
      threshold: 3,
      minCount: 5,
      metrics: ['temperature'],
      minStd: { temperature: 1 },
      holdMs: 120_000,
    },
    rate: { pressure: 2 },
    stuck: { pressure: { count: 10, forMs: 5_000 } },
  },
  rules: [
    {
      name: 'hot',
      metric: 'temperature',
      above: 90,
      hysteresis: 5,
      holdMs: 10_000,
      cooldownMs: 30_000,
      severity: 'critical' as const,
      message: 'Hot: {value} °C',
    },
    {
      name: 'low',
      metric: 'pressure',
      below: 1,
      hysteresis: 0.5,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'warning' as const,
      message: 'Low: {value} bar',
    },
  ],
  silentAfterMs: 60_000,
  graph: { type: 'Boiler' },
  digest: () => '',
};
const boiler = defineTwin(definition);

class Bench {
  readonly state: TwinState = newState(boiler, 'boiler:b');
  readonly events: Emitted[] = [];
  read(at: number, values: Record<string, number>, receivedAt = at): this {
    return this.fold({
      type: 'reading',
      revision: 0,
      receivedAt: T0 + receivedAt,
      reading: { kind: 'boiler', id: 'b', at: T0 + at, values },
    });
  }
  tick(at: number): this {
    return this.fold({ type: 'tick', revision: 0, receivedAt: T0 + at });
  }
  fold(entry: Entry): this {
    fold(this.state, { ...entry, revision: this.state.n[H.REVISION] + 1 } as Entry, this.events);
    return this;
  }
  types(): string[] {
    return this.events.map(({ type }) => type);
  }
  view() {
    return viewOf(this.state, { duplicates: 0, backfilled: 0 }, null);
  }
}

describe('the turn', () => {
  it('refuses an entry out of turn', () => {
    const state = newState(boiler, 'boiler:b');
    expect(() => fold(state, { type: 'tick', revision: 2, receivedAt: T0 }, [])).toThrow(/does not follow/);
  });

  it('raises after the hold, clears inside by the hysteresis, stays quiet for the cooldown', () => {
    const b = new Bench();
    b.read(0, { temperature: 95 }).read(9_999, { temperature: 95 });
    expect(b.types()).not.toContain('alert.raised');
    b.read(10_000, { temperature: 96 });
    expect(b.view().alerts).toMatchObject([
      { rule: 'hot', severity: 'critical', message: 'Hot: 96 °C', state: 'raised' },
    ]);
    expect(b.view().health.status).toBe('critical');
    b.read(11_000, { temperature: 86 });
    expect(b.view().alerts).toHaveLength(1);
    b.read(12_000, { temperature: 85 });
    expect(b.view().alerts).toHaveLength(0);
    expect(b.view().health.status).toBe('ok');
    b.read(20_000, { temperature: 95 }).read(35_000, { temperature: 95 });
    expect(b.types().filter((t) => t === 'alert.raised')).toHaveLength(1);
    b.read(42_001, { temperature: 95 }).read(52_001, { temperature: 95 });
    expect(b.types().filter((t) => t === 'alert.raised')).toHaveLength(2);
  });

  it('a hold that is interrupted starts again', () => {
    const b = new Bench();
    b.read(0, { temperature: 95 })
      .read(5_000, { temperature: 80 })
      .read(6_000, { temperature: 95 })
      .read(12_000, { temperature: 95 });
    expect(b.view().alerts).toHaveLength(0);
  });

  it('wakes for a hold that runs out while nothing arrives, and for silence', () => {
    const b = new Bench().read(0, { temperature: 95 });
    expect(b.state.n[H.WAKE]).toBe(T0 + 10_000);
    b.tick(10_000);
    expect(b.view().alerts).toHaveLength(1);
    expect(b.state.n[H.WAKE]).toBe(T0 + 60_000);
    b.tick(60_000);
    expect(b.types()).toContain('twin.offline');
    expect(b.view()).toMatchObject({
      online: false,
      health: { status: 'unknown' },
      stale: { reason: 'device silent' },
    });
    expect(b.state.n[H.WAKE]).toBe(0);
    b.read(70_000, { temperature: 20 });
    expect(b.types()).toContain('twin.online');
    expect(b.view().stale).toBeNull();
  });

  it('finds an outlier, says what it expected, holds the baseline through the episode and then cools down', () => {
    const b = new Bench();
    for (let i = 0; i < 30; i++) b.read(i * 1000, { temperature: 50 + (i % 2) });
    b.read(30_000, { temperature: 60 });
    const [anomaly] = b.events.filter(({ type }) => type === 'anomaly.detected');
    expect(anomaly.body).toMatchObject({ field: 'temperature', value: 60, detector: 'zscore', threshold: 3 });
    const [lo, hi] = anomaly.body.expected as [number, number];
    expect(lo).toBeCloseTo(50.5 - 3, 5);
    expect(hi).toBeCloseTo(50.5 + 3, 5);
    for (let i = 31; i < 80; i++) {
      b.read(i * 1000, { temperature: 60 });
      expect(b.state.n[H.FLAGGED]).toBe(1);
    }
    expect(b.events.filter(({ type }) => type === 'anomaly.detected')).toHaveLength(1);
    for (let i = 80; i < 200; i++) b.read(i * 1000, { temperature: 60 });
    expect(b.state.n[H.FLAGGED]).toBe(0);
  });

  it('finds a jump and a stuck sensor', () => {
    const b = new Bench().read(0, { pressure: 10 }).read(1_000, { pressure: 15 });
    expect(b.events.at(-1)?.body).toMatchObject({ detector: 'rate', expected: [8, 12] });
    const s = new Bench();
    for (let i = 0; i < 10; i++) s.read(i * 1000, { pressure: 10 });
    expect(s.events.at(-1)?.body).toMatchObject({ detector: 'stuck', field: 'pressure' });
  });

  it('a late reading changes statistics and never what is reported or judged', () => {
    const b = new Bench().read(10_000, { temperature: 50 }).read(5_000, { temperature: 120 });
    const view = b.view();
    expect(view.reported.temperature).toBe(50);
    expect(view.rolling.temperature['1m'].count).toBe(2);
    expect(view.ingest).toMatchObject({ accepted: 2, late: 1 });
    expect(b.state.n[H.WAKE]).toBe(T0 + 5_000 + 65_000);
  });

  it('folds commands: desired and delta, acknowledge, resolve, retire', () => {
    const b = new Bench().read(0, { pressure: 0.5 });
    const [alert] = b.view().alerts;
    const command = (c: object): void => {
      b.fold({ type: 'command', revision: 0, receivedAt: T0 + 1, command: { key: 'k', by: 'anna', ...c } as never });
    };
    command({ name: 'acknowledge', alert: alert.alertId, note: 'seen' });
    expect(b.view().alerts[0]).toMatchObject({ state: 'acknowledged', acknowledgedBy: 'anna' });
    command({ name: 'desired', patch: { pressure: 0.5, valve: { open: true } } });
    expect(b.view()).toMatchObject({
      desired: { pressure: 0.5, valve: { open: true } },
      delta: { valve: { open: true } },
    });
    command({ name: 'desired', patch: { valve: null } });
    expect(b.view().delta).toEqual({});
    command({ name: 'resolve', alert: alert.alertId });
    expect(b.view().alerts).toHaveLength(0);
    command({ name: 'retire' });
    expect(b.view()).toMatchObject({ retired: true, online: false });
  });

  it('tells the delta again when the device comes to what is desired, and when it leaves it', () => {
    const b = new Bench().read(0, { pressure: 5 });
    b.fold({
      type: 'command',
      revision: 0,
      receivedAt: T0,
      command: { name: 'desired', patch: { pressure: 3 }, key: 'k', by: 'anna' },
    });
    const deltas = () => b.events.filter(({ type }) => type === 'desired.changed').map(({ body }) => body.delta);
    b.read(1000, { pressure: 4 });
    expect(deltas()).toEqual([{ pressure: 3 }]);
    b.read(2000, { pressure: 3 });
    expect(deltas()).toEqual([{ pressure: 3 }, {}]);
    b.read(3000, { pressure: 3 });
    b.read(4000, { pressure: 6 });
    expect(deltas()).toEqual([{ pressure: 3 }, {}, { pressure: 3 }]);
  });

  it('takes a tuning from its journal', () => {
    const b = new Bench();
    b.fold({
      type: 'tuning',
      revision: 0,
      receivedAt: T0,
      tuning: { version: 1, latenessMs: 5_000, rules: { low: { below: 3 } } },
    });
    b.read(10_000, { pressure: 2 });
    expect(b.view().alerts).toMatchObject([{ rule: 'low' }]);
    expect(b.state.n[H.FLOOR]).toBe(T0 + 5_000);
  });

  it('replay equals live bit for bit, from every snapshot on the way', () => {
    const entry = fc.oneof(
      fc.record({
        at: fc.integer({ min: 0, max: 900_000 }),
        temperature: fc.double({ min: 0, max: 120, noNaN: true }),
      }),
      fc.record({ at: fc.integer({ min: 0, max: 900_000 }), pressure: fc.double({ min: 0, max: 20, noNaN: true }) }),
      fc.record({ tick: fc.integer({ min: 0, max: 900_000 }) }),
    );
    fc.assert(
      fc.property(fc.array(entry, { minLength: 1, maxLength: 120 }), fc.nat(), (entries, pick) => {
        const live = new Bench();
        const cut = pick % entries.length;
        let resumed: Bench | null = null;
        entries.forEach((e, i) => {
          for (const bench of resumed ? [live, resumed] : [live]) {
            if ('tick' in e) bench.tick(e.tick);
            else {
              const { at, ...values } = e as { at: number } & Record<string, number>;
              bench.read(at, values);
            }
          }
          if (i === cut) {
            const bytes = encodeSnapshot(live.state, { duplicates: 1, backfilled: 2 });
            const restored = decodeSnapshot(boiler, 'boiler:b', SNAPSHOT_SHAPE, boiler.version, bytes);
            expect(restored).toMatchObject({ carried: false, counts: { duplicates: 1, backfilled: 2 } });
            resumed = new Bench();
            Object.assign(resumed.state, restored.state);
          }
        });
        const bits = (s: TwinState) => [...new BigUint64Array(s.n.slice().buffer)];
        expect(bits(resumed!.state)).toEqual(bits(live.state));
        expect(resumed!.state.aside).toEqual(live.state.aside);
        expect(resumed!.state.recent.toArray()).toEqual(live.state.recent.toArray());
      }),
      { numRuns: 60 },
    );
  });
});

describe('what a device makes up', () => {
  it('is bounded: attributes beyond the limit are not taken, known ones still change', () => {
    const b = new Bench();
    const send = (at: number, attributes: Record<string, string>) =>
      b.fold({
        type: 'reading',
        revision: 0,
        receivedAt: T0 + at,
        reading: { kind: 'boiler', id: 'b', at: T0 + at, values: { pressure: 5 }, attributes },
      });
    for (let i = 0; i < 100; i++) send(i, { [`name${i}`]: 'x' });
    expect(Object.keys(b.view().attributes)).toHaveLength(64);
    send(200, { name1: 'changed', name99: 'no' });
    expect(b.view().attributes).toMatchObject({ name1: 'changed' });
    expect(b.view().attributes).not.toHaveProperty('name99');
  });

  it('is bounded: a twin learns 64 metrics and goes on with those', () => {
    const open = defineTwin({
      ...definition,
      kind: 'gadget',
      openMetrics: true,
      metrics: {},
      rules: [],
      detectors: {},
    });
    const activation = new Activation(1, newState(open, 'gadget:g'), { duplicates: 0, backfilled: 0 }, 0);
    const reading = (i: number, metric: string) => ({ kind: 'gadget', id: 'g', at: T0 + i, values: { [metric]: i } });
    for (let i = 0; i < 64; i++) {
      expect(judgeReading(activation, reading(i, `m${i}`))).toBe('accepted');
      fold(activation.state, { type: 'reading', revision: i + 1, receivedAt: T0, reading: reading(i, `m${i}`) }, []);
    }
    expect(judgeReading(activation, reading(100, 'another'))).toBe('too_many_metrics');
    expect(judgeReading(activation, reading(100, 'm7'))).toBe('accepted');
  });

  it('is bounded: a desired state of unreasonable size is refused', () => {
    const { state } = new Bench().read(0, { pressure: 5 });
    const patch = { note: 'x'.repeat(20_000) };
    expect(() => refuse(state, { name: 'desired', patch, key: 'k', by: 'anna' })).toThrow(/longer than/);
  });
});

describe('a snapshot', () => {
  it('of a newer kind or shape is refused', () => {
    const bytes = encodeSnapshot(new Bench().read(0, { pressure: 3 }).state, { duplicates: 0, backfilled: 0 });
    expect(() => decodeSnapshot(boiler, 'boiler:b', SNAPSHOT_SHAPE, 3, bytes)).toThrow(/kind version 3/);
    expect(() => decodeSnapshot(boiler, 'boiler:b', SNAPSHOT_SHAPE + 1, 2, bytes)).toThrow(/shape/);
  });

  it('of another layout carries over what still means the same', () => {
    const b = new Bench();
    for (let i = 0; i < 20; i++) b.read(i * 1000, { temperature: 95, pressure: 0.5 });
    const bytes = encodeSnapshot(b.state, { duplicates: 0, backfilled: 0 });
    const next = defineTwin({
      ...definition,
      version: 3,
      metrics: { flow: { unit: 'l/s', min: 0, max: 9 }, ...definition.metrics },
      windows: { '1m': { spanMs: 60_000, panes: 6 }, '1h': { spanMs: 3_600_000, panes: 6 } },
      rules: [definition.rules[1]],
    });
    const { state, carried } = decodeSnapshot(next, 'boiler:b', SNAPSHOT_SHAPE, 2, bytes);
    expect(carried).toBe(true);
    const view = viewOf(state, { duplicates: 0, backfilled: 0 }, null);
    expect(view.reported).toEqual({ temperature: 95, pressure: 0.5 });
    expect(view.rolling.temperature['1m']).toEqual(b.view().rolling.temperature['1m']);
    expect(view.rolling.temperature['1h'].count).toBe(0);
    expect(view.alerts.map(({ rule }) => rule)).toEqual(['low']);
    expect(state.n[H.RAISED]).toBe(1);
    fold(
      state,
      {
        type: 'reading',
        revision: state.n[H.REVISION] + 1,
        receivedAt: T0 + 21_000,
        reading: { kind: 'boiler', id: 'b', at: T0 + 21_000, values: { flow: 2 } },
      },
      [],
    );
    expect(viewOf(state, { duplicates: 0, backfilled: 0 }, null).reported).toEqual({
      flow: 2,
      temperature: 95,
      pressure: 0.5,
    });
  });
});
