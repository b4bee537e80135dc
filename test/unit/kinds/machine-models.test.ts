import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import machine from '../../../actors/kinds/machine.ts';
import type { ModelUse, SimulatedAsset } from '../../../actors/protocol/kind.ts';
import { twinIdOf } from '../../../actors/protocol/twin-id.ts';
import { featureReader, featuresOf } from '../../../actors/runtime/features.ts';
import { mayBeAsked } from '../../../actors/runtime/foretelling.ts';
import { layoutOf } from '../../../actors/runtime/layout.ts';
import { newState, type TwinState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { Model } from '../../../models/model.ts';
import { committedCard } from '../../../models/training/training.ts';

const T0 = Date.UTC(2026, 3, 1, 9);
const MINUTE = 60_000;
const METRICS = ['temperature', 'vibration', 'pressure', 'power'];

let anomaly: Model;
let rul: Model;
beforeAll(async () => {
  anomaly = await Model.load(committedCard('machine-anomaly')!.folder);
  rul = await Model.load(committedCard('machine-rul')!.folder);
});
afterAll(() => Promise.all([anomaly.retire(), rul.retire()]));

/** A machine of the demo and its twin. */
class Watched {
  readonly asset: SimulatedAsset;
  readonly state: TwinState;
  at = T0;

  constructor(seed: number) {
    this.asset = machine.simulator!.create({ seed, index: seed % 8 });
    this.state = newState(machine, twinIdOf('machine', this.asset.id));
  }

  run(spanMs: number): this {
    for (const end = this.at + spanMs; this.at < end; this.at += 2_000) {
      const message = this.asset.next(this.at);
      if (message === null) continue;
      const { values } = machine.formats[0].decode(message, undefined);
      const reading = { kind: 'machine', id: this.asset.id, at: this.at, values: values as Record<string, number> };
      fold(this.state, { type: 'reading', revision: this.state.n[0] + 1, receivedAt: this.at, reading }, []);
    }
    return this;
  }

  /** Nothing comes for so long, and the machine goes on where it stood. */
  gap(spanMs: number): this {
    const saved = this.asset.save!();
    this.at += spanMs;
    this.asset.resume!(saved, spanMs - MINUTE);
    return this;
  }

  async ask(model: Model, use: ModelUse): Promise<Record<string, number[]>> {
    const reader = featureReader(machine, use.inputs);
    const row = new Float32Array(reader.width);
    featuresOf(this.state, reader, row, 0);
    const tensors = await model.run(row, 1);
    return Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, [...data]]));
  }

  async hours(): Promise<[value: number, lo: number, hi: number]> {
    const { value, lo, hi } = await this.ask(rul, machine.models!.rul);
    return [value[0], lo[0], hi[0]];
  }

  async anomaly(): Promise<{ ratio: number; of: string }> {
    const { score, contributions } = await this.ask(anomaly, machine.models!.anomaly);
    expect(contributions.reduce((a, b) => a + b)).toBeCloseTo(1, 4);
    const largest = contributions.indexOf(Math.max(...contributions));
    return { ratio: score[0] / anomaly.card.output.threshold!, of: METRICS[largest] };
  }
}

describe('the models of a machine', () => {
  it('take a time without any message for what it is, not for missing ones', async () => {
    const plan = layoutOf(machine).predictions.find(({ name }) => name === 'anomaly')!;
    const alarming: Record<string, number> = {};
    const asked: Record<string, number> = {};
    for (const [name, silentMs] of Object.entries({ '2 min': 2 * MINUTE, '10 min': 10 * MINUTE, '2 h': 120 * MINUTE }))
      for (const seed of [1, 2, 3, 4, 5, 6]) {
        const watched = new Watched(seed).run(70 * MINUTE).gap(silentMs);
        let high = 0;
        asked[name] ??= 0;
        for (let i = 0; i < 36; i++) {
          watched.run(5_000);
          if (!mayBeAsked(watched.state, plan)) continue;
          const { ratio } = await watched.anomaly();
          asked[name]++;
          // the rule unusual_state: 1.5 for 20 seconds
          high = ratio > 1.5 ? high + 1 : 0;
          if (high === 4) alarming[name] = (alarming[name] ?? 0) + 1;
        }
      }
    expect(alarming).toEqual({});
    // three minutes of each, without the first or the first two
    for (const times of Object.values(asked)) expect(times / 6 / 36).toBeGreaterThan(0.3);
  });

  it('say little of sound machines, from the first half minute on', async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const watched = new Watched(seed).run(30_000);
      for (const span of [0, 10, 30, 60]) {
        watched.run(span * MINUTE);
        const [value, lo, hi] = await watched.hours();
        expect(value).toBeGreaterThan(machine.models!.rul.maintenance!.inspectBelowH);
        expect(lo).toBeLessThanOrEqual(value);
        expect(hi).toBeGreaterThanOrEqual(value);
        expect((await watched.anomaly()).ratio).toBeLessThan(1.5);
      }
    }
  });

  it.each([
    ['bearing_wear', 0.9, 'vibration'],
    ['overheating', 0.9, 'temperature'],
    ['pressure_loss', 0.9, 'pressure'],
    ['drift', 0.9, 'temperature'],
    ['power_surge', 0.9, 'power'],
  ])('name %s by what is broken', async (scenario, severity, metric) => {
    const watched = new Watched(7).run(45 * MINUTE);
    watched.asset.inject(scenario, severity);
    watched.run(9 * MINUTE);
    const { ratio, of } = await watched.anomaly();
    expect(ratio).toBeGreaterThan(1.5);
    expect(of).toBe(metric);
  });

  it('name strong wear by the vibration from the first unusual reading on, though power is rebuilt from it', async () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const watched = new Watched(seed).run(45 * MINUTE);
      watched.asset.inject('bearing_wear', 0.9);
      let said = await watched.run(2_000).anomaly();
      for (let i = 0; said.ratio <= 1 && i < 150; i++) said = await watched.run(2_000).anomaly();
      for (let i = 0; i < 9; i++) {
        expect(said.ratio).toBeGreaterThan(1);
        expect(said.of).toBe('vibration');
        said = await watched.run(MINUTE).anomaly();
      }
    }
  });

  it('see a sensor that stands still, and that half of the messages are missing', async () => {
    for (const scenario of ['sensor_stuck', 'dropout']) {
      const watched = new Watched(8).run(65 * MINUTE);
      watched.asset.inject(scenario, 0.5);
      expect((await watched.run(10 * MINUTE).anomaly()).ratio).toBeGreaterThan(1);
    }
  });

  it('two minutes of fast wear turn hundreds of hours into a stop', async () => {
    for (const seed of [1, 2, 3, 4]) {
      const { stopBelowH, inspectBelowH } = machine.models!.rul.maintenance!;
      const watched = new Watched(seed).run(20 * MINUTE);
      expect((await watched.hours())[0]).toBeGreaterThan(inspectBelowH);
      watched.asset.inject('bearing_wear', 0.9);
      expect((await watched.run(2 * MINUTE).hours())[0]).toBeLessThan(stopBelowH);
    }
  });

  it('tell a bearing with ten hours left from one with two hundred', async () => {
    const left = async (log10: number, used: number) => {
      const watched = new Watched(9);
      const parameters = { log10_life_h: log10, used };
      Object.assign(watched, { asset: machine.simulator!.create({ seed: 9, index: 0, parameters }) });
      return (await watched.run(90 * MINUTE).hours())[0];
    };
    expect(await left(2, 0.9)).toBeLessThan(60);
    expect(await left(2.6, 0.3)).toBeGreaterThan(60);
  });
});
