import { describe, expect, it } from 'vitest';
import machine from '../../../actors/kinds/machine.ts';

const T0 = Date.UTC(2026, 0, 1, 6);
const HOUR = 3_600_000;
interface Message {
  readings: Record<'temperature' | 'vibration' | 'pressure' | 'power', number>;
  metadata: { location: string; shift: string };
}

function create(index = 0, seed = 11) {
  return machine.simulator!.create({ seed, index });
}

function run(asset: ReturnType<typeof create>, from: number, spanMs: number, stepMs = 2_000): (Message | null)[] {
  const out: (Message | null)[] = [];
  for (let at = from; at < from + spanMs; at += stepMs) out.push(asset.next(at) as Message | null);
  return out;
}

/** The readings of the 20 minutes of a scenario that starts after an hour of ordinary work. */
function scenario(name: string, severity: number, index = 0): (Message | null)[] {
  const asset = create(index);
  run(asset, T0, HOUR);
  asset.inject(name, severity);
  return run(asset, T0 + HOUR, 19 * 60_000);
}

function extreme(messages: (Message | null)[], metric: keyof Message['readings'], pick: 'min' | 'max'): number {
  return Math[pick](...messages.filter((m) => m !== null).map((m) => m.readings[metric]));
}

describe('machines at work', () => {
  it('break no rule for a day, whichever regime they are in', () => {
    for (let index = 0; index < 8; index++) {
      const asset = create(index, 42);
      const loads = new Set<number>();
      for (const m of run(asset, T0, 24 * HOUR, 10_000)) {
        loads.add(asset.truth().regime);
        for (const rule of machine.rules) {
          const value = m!.readings[rule.metric as keyof Message['readings']];
          expect(value > (rule.above ?? Infinity) || value < (rule.below ?? -Infinity), rule.name).toBe(false);
        }
      }
    }
  });

  it('change between load levels, warm up and cool down with them', () => {
    const asset = create(3);
    const regimes = new Map<number, { n: number; temperature: number; power: number }>();
    for (let at = T0; at < T0 + 48 * HOUR; at += 10_000) {
      asset.next(at);
      const t = asset.truth();
      const sum = regimes.get(t.regime) ?? { n: 0, temperature: 0, power: 0 };
      regimes.set(t.regime, { n: sum.n + 1, temperature: sum.temperature + t.temperature, power: sum.power + t.power });
    }
    const [idle, partial, full] = [0.15, 0.6, 1].map((level) => regimes.get(level)!);
    expect(idle.power / idle.n).toBeLessThan(partial.power / partial.n - 30);
    expect(partial.power / partial.n).toBeLessThan(full.power / full.n - 30);
    expect(idle.temperature / idle.n).toBeLessThan(full.temperature / full.n - 5);
  });

  it('say where they stand and which shift works', () => {
    const shifts = run(create(5), Date.UTC(2026, 0, 1), 24 * HOUR, HOUR).map((m) => m!.metadata.shift);
    expect(shifts.slice(0, 6)).toEqual(Array(6).fill('night'));
    expect(shifts[6]).toBe('morning');
    expect(shifts[14]).toBe('afternoon');
    expect(shifts[22]).toBe('night');
    expect((create(0).next(T0) as unknown as Message).metadata.location).toBe('Factory_A_Line_1');
    expect((create(5).next(T0) as unknown as Message).metadata.location).toBe('Factory_B_Line_2');
  });

  it('measure what is there, within the stated noise', () => {
    const asset = create(1);
    for (let at = T0; at < T0 + 2 * HOUR; at += 2_000) {
      const { readings } = asset.next(at) as unknown as Message;
      const t = asset.truth();
      for (const name of ['temperature', 'vibration', 'pressure', 'power'] as const) {
        expect(Math.abs(readings[name] - t[name])).toBeLessThanOrEqual(3 * t[`${name}Noise`] + 0.051);
      }
    }
  });

  it('stay stable at steps of any length', () => {
    for (const stepMs of [0, 1, HOUR, 24 * HOUR, 1_000 * 24 * HOUR]) {
      const asset = create(2);
      for (let i = 0; i < 300; i++) {
        const { readings } = asset.next(T0 + i * stepMs) as unknown as Message;
        expect(readings.temperature).toBeGreaterThan(15);
        expect(readings.temperature).toBeLessThan(80);
        expect(readings.pressure).toBeGreaterThan(40);
        expect(readings.pressure).toBeLessThan(48);
        expect(readings.power).toBeLessThan(300);
      }
    }
  });
});

describe('machine scenarios', () => {
  it.each([
    ['bearing_wear', 'vibration', 'max', 7.1],
    ['overheating', 'temperature', 'max', 100],
    ['power_surge', 'power', 'max', 320],
  ] as const)('%s at severity 1 drives %s over its limit, and less at 0.2', (name, metric, pick, limit) => {
    const worst = extreme(scenario(name, 1), metric, pick);
    expect(worst).toBeGreaterThan(limit);
    expect(extreme(scenario(name, 0.2), metric, pick)).toBeLessThan(worst * 0.9);
  });

  it('pressure_loss empties the circuit as severity says', () => {
    expect(extreme(scenario('pressure_loss', 1), 'pressure', 'min')).toBeLessThan(16);
    const mild = extreme(scenario('pressure_loss', 0.2), 'pressure', 'min');
    expect(mild).toBeGreaterThan(35);
    expect(mild).toBeLessThan(41);
  });

  it('bearing_wear warms the bearing too', () => {
    expect(extreme(scenario('bearing_wear', 1), 'temperature', 'max')).toBeGreaterThan(
      extreme(scenario('dropout', 0.1), 'temperature', 'max') + 3,
    );
  });

  it('drift is the sensor alone', () => {
    for (const severity of [0.2, 1]) {
      const asset = create(0);
      run(asset, T0, HOUR);
      asset.inject('drift', severity);
      const seen = run(asset, T0 + HOUR, 15 * 60_000).at(-1)!.readings.temperature;
      expect(Math.abs(seen - asset.truth().temperature - 30 * severity)).toBeLessThan(0.5);
    }
  });

  it('sensor_stuck freezes temperature, from 0.5 on everything', () => {
    const distinct = (messages: (Message | null)[], metric: keyof Message['readings']) =>
      new Set(messages.map((m) => m!.readings[metric])).size;
    const mild = scenario('sensor_stuck', 0.3);
    expect(distinct(mild, 'temperature')).toBe(1);
    expect(distinct(mild, 'power')).toBeGreaterThan(50);
    const full = scenario('sensor_stuck', 0.6);
    for (const metric of ['temperature', 'vibration', 'pressure', 'power'] as const) {
      expect(distinct(full, metric)).toBe(1);
    }
  });

  it('dropout loses the share that severity says, all at 1', () => {
    expect(scenario('dropout', 1).every((m) => m === null)).toBe(true);
    const lost = scenario('dropout', 0.3).filter((m) => m === null).length / 570;
    expect(lost).toBeGreaterThan(0.2);
    expect(lost).toBeLessThan(0.4);
  });

  it('wear_out wears the bearing with the load until it fails, and is mended after', () => {
    const asset = create(0);
    asset.next(T0);
    expect(asset.truth()).toMatchObject({ damage: 0, hoursToFailure: 10_000 });
    asset.inject('wear_out', 1);
    let failedAt = 0;
    let before = Number.POSITIVE_INFINITY;
    for (let at = T0 + 10_000; failedAt === 0 && at < T0 + 8 * HOUR; at += 10_000) {
      asset.next(at);
      const { damage, hoursToFailure } = asset.truth();
      expect(hoursToFailure).toBeLessThanOrEqual(before);
      before = hoursToFailure;
      if (hoursToFailure === 0) {
        expect(damage).toBeCloseTo(1, 9);
        failedAt = at;
      }
    }
    // an hour at the mean load; full load is half as much again, idling lasts long
    expect(failedAt - T0).toBeGreaterThan(0.6 * HOUR);
    expect(extreme(run(asset, failedAt + 60_000, 60_000), 'vibration', 'max')).toBeGreaterThan(2.5);
    run(asset, failedAt + 120_000, 20 * 60_000);
    expect(asset.truth()).toMatchObject({ damage: 0, hoursToFailure: 10_000 });
  });

  it('take a life and the share used of it for training, and nothing else', () => {
    const { create: make } = machine.simulator!;
    const worn = make({ seed: 1, index: 0, parameters: { log10_life_h: 2, used: 0.9 } });
    worn.next(T0);
    expect(worn.truth().hoursToFailure).toBeCloseTo(10, 3);
    expect(worn.truth().damage).toBeCloseTo(Math.expm1(3.6) / Math.expm1(4), 3);
    expect(() => make({ seed: 1, index: 0, parameters: { wear: 1 } })).toThrow(
      expect.objectContaining({ code: 'bad_request' }),
    );
  });

  it('bearing_wear says how long it would take at its pace', () => {
    const asset = create(0);
    asset.next(T0);
    asset.inject('bearing_wear', 0.5);
    asset.next(T0 + 2_000);
    // 20 minutes from nothing to the whole: half severity takes twice the ramp
    expect(asset.truth().hoursToFailure).toBeCloseTo(1 / 3, 2);
    run(asset, T0 + 4_000, 5 * 60_000);
    expect(asset.truth().hoursToFailure).toBeCloseTo(0.25, 2);
  });

  it('end, and the machine is mended', () => {
    const asset = create(0);
    asset.next(T0);
    asset.inject('pressure_loss', 1);
    expect(extreme(run(asset, T0 + 2_000, 15 * 60_000), 'pressure', 'min')).toBeLessThan(16);
    expect(extreme(run(asset, T0 + HOUR, 60_000), 'pressure', 'min')).toBeGreaterThan(40);
  });

  it('refuse what they do not know', () => {
    for (const name of ['flood', 'toString', '__proto__']) {
      expect(() => create().inject(name, 1)).toThrow(expect.objectContaining({ code: 'bad_request' }));
    }
    expect(() => create().inject('drift', 0)).toThrow(expect.objectContaining({ code: 'bad_request' }));
    expect(() => create().inject('drift', 2)).toThrow(expect.objectContaining({ code: 'bad_request' }));
  });
});
