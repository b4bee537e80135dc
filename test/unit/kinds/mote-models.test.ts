import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import mote from '../../../actors/kinds/mote.ts';
import { MOTE_GROUPS } from '../../../actors/kinds/simulators/mote.ts';
import type { Entry } from '../../../actors/protocol/entry.ts';
import type { Emitted } from '../../../actors/protocol/event.ts';
import { featureNames } from '../../../actors/protocol/feature.ts';
import { featureReader } from '../../../actors/runtime/features.ts';
import { H, layoutOf } from '../../../actors/runtime/layout.ts';
import { newState, type TwinState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { Model } from '../../../models/model.ts';
import { predictWith } from '../../../models/predictor.ts';
import { committedCard } from '../../../models/training/training.ts';

/** The models of the mote kind, asked about simulated motes through the very fold and features that serve. */
const DAY0 = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const uses = Object.entries(mote.models!);
const models = new Map<string, Model>();

beforeAll(async () => {
  for (const [name, { model }] of uses) models.set(name, await Model.load(committedCard(model)!.folder));
});
afterAll(async () => {
  for (const model of models.values()) await model.retire();
});

interface Run {
  state: TwinState;
  asset: ReturnType<NonNullable<typeof mote.simulator>['create']>;
  at: number;
}

function begin(index: number, seed = 77, at = DAY0 + 10 * HOUR): Run {
  return { state: newState(mote, `mote:${index}`), asset: mote.simulator!.create({ seed, index }), at };
}

/** Folds what the mote says for so long; `each` is told after every reading. */
function pass(run: Run, spanMs: number, stepMs: number, each: (at: number) => void = () => undefined): void {
  for (const end = run.at + spanMs; run.at < end; run.at += stepMs) {
    const message = run.asset.next(run.at);
    if (message === null) continue;
    const { values } = mote.formats[0].decode(message, undefined);
    const reading = { kind: 'mote', id: 'm', at: run.at, values: values as Record<string, number> };
    fold(run.state, { type: 'reading', revision: run.state.n[H.REVISION] + 1, receivedAt: run.at, reading }, []);
    each(run.at);
  }
}

/** Rows of features as they pile up, and what the model says of all of them. */
function asker(name: string, run: Run) {
  const reader = featureReader(mote, mote.models![name].inputs);
  const rows: number[] = [];
  const at: number[] = [];
  return {
    note(when: number): void {
      const row = new Float32Array(reader.width);
      reader.read(run.state, row, 0);
      rows.push(...row);
      at.push(when);
    },
    async answers() {
      const { predictions } = await predictWith(models.get(name)!, {
        inputs: Float32Array.from(rows),
        rows: at.length,
        at,
      });
      return predictions;
    },
  };
}

async function now(name: string, run: Run) {
  const ask = asker(name, run);
  ask.note(run.at);
  return (await ask.answers())[0];
}

describe('models of the mote kind', () => {
  it.each(uses)('%s takes what its card lists', (_, { model, inputs }) => {
    const { card } = committedCard(model)!;
    expect(card.kind).toBe('mote');
    expect(card.inputs.map(({ name }) => name)).toEqual(featureNames(mote, inputs));
  });

  it('cost a mote 320 bytes of numbers', () => {
    const { models: _, ...without } = mote;
    const bare = { ...without, rules: mote.rules.filter(({ metric }) => !metric.startsWith('predictions.')) };
    expect(8 * (layoutOf(mote).length - layoutOf(bare).length)).toBe(320);
    expect(8 * layoutOf(mote).length).toBeLessThan(7_000);
  });

  it('leave sound motes alone', async () => {
    let asked = 0;
    const wrong: Record<string, number> = {};
    for (const index of [0, 4, 17, 28, 30]) {
      const run = begin(index);
      pass(run, HOUR, 30_000);
      const anomaly = asker('anomaly', run);
      const health = asker('health', run);
      pass(run, HOUR, 5_000, (at) => {
        anomaly.note(at);
        health.note(at);
      });
      for (const answer of await anomaly.answers())
        if (answer!.score! > answer!.threshold!) wrong.anomaly = (wrong.anomaly ?? 0) + 1;
      for (const answer of await health.answers()) {
        asked++;
        wrong[answer!.class!] = (wrong[answer!.class!] ?? 0) + 1;
      }
    }
    expect(wrong.anomaly).toBeUndefined();
    expect(wrong.ok / asked).toBeGreaterThan(0.98);
  });

  it('find heat, and say that both metrics show it', async () => {
    const run = begin(4);
    pass(run, HOUR, 5_000);
    run.asset.inject('heat_source', 0.6);
    pass(run, 2 * MINUTE, 5_000);
    const { score, threshold, contributions } = (await now('anomaly', run))!;
    expect(score).toBeGreaterThan(2 * threshold!);
    expect(contributions!.temperature + contributions!.humidity).toBeCloseTo(1, 5);
    expect((await now('health', run))!.class).toBe('ok');
  });

  it('tell drift from heat: the temperature alone', async () => {
    const run = begin(4);
    pass(run, HOUR, 5_000);
    run.asset.inject('drift', 0.8);
    pass(run, 3 * MINUTE, 5_000);
    const { score, threshold, contributions } = (await now('anomaly', run))!;
    expect(score).toBeGreaterThan(threshold!);
    expect(contributions!.temperature).toBeGreaterThan(0.8);
    expect((await now('health', run))!.class).toBe('drifting');
  });

  it.each([
    ['sensor_stuck', 0.9, 'sensor_fault'],
    ['dropout', 0.8, 'silent_prone'],
  ])('call %s by its name', async (scenario, severity, name) => {
    const run = begin(6);
    pass(run, HOUR, 5_000);
    run.asset.inject(scenario, severity);
    pass(run, 6 * MINUTE, 5_000);
    expect((await now('health', run))!.class).toBe(name);
  });

  it('forecast both metrics within what a room can do in an hour', async () => {
    const run = begin(12);
    expect(await now('forecast', run)).toBeNull();
    pass(run, 2 * HOUR, 30_000);
    const { forecast, horizonMs } = (await now('forecast', run))!;
    const { temperature, humidity } = run.asset.next(run.at) as { temperature: number; humidity: number };
    expect(horizonMs).toBe(HOUR);
    expect(Math.abs(forecast!.temperature - temperature)).toBeLessThan(5);
    expect(Math.abs(forecast!.humidity - humidity)).toBeLessThan(15);
  });

  it('know the group of a mote after a day, and say unknown before', async () => {
    const found = new Map<string, string>();
    for (const index of [2, 24, 38, 40]) {
      const run = begin(index, 77, DAY0);
      pass(run, HOUR, 2 * MINUTE);
      expect((await now('cluster', run))!.class).toBe('unknown');
      pass(run, 26 * HOUR, 2 * MINUTE);
      found.set(MOTE_GROUPS[run.asset.truth().group], (await now('cluster', run))!.class!);
    }
    for (const [place, group] of found) expect(group).toBe(place);
    expect(found.size).toBeGreaterThan(2);
  });
});

describe('the rule on lasting anomalies', () => {
  const state = newState(mote, 'mote:9');
  const events: Emitted[] = [];
  const say = (at: number, score: number) => {
    const reading = { kind: 'mote', id: '9', at, values: { temperature: 21 } };
    const revision = () => state.n[H.REVISION] + 1;
    fold(state, { type: 'reading', revision: revision(), receivedAt: at, reading }, events);
    const prediction = { model: 'mote-anomaly@1.0.0', at, score, threshold: 0.25 };
    const entry = { type: 'prediction', name: 'anomaly', prediction, basedOn: revision() - 1 };
    fold(state, { ...entry, revision: revision(), receivedAt: at } as Entry, events);
  };
  const alerts = () =>
    events
      .filter(({ type }) => type.startsWith('alert'))
      .map(({ type, body }) => `${type} ${(body as { rule?: string }).rule}`);

  it('waits a minute, so that a passing anomaly is an event and no alert', () => {
    for (let s = 0; s < 30; s += 5) say(DAY0 + s * 1000, 0.4);
    say(DAY0 + 35_000, 0.1);
    expect(events.some(({ type }) => type === 'anomaly.detected')).toBe(true);
    expect(alerts()).toEqual([]);
  });

  it('is raised after it and cleared when readings fit again', () => {
    for (let s = 60; s <= 125; s += 5) say(DAY0 + s * 1000, 0.4);
    expect(alerts()).toEqual(['alert.raised anomaly_lasting']);
    for (let s = 130; s <= 140; s += 5) say(DAY0 + s * 1000, 0.1);
    expect(alerts()).toEqual(['alert.raised anomaly_lasting', 'alert.cleared anomaly_lasting']);
  });
});

describe('places of simulated motes', () => {
  it('are of four groups in every building, and move with its seed', () => {
    const groups = (seed: number) =>
      Array.from({ length: 42 }, (_, index) => mote.simulator!.create({ seed, index }).truth().group);
    for (const seed of [1, 2, 3]) expect(new Set(groups(seed)).size).toBeGreaterThanOrEqual(3);
    expect(groups(1)).toEqual(groups(1));
    const buildings = Array.from({ length: 8 }, (_, seed) => groups(seed).join(''));
    expect(new Set(buildings).size).toBeGreaterThan(4);
    expect(new Set(buildings.flatMap((b) => [...b])).size).toBe(MOTE_GROUPS.length);
  });
});
