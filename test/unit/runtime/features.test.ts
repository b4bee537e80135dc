import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { STATISTICS } from '../../../actors/protocol/feature.ts';
import { defineTwin } from '../../../actors/protocol/kind.ts';
import { featureNames, featureReader, featuresOf } from '../../../actors/runtime/features.ts';
import { H } from '../../../actors/runtime/layout.ts';
import { newState, type TwinState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { viewOf } from '../../../actors/runtime/view.ts';

const T0 = 1_750_000_000_000;
const PANE_MS = 10_000;
const PANES = 6;

const definition = {
  kind: 'boiler',
  version: 1,
  title: 'Boiler',
  description: 'for tests',
  metrics: { temperature: { unit: '°C', min: -500, max: 500 }, pressure: { unit: 'bar', min: 0, max: 100 } },
  formats: [{ name: 'x', example: {}, decode: () => ({ id: 'b', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: PANES * PANE_MS, panes: PANES }, '10m': { spanMs: 600_000, panes: 5 } },
  detectors: {},
  rules: [],
  features: {
    above_mean: (f: (name: string) => number) => f('temperature') - f('temperature.1m.mean'),
    twice_above: (f: (name: string) => number) => 2 * f('above_mean'),
    endless: () => Number.POSITIVE_INFINITY,
    itself: (f: (name: string) => number) => f('itself') + 1,
    unknown: (f: (name: string) => number) => f('humidity'),
  },
  silentAfterMs: 60_000,
  graph: { type: 'Boiler' },
  digest: () => '',
};
const boiler = defineTwin(definition);

function read(state: TwinState, at: number, values: Record<string, number>): void {
  const revision = state.n[H.REVISION] + 1;
  const reading = { kind: state.kind.kind, id: 'b', at: T0 + at, values };
  fold(state, { type: 'reading', revision, receivedAt: T0 + at, reading }, []);
}

function features(state: TwinState, ...inputs: string[]): number[] {
  const reader = featureReader(state.kind, inputs);
  const into = new Float64Array(reader.width);
  featuresOf(state, reader, into, 0);
  return [...into];
}

describe('features', () => {
  it('expands panes and says the width', () => {
    const inputs = ['temperature', 'temperature.1m.panes', 'pressure.10m.z', 'time.hour_sin', 'above_mean'];
    expect(featureNames(boiler, inputs)).toEqual([
      'temperature',
      ...Array.from({ length: PANES }, (_, i) => `temperature.1m.panes[${i}]`),
      'pressure.10m.z',
      'time.hour_sin',
      'above_mean',
    ]);
    expect(featureReader(boiler, inputs).width).toBe(PANES + 4);
    expect(featureReader(boiler, [...inputs])).toBe(featureReader(boiler, inputs));
  });

  it('refuses names that mean nothing', () => {
    for (const name of ['humidity', 'temperature.1m.median', 'temperature.2m.mean', '', 'toString', 'time.minute'])
      expect(() => featureReader(boiler, [name])).toThrow(RangeError);
  });

  it('has NaN where there is none, and a count of 0', () => {
    const state = newState(boiler, 'boiler:b');
    const inputs = ['temperature', ...STATISTICS.map((s) => `temperature.1m.${s}`), 'temperature.1m.panes'];
    expect(features(state, ...inputs, 'time.hour_sin', 'above_mean')).toEqual(
      featureNames(boiler, [...inputs, 'time.hour_sin', 'above_mean']).map((name) =>
        name.endsWith('.count') ? 0 : Number.NaN,
      ),
    );
    read(state, 0, { temperature: 20 });
    const [std, slope, z, other, endless, itself, unknown] = features(
      state,
      'temperature.1m.std',
      'temperature.1m.slope',
      'temperature.1m.z',
      'pressure.1m.mean',
      'endless',
      'itself',
      'unknown',
    );
    for (const value of [std, slope, z, other, endless, itself, unknown]) expect(value).toBeNaN();
  });

  it('writes at the offset, nothing before or behind', () => {
    const state = newState(boiler, 'boiler:b');
    read(state, 0, { temperature: 20, pressure: 2 });
    const into = new Float32Array(5).fill(-1);
    featuresOf(state, featureReader(boiler, ['pressure', 'temperature']), into, 2);
    expect([...into]).toEqual([-1, -1, 2, 20, -1]);
  });

  it('tells the hour of the newest reading on the circle, in UTC', () => {
    const state = newState(boiler, 'boiler:b');
    const six = Date.UTC(2025, 5, 16, 6) - T0;
    read(state, six, { temperature: 1 });
    const [sin, cos] = features(state, 'time.hour_sin', 'time.hour_cos');
    expect(sin).toBeCloseTo(1, 12);
    expect(cos).toBeCloseTo(0, 12);
    read(state, six - 3_600_000, { temperature: 1 });
    expect(features(state, 'time.hour_sin')[0]).toBeCloseTo(1, 12);
  });

  it('computes features of the kind from others', () => {
    const state = newState(boiler, 'boiler:b');
    read(state, 0, { temperature: 10 });
    read(state, 1000, { temperature: 20 });
    expect(features(state, 'above_mean', 'twice_above')).toEqual([5, 10]);
  });

  it('fills an empty pane with the one before it, and leaves those before the first reading out', () => {
    const state = newState(boiler, 'boiler:b');
    const start = Math.ceil(T0 / PANE_MS) * PANE_MS - T0;
    read(state, start, { temperature: 1 });
    read(state, start + 1, { temperature: 3 });
    read(state, start + 3 * PANE_MS, { temperature: 10 });
    expect(features(state, 'temperature.1m.panes')).toEqual([Number.NaN, Number.NaN, 2, 2, 2, 10]);
  });

  it('reads kinds with open metrics, dots in their names and all', () => {
    const device = defineTwin({ ...definition, kind: 'dev', metrics: {}, openMetrics: true, features: {} });
    const state = newState(device, 'dev:b');
    read(state, 0, { 'a.b': 4, c: 5 });
    read(state, 1000, { 'a.b': 6 });
    expect(features(state, 'a.b', 'a.b.1m.mean', 'c', 'd', 'd.1m.count')).toEqual([6, 5, 5, Number.NaN, 0]);
  });

  it('has no z-score where readings before differ by next to nothing', () => {
    const state = newState(boiler, 'boiler:b');
    [0, 1e-160, 0, 300].forEach((temperature, i) => {
      read(state, i * 1000, { temperature });
    });
    const { z } = viewOf(state, { duplicates: 0, backfilled: 0 }, null).rolling.temperature['1m'];
    expect(z).toBeNull();
    expect(features(state, 'temperature.1m.z')).toEqual([Number.NaN]);
  });

  it('agrees with the view and with a naive computation over the readings', () => {
    const reading = fc.record({
      gapMs: fc.integer({ min: 1, max: 25_000 }),
      // of 0 and −0 neither is the smaller, and Object.is tells them apart
      value: fc.double({ min: -400, max: 400, noNaN: true }).map((value) => value + 0),
    });
    fc.assert(
      fc.property(fc.array(reading, { minLength: 1, maxLength: 60 }), (readings) => {
        const state = newState(boiler, 'boiler:b');
        const seen: { at: number; value: number }[] = [];
        let at = 0;
        for (const { gapMs, value } of readings) {
          at += gapMs;
          read(state, at, { temperature: value });
          seen.push({ at: T0 + at, value });
        }
        const shown = viewOf(state, { duplicates: 0, backfilled: 0 }, null).rolling.temperature['1m'];
        const stats = features(state, ...STATISTICS.map((s) => `temperature.1m.${s}`));
        STATISTICS.forEach((s, i) => {
          expect(stats[i]).toBe(shown[s] ?? Number.NaN);
        });

        const head = Math.floor((T0 + at) / PANE_MS);
        const inside = seen.filter((r) => Math.floor(r.at / PANE_MS) > head - PANES);
        const mean = inside.reduce((sum, r) => sum + r.value, 0) / inside.length;
        const of = (name: (typeof STATISTICS)[number]): number => stats[STATISTICS.indexOf(name)];
        expect(of('count')).toBe(inside.length);
        expect(of('mean')).toBeCloseTo(mean, 6);
        expect(of('min')).toBe(Math.min(...inside.map((r) => r.value)));
        expect(of('max')).toBe(Math.max(...inside.map((r) => r.value)));
        expect(of('last')).toBe(seen.at(-1)?.value);
        if (inside.length > 1) {
          const squares = inside.reduce((sum, r) => sum + (r.value - mean) ** 2, 0);
          expect(of('std')).toBeCloseTo(Math.sqrt(squares / (inside.length - 1)), 5);
        }

        const panes: number[] = [];
        for (let p = head - PANES + 1; p <= head; p++) {
          const fell = seen.filter((r) => Math.floor(r.at / PANE_MS) === p);
          const before = panes.at(-1) ?? Number.NaN;
          panes.push(fell.length === 0 ? before : fell.reduce((sum, r) => sum + r.value, 0) / fell.length);
        }
        features(state, 'temperature.1m.panes').forEach((value, i) => {
          if (Number.isNaN(panes[i])) expect(value).toBeNaN();
          else expect(value).toBeCloseTo(panes[i], 6);
        });
      }),
      { numRuns: 150 },
    );
  });
});
