import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Entry } from '../../../actors/protocol/entry.ts';
import type { Emitted } from '../../../actors/protocol/event.ts';
import { defineTwin, type Kind, type KindDefinition } from '../../../actors/protocol/kind.ts';
import { readPrediction } from '../../../actors/runtime/answer.ts';
import { isDue } from '../../../actors/runtime/foretelling.ts';
import { H, layoutOf, P } from '../../../actors/runtime/layout.ts';
import { decodeSnapshot, encodeSnapshot, SNAPSHOT_SHAPE } from '../../../actors/runtime/snapshot.ts';
import { newState, type TwinState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { viewOf } from '../../../actors/runtime/view.ts';
import { entryView } from '../../../services/twins/entry-view.ts';

const T0 = 1_750_000_000_000;
const HOUR = 3_600_000;

const definition: KindDefinition = {
  kind: 'boiler',
  version: 1,
  title: 'Boiler',
  description: 'for tests',
  metrics: {
    temperature: { unit: '°C', min: -50, max: 500, normal: [10, 90] },
    pressure: { unit: 'bar', min: 0, max: 100 },
  },
  formats: [{ name: 'x', example: {}, decode: () => ({ id: 'b', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: 60_000, panes: 6 } },
  detectors: { cooldownMs: 60_000 },
  rules: [
    {
      name: 'worn',
      metric: 'predictions.rul',
      below: 20,
      hysteresis: 5,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'high',
      message: '{value} h left',
    },
    {
      name: 'odd',
      metric: 'predictions.anomaly',
      above: 2,
      hysteresis: 0.5,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'critical',
      message: '{value} times the threshold',
    },
  ],
  models: {
    anomaly: {
      model: 'boiler-anomaly',
      inputs: ['temperature', 'pressure.1m.mean'],
      everyMs: 10_000,
      minReadings: 2,
      anomaly: {},
    },
    rul: {
      model: 'boiler-rul',
      inputs: ['temperature'],
      everyMs: 60_000,
      needs: [],
      maintenance: { inspectBelowH: 100, scheduleBelowH: 50, stopBelowH: 10, hoursPerUnit: 2 },
    },
  },
  silentAfterMs: 60_000,
  graph: { type: 'Boiler' },
  digest: () => '',
};
const boiler = defineTwin(definition);
const [anomalyPlan, rulPlan] = layoutOf(boiler).predictions;

class Bench {
  readonly state: TwinState;
  readonly events: Emitted[] = [];
  readonly journal: Entry[] = [];
  constructor(kind: Kind = boiler) {
    this.state = newState(kind, `${kind.kind}:b`);
  }
  read(at: number, values: Record<string, number>, receivedAt = at): this {
    const reading = { kind: this.state.kind.kind, id: 'b', at: T0 + at, values };
    return this.fold({ type: 'reading', revision: 0, receivedAt: T0 + receivedAt, reading });
  }
  say(name: string, prediction: Record<string, unknown>, at = this.state.n[H.AT] - T0): this {
    const basedOn = this.state.n[H.REVISION];
    const said = { model: `boiler-${name}@1.0.0`, at: T0 + at, ...prediction };
    return this.fold({ type: 'prediction', revision: 0, receivedAt: T0 + at + 5, name, basedOn, prediction: said });
  }
  fold(entry: Entry): this {
    const numbered = { ...entry, revision: this.state.n[H.REVISION] + 1 } as Entry;
    this.journal.push(structuredClone(numbered));
    fold(this.state, numbered, this.events);
    return this;
  }
  last(type: string): Record<string, unknown> | undefined {
    return this.events.findLast((event) => event.type === type)?.body;
  }
  count(type: string): number {
    return this.events.filter((event) => event.type === type).length;
  }
  view() {
    return viewOf(this.state, { duplicates: 0, backfilled: 0 }, null);
  }
}

describe('a prediction', () => {
  it('is shown with model, version, time and what it is based on', () => {
    const bench = new Bench()
      .read(0, { temperature: 20 })
      .say('rul', { value: 90, unit: 'cycles', interval: [80, 99] });
    expect(bench.view().predictions).toEqual({
      rul: {
        model: 'boiler-rul',
        version: '1.0.0',
        at: new Date(T0).toISOString(),
        basedOn: 1,
        value: 90,
        unit: 'cycles',
        interval: [80, 99],
        stale: null,
      },
    });
  });

  it('is stale once the twin has told more than it may be old by, or when its model does not answer', () => {
    const bench = new Bench().read(0, { temperature: 20 }).say('rul', { value: 90 });
    bench.read(180_000, { temperature: 20 });
    expect(bench.view().predictions.rul.stale).toBeNull();
    bench.read(180_001, { temperature: 20 });
    expect(bench.view().predictions.rul.stale).toMatchObject({
      reason: 'overdue',
      since: new Date(T0 + 180_000).toISOString(),
    });
    const failing = (model: string): number | null => (model === 'boiler-rul' ? T0 + 7 : null);
    const view = viewOf(bench.state, { duplicates: 0, backfilled: 0 }, null, failing);
    expect(view.predictions.rul.stale).toMatchObject({
      reason: 'inference down',
      since: new Date(T0 + 7).toISOString(),
    });
  });

  it('stands in the journal with its time as people read it', () => {
    const bench = new Bench().read(0, { temperature: 20 }).say('rul', { value: 90 });
    expect(entryView(bench.journal[1])).toEqual({
      revision: 2,
      type: 'prediction',
      receivedAt: new Date(T0 + 5).toISOString(),
      name: 'rul',
      basedOn: 1,
      prediction: { at: new Date(T0).toISOString(), model: 'boiler-rul@1.0.0', value: 90 },
    });
    const timeless: Entry = {
      type: 'prediction',
      revision: 1,
      receivedAt: T0,
      name: 'x',
      basedOn: 0,
      prediction: { at: 1e300 },
    };
    expect(entryView(timeless).prediction).toEqual({});
  });

  it('shares nothing with the view', () => {
    const bench = new Bench().read(0, { temperature: 20 }).say('rul', { value: 90, interval: [80, 99] });
    bench.view().predictions.rul.interval![0] = -1;
    expect(bench.view().predictions.rul.interval).toEqual([80, 99]);
  });

  it('of a name that the kind does not have changes nothing but what is kept', () => {
    const bench = new Bench().read(0, { temperature: 20 });
    const before = bench.state.n.slice();
    bench.say('other', { value: 1 });
    before[H.REVISION]++;
    expect(bench.state.n).toEqual(before);
    expect(bench.view().predictions).toEqual({});
  });

  it('never makes a fold throw, whatever is in it', () => {
    const anything = fc.dictionary(
      fc.constantFrom('model', 'at', 'value', 'unit', 'interval', 'score', 'threshold', 'contributions'),
      fc.oneof(fc.anything(), fc.double(), fc.array(fc.double()), fc.dictionary(fc.string(), fc.double())),
    );
    fc.assert(
      fc.property(fc.constantFrom('anomaly', 'rul'), fc.array(anything), (name, predictions) => {
        const bench = new Bench().read(0, { temperature: 20 });
        for (const prediction of predictions)
          bench.fold({ type: 'prediction', revision: 0, receivedAt: T0, name, basedOn: 1, prediction });
        bench.view();
        for (const at of [P.AT, P.RECEIVED, P.COUNT, P.ANOMALY_AT, P.ACTION])
          for (const { offset } of [anomalyPlan, rulPlan]) expect(bench.state.n[offset + at]).not.toBeNaN();
      }),
      { numRuns: 300 },
    );
  });
});

describe('an anomaly score', () => {
  const shares = { temperature: 0.25, pressure: 0.75 };

  it('above its threshold is an anomaly of the metric with the largest share, once a cooldown', () => {
    const bench = new Bench().read(0, { temperature: 20, pressure: 7 });
    bench.say('anomaly', { score: 3, threshold: 2, contributions: shares });
    expect(bench.last('anomaly.detected')).toEqual({
      prediction: 'anomaly',
      model: 'boiler-anomaly@1.0.0',
      score: 3,
      threshold: 2,
      field: 'pressure',
      value: 7,
      contributions: shares,
      detector: 'model',
      severity: 'medium',
      reason: 'boiler-anomaly@1.0.0 gives a score of 3, 1.5 times its threshold of 2; pressure has 75 % of it.',
      expected: null,
    });
    bench.read(59_999, { temperature: 20 }).say('anomaly', { score: 9, threshold: 2 });
    expect(bench.count('anomaly.detected')).toBe(1);
    bench.read(60_000, { temperature: 20 }).say('anomaly', { score: 9, threshold: 2 });
    expect(bench.last('anomaly.detected')).toMatchObject({ field: 'anomaly', value: null, severity: 'high' });
    expect(bench.state.n[H.ANOMALIES]).toBe(2);
  });

  it('at or below its threshold is none, and one without a threshold neither', () => {
    const bench = new Bench().read(0, { temperature: 20 });
    bench
      .say('anomaly', { score: 2, threshold: 2 })
      .say('anomaly', { score: 9 })
      .say('anomaly', { score: Number.NaN, threshold: 2 });
    expect(bench.count('anomaly.detected')).toBe(0);
  });

  it('names the ordinary range where the value lies outside it', () => {
    const bench = new Bench().read(0, { temperature: 95 });
    bench.say('anomaly', { score: 3, threshold: 2, contributions: { temperature: 1 } });
    expect(bench.last('anomaly.detected')).toMatchObject({ field: 'temperature', value: 95, expected: [10, 90] });
  });
});

describe('remaining life', () => {
  it('is told when the recommended action changes, and taken back only beyond the limit', () => {
    const bench = new Bench().read(0, { temperature: 20 });
    bench.say('rul', { value: 60 });
    expect(bench.count('maintenance.predicted')).toBe(0);
    bench.say('rul', { value: 49, unit: 'cycles', interval: [40, 60] });
    expect(bench.last('maintenance.predicted')).toEqual({
      prediction: 'rul',
      model: 'boiler-rul@1.0.0',
      value: 49,
      unit: 'cycles',
      hours: 98,
      interval: [40, 60],
      hoursInterval: [80, 120],
      action: 'inspect',
      priority: 'medium',
    });
    bench.say('rul', { value: 51 }).say('rul', { value: 49 }).say('rul', { value: 52.4 });
    expect(bench.count('maintenance.predicted')).toBe(1);
    bench.say('rul', { value: 52.5 });
    expect(bench.last('maintenance.predicted')).toMatchObject({ action: 'none', priority: 'low' });
    bench.say('rul', { value: 4 });
    expect(bench.last('maintenance.predicted')).toMatchObject({ action: 'stop', priority: 'critical' });
    // out of stop, but not far enough above the limits of the levels between
    bench.say('rul', { value: 26 });
    expect(bench.last('maintenance.predicted')).toMatchObject({ action: 'schedule_maintenance', priority: 'high' });
    expect(bench.count('maintenance.predicted')).toBe(4);
  });
});

describe('a rule on a prediction', () => {
  it('is judged by its value, and by score to threshold', () => {
    const bench = new Bench().read(0, { temperature: 20 }).say('rul', { value: 19 });
    expect(bench.view().alerts.map(({ rule, message }) => [rule, message])).toEqual([['worn', '19 h left']]);
    bench.say('rul', { value: 25 }).say('anomaly', { score: 5, threshold: 2 });
    expect(bench.view().alerts.map(({ rule, message }) => [rule, message])).toEqual([
      ['odd', '2.5 times the threshold'],
    ]);
    expect(bench.view().health.status).toBe('critical');
  });

  it('is not judged by a metric of that name', () => {
    const { detectors, models } = definition;
    const open = defineTwin({ ...definition, kind: 'dev', metrics: {}, openMetrics: true, detectors, models });
    const bench = new Bench(open).read(0, { 'predictions.rul': 1 });
    expect(bench.view().alerts).toEqual([]);
  });
});

describe('being due', () => {
  const due = ({ state }: Bench, plan = anomalyPlan): boolean => isDue(state, plan);

  it('needs the readings and the metrics that the inputs name', () => {
    const bench = new Bench();
    expect(due(bench, rulPlan)).toBe(false);
    bench.read(0, { temperature: 20 });
    expect(due(bench, rulPlan)).toBe(true);
    bench.read(1000, { temperature: 20 });
    expect(due(bench)).toBe(false);
    bench.read(2000, { pressure: 2 });
    expect(due(bench)).toBe(true);
  });

  it('comes again after the period in event time, however fast that goes', () => {
    const bench = new Bench().read(0, { temperature: 20, pressure: 2 }).read(1, { temperature: 20 });
    bench.say('anomaly', { score: 1, threshold: 2 });
    expect(due(bench)).toBe(false);
    bench.read(10_000, { temperature: 20 }, 2);
    expect(due(bench)).toBe(false);
    bench.read(10_001, { temperature: 20 }, 3);
    expect(due(bench)).toBe(true);
    const slow = new Bench().read(0, { temperature: 20, pressure: 2 }).read(1, { temperature: 20 });
    slow.say('anomaly', { score: 1, threshold: 2 }).read(9_000, { temperature: 20 }, 60_000);
    expect(due(slow)).toBe(false);
  });

  it('ends with retirement', () => {
    const bench = new Bench().read(0, { temperature: 20 });
    const command = { name: 'retire' as const, key: 'k', by: 'x' };
    bench.fold({ type: 'command', revision: 0, receivedAt: T0, command });
    expect(due(bench, rulPlan)).toBe(false);
  });
});

describe('snapshots with predictions', () => {
  const counts = { duplicates: 0, backfilled: 0 };

  it('are what the journal folds to, bit for bit', () => {
    const step = fc.record({
      gapMs: fc.integer({ min: 0, max: 2 * HOUR }),
      name: fc.constantFrom('anomaly', 'rul', null),
      value: fc.double({ min: 0, max: 200, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const live = new Bench();
        let at = 0;
        for (const { gapMs, name, value } of steps) {
          at += gapMs;
          if (name === null || at === gapMs) live.read(at, { temperature: value });
          else if (name === 'rul') live.say(name, { value });
          else live.say(name, { score: value, threshold: 50, contributions: { temperature: 1 } });
        }
        const half = Math.floor(live.journal.length / 2);
        const first = new Bench();
        for (const entry of live.journal.slice(0, half)) fold(first.state, entry, []);
        const bytes = encodeSnapshot(first.state, counts);
        const { state } = decodeSnapshot(boiler, 'boiler:b', SNAPSHOT_SHAPE, 1, bytes);
        for (const entry of live.journal.slice(half)) fold(state, entry, []);
        expect(encodeSnapshot(state, counts)).toEqual(encodeSnapshot(live.state, counts));
      }),
      { numRuns: 100 },
    );
  });

  it('are carried over by name when the models of the kind change', () => {
    const bench = new Bench().read(0, { temperature: 20, pressure: 3 }).say('rul', { value: 7 });
    bench.say('anomaly', { score: 3, threshold: 2, contributions: { pressure: 1 } });
    const bytes = encodeSnapshot(bench.state, counts);
    const models = {
      health: { model: 'boiler-health', inputs: ['pressure'], everyMs: 1 },
      rul: definition.models!.rul,
    };
    const next = defineTwin({ ...definition, version: 2, rules: [definition.rules[0]], models });
    const { state, carried } = decodeSnapshot(next, 'boiler:b', SNAPSHOT_SHAPE, 1, bytes);
    expect(carried).toBe(true);
    const [health, rul] = state.layout.predictions;
    expect(state.n[health.offset + P.COUNT]).toBe(0);
    expect([...state.n.subarray(rul.offset, rul.offset + 8)]).toEqual([
      ...bench.state.n.subarray(rulPlan.offset, rulPlan.offset + 8),
    ]);
    const view = viewOf(state, counts, null);
    expect(Object.keys(view.predictions)).toEqual(['rul']);
    expect(view.reported).toEqual({ temperature: 20, pressure: 3 });
    expect(view.alerts.map(({ rule }) => rule)).toEqual(['worn']);
  });

  it('from before there were models gain them empty', () => {
    const { models, rules, ...plain } = definition;
    const before = new Bench(defineTwin({ ...plain, rules: [] })).read(0, { temperature: 20 });
    const bytes = encodeSnapshot(before.state, counts);
    expect(Buffer.from(bytes).toString('latin1')).not.toContain('predictions');
    const { state } = decodeSnapshot(defineTwin({ ...plain, rules, models, version: 2 }), 'boiler:b', 2, 1, bytes);
    expect(viewOf(state, counts, null).reported).toEqual({ temperature: 20 });
    expect(isDue(state, state.layout.predictions[1])).toBe(true);
  });
});

describe('a kind with models', () => {
  const faults = (change: object): string => {
    try {
      defineTwin({ ...definition, ...change } as KindDefinition);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  const use = definition.models!.rul;

  it.each([
    [{ models: [] }, 'models must be an object'],
    [{ models: { rul: null }, rules: [] }, 'models.rul: must be an object'],
    [{ models: { 'r u l': use }, rules: [] }, 'models.r u l: the name'],
    [{ models: { rul: { ...use, model: '../x' } }, rules: [] }, 'model must be'],
    [{ models: { rul: { ...use, inputs: [] } }, rules: [] }, 'inputs must be'],
    [{ models: { rul: { ...use, inputs: ['humidity'] } }, rules: [] }, 'unknown feature "humidity"'],
    [{ models: { rul: { ...use, inputs: ['temperature.9m.mean'] } }, rules: [] }, 'unknown feature'],
    [{ models: { rul: { ...use, everyMs: 0 } }, rules: [] }, 'everyMs'],
    [{ models: { rul: { ...use, everyMs: Number.NaN } }, rules: [] }, 'everyMs'],
    [{ models: { rul: { ...use, needs: ['humidity'] } }, rules: [] }, 'needs the unknown metric "humidity"'],
    [{ models: { rul: { ...use, minReadings: 0 } }, rules: [] }, 'minReadings'],
    [{ models: { rul: { ...use, staleAfterMs: -1 } }, rules: [] }, 'staleAfterMs'],
    [{ models: { rul: { ...use, when: 'hot' } }, rules: [] }, 'when: "hot" is no feature of one number'],
    [{ models: { rul: { ...use, when: 'temperature.1m.panes' } }, rules: [] }, 'is no feature of one number'],
    [{ models: { rul: { ...use, when: 7 } }, rules: [] }, 'is no feature of one number'],
    [{ models: { rul: { ...use, anomaly: { cooldownMs: -1 } } }, rules: [] }, 'cooldownMs'],
    [
      { models: { rul: { ...use, maintenance: { inspectBelowH: 1, scheduleBelowH: 2, stopBelowH: 3 } } }, rules: [] },
      'limits go from inspect',
    ],
    [{ models: undefined }, 'unknown metric "predictions.rul"'],
    [{ features: { temperature: () => 1 } }, 'a metric has this name'],
    [{ features: { 'a.b': () => 1 } }, 'feature "a.b"'],
    [{ features: { a: 1 } }, 'features.a must be a function'],
  ])('is refused where it is wrong: %j', (change, message) => {
    expect(faults(change)).toContain(message);
  });

  it('names its predictions', () => {
    expect(boiler.predictionNames).toEqual(['anomaly', 'rul']);
    expect(defineTwin({ ...definition, models: undefined, rules: [] }).predictionNames).toEqual([]);
  });
});

describe('an answer', () => {
  const read = (raw: unknown, plan = rulPlan) => readPrediction(raw, `boiler-${plan.name}`, T0, plan);

  it('keeps known members only, at the time that was asked about', () => {
    const said = { model: 'boiler-rul@1.0.0', at: 5, value: 3, interval: [1, 4], extra: 1, unit: 'h' };
    expect(read(said)).toEqual({ model: 'boiler-rul@1.0.0', at: T0, value: 3, interval: [1, 4], unit: 'h' });
  });

  it.each([
    null,
    'text',
    [],
    {},
    { model: 'boiler-rul@1.0.0' },
    { model: 'other@1.0.0', value: 1 },
    { model: 'boiler-rul@1.0.0', value: Number.NaN },
    { model: 'boiler-rul@1.0.0', value: '1' },
    { model: 'boiler-rul@1.0.0', value: 1, interval: [2, 1] },
    { model: 'boiler-rul@1.0.0', value: 1, interval: [1, Number.POSITIVE_INFINITY] },
    { model: 'boiler-rul@1.0.0', value: 1, contributions: { a: 0.4 } },
    { model: 'boiler-rul@1.0.0', value: 1, contributions: { a: -1, b: 2 } },
    JSON.parse('{ "model": "boiler-rul@1.0.0", "value": 1, "contributions": { "__proto__": 1 } }'),
    { model: 'boiler-rul@1.0.0', score: 1, threshold: 2 },
    { model: 'boiler-rul@1.0.0', value: 1, unit: 'h\u0000' },
    { model: 'boiler-rul@1.0.0', value: 1, class: '\ud800' },
    { model: 'boiler-rul@1.0.0', value: 1, unit: '' },
  ])('is none where it is wrong: %j', (raw) => {
    expect(read(raw)).toBeNull();
  });

  it('is none for an anomaly without score and threshold', () => {
    expect(read({ model: 'boiler-anomaly@1.0.0', value: 1 }, anomalyPlan)).toBeNull();
    expect(read({ model: 'boiler-anomaly@1.0.0', score: 1 }, anomalyPlan)).toBeNull();
    expect(read({ model: 'boiler-anomaly@1.0.0', score: 1, threshold: 2 }, anomalyPlan)).not.toBeNull();
  });
});

describe('a model with a condition', () => {
  const conditioned = (compute: (f: (name: string) => number) => number) =>
    defineTwin({
      ...definition,
      features: { settled: compute },
      models: { rul: { ...definition.models!.rul, when: 'settled' }, anomaly: definition.models!.anomaly },
    });
  const dueOf = ({ state }: Bench) => {
    const [rul] = layoutOf(state.kind).predictions;
    return isDue(state, rul);
  };

  it('is asked where the feature is above 0, of the state as it is', () => {
    const bench = new Bench(conditioned((f) => f('pressure') - 5));
    expect(dueOf(bench.read(0, { temperature: 20 }))).toBe(false);
    expect(dueOf(bench.read(1_000, { pressure: 5 }))).toBe(false);
    expect(dueOf(bench.read(2_000, { pressure: 5.5 }))).toBe(true);
    bench.say('rul', { value: 90 });
    expect(dueOf(bench.read(61_999, { pressure: 6 }))).toBe(false);
    expect(dueOf(bench.read(62_000, { pressure: 6 }))).toBe(true);
    expect(dueOf(bench.read(63_000, { pressure: 4 }))).toBe(false);
  });

  it('takes one that is no number, or throws, as not to be asked', () => {
    for (const compute of [() => Number.NaN, () => Number.POSITIVE_INFINITY, () => 0, () => -1])
      expect(dueOf(new Bench(conditioned(compute)).read(0, { temperature: 20 }))).toBe(false);
    const broken = conditioned(() => {
      throw new Error('a fault of the kind');
    });
    expect(dueOf(new Bench(broken).read(0, { temperature: 20 }))).toBe(false);
  });

  it('is not read before it is time, nor for models without', () => {
    let read = 0;
    const kind = conditioned(() => ++read);
    const bench = new Bench(kind).read(0, { temperature: 20, pressure: 1 }).read(1_000, { temperature: 20 });
    const [rul, anomaly] = layoutOf(kind).predictions;
    expect([isDue(bench.state, anomaly), read]).toEqual([true, 0]);
    expect([isDue(bench.state, rul), read]).toEqual([true, 1]);
    bench.say('rul', { value: 90 }).read(30_000, { temperature: 20 });
    expect([isDue(bench.state, rul), read]).toEqual([false, 1]);
  });

  it('is not overdue while it may not be asked', () => {
    const bench = new Bench(conditioned((f) => f('pressure')));
    bench.read(0, { temperature: 20, pressure: 1 }).say('rul', { value: 90 });
    bench.read(900_000, { pressure: 0 });
    expect(bench.view().predictions.rul).toMatchObject({ value: 90, at: new Date(T0).toISOString(), stale: null });
    bench.read(901_000, { pressure: 1 });
    expect(bench.view().predictions.rul.stale).toMatchObject({ reason: 'overdue' });
  });
});
