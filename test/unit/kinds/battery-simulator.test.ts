import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';

const T0 = Date.UTC(2026, 0, 1, 8);
const HOUR = 3_600_000;
type Message = Record<'SoC' | 'SoH' | 'Battery_Voltage' | 'Battery_Current' | 'Battery_Temperature', number> & {
  Charge_Cycles: number;
  Power_Consumption: number;
};

function create(index = 0, seed = 7) {
  return battery.simulator!.create({ seed, index });
}

/** Runs at a fixed interval and hands each message with the truth behind it. */
function run(
  asset: ReturnType<typeof create>,
  from: number,
  spanMs: number,
  stepMs: number,
  visit: (message: Message | null, truth: Record<string, number>, at: number) => void,
): void {
  for (let at = from; at <= from + spanMs; at += stepMs) visit(asset.next(at) as Message | null, asset.truth(), at);
}

describe.each([0, 1, 2, 5])('battery %i of the demo', (index) => {
  it('shows open-circuit voltage plus I·R within 10 mV and the stated noise', () => {
    run(create(index), T0, 6 * HOUR, 2_000, (m, t) => {
      const expected = t.ocv + m!.Battery_Current * t.r;
      expect(Math.abs(m!.Battery_Voltage - expected)).toBeLessThanOrEqual(0.01 + 3 * t.voltageNoise);
    });
  });

  it('moves its charge by the integral of current over capacity within 0.1 %', () => {
    // Each direction for itself, so that an error of one cannot hide in the other.
    const flows = [-1, 1].map((sign) => ({ sign, integral: 0, moved: 0 }));
    let last: Message | null = null;
    run(create(index), T0, 8 * HOUR, 2_000, (m, t) => {
      const flow = flows[m!.Battery_Current < 0 ? 0 : 1];
      if (last) {
        flow.integral += ((m!.Battery_Current * 2) / 3_600 / t.capacity) * 100;
        flow.moved += m!.SoC - last.SoC;
      }
      last = m;
    });
    expect(Math.max(...flows.map((flow) => Math.abs(flow.integral)))).toBeGreaterThan(10);
    for (const { sign, integral, moved } of flows) {
      expect(Math.sign(integral)).toBe(sign);
      expect(Math.abs(moved - integral)).toBeLessThan(Math.abs(integral) * 0.001);
    }
  });

  it('warms by I²R and cools to ambient', () => {
    let before: Record<string, number> | null = null;
    run(create(index), T0, 2 * HOUR, 1_000, (m, t) => {
      if (before) {
        // One explicit step of C·dT/dt = I²R − h·(T − ambient); at one second it is as good as exact.
        const heat = m!.Battery_Current ** 2 * before.r - t.cooling * (before.temperature - t.ambient);
        expect(t.temperature).toBeCloseTo(before.temperature + heat / t.heatCapacity, 5);
        expect(Math.abs(m!.Battery_Temperature - t.temperature)).toBeLessThan(3 * t.temperatureNoise + 0.006);
      }
      before = t;
    });
  });
});

describe('the demo batteries', () => {
  it('drive, charge and rest', () => {
    const seen = { driving: 0, recuperating: 0, charging: 0, resting: 0 };
    for (let index = 0; index < 8; index++) {
      run(create(index), T0, 8 * HOUR, 10_000, (m) => {
        const current = m!.Battery_Current;
        expect(Math.abs(m!.Power_Consumption + m!.Battery_Voltage * current)).toBeLessThanOrEqual(0.5001);
        if (current < -5) seen.driving++;
        else if (current === 32) seen.charging++;
        else if (current > 5) seen.recuperating++;
        else seen.resting++;
      });
    }
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(100);
  });

  it('charge at constant current, then at constant voltage', () => {
    const asset = create(2);
    let held = 0;
    let tapered = 0;
    run(asset, T0, 24 * HOUR, 5_000, (m, t) => {
      if (t.ocv + t.current * t.r > 397.3 && t.current > 0 && t.current < 31.9) tapered++;
      if (m!.Battery_Current === 32) held++;
      expect(t.voltage).toBeLessThan(401.5);
    });
    expect(held).toBeGreaterThan(100);
    expect(tapered).toBeGreaterThan(10);
  });

  it('break no rule in ordinary operation', () => {
    for (let index = 0; index < 8; index++) {
      run(create(index, 42), T0, 24 * HOUR, 10_000, (m) => {
        const raw = battery.formats[0].decode(m!, undefined).values as Record<string, number>;
        for (const rule of battery.rules) {
          const value = raw[rule.metric];
          expect(value > (rule.above ?? Infinity) || value < (rule.below ?? -Infinity), `${rule.name} ${value}`).toBe(
            false,
          );
        }
      });
    }
  });

  it('age with time and with cycles, and count cycles by charge throughput', () => {
    const resting = create(1);
    resting.next(T0);
    const young = resting.truth();
    let charged = 0;
    let last = T0;
    run(resting, T0, 30 * 24 * HOUR, 60_000, (m, t, at) => {
      charged += (Math.max(0, m!.Battery_Current) * (at - last)) / HOUR;
      last = at;
      expect(m!.Charge_Cycles).toBe(Math.floor(t.cycles));
    });
    const old = resting.truth();
    expect(old.capacity).toBeLessThan(young.capacity);
    expect(old.cycles - young.cycles).toBeGreaterThan(10);
    // Sub-steps of one message are not seen from outside, so the sum of messages is near, not equal.
    expect(charged / old.nominalCapacity / (old.cycles - young.cycles)).toBeCloseTo(1, 1);
    // At the same temperature an old pack resists more.
    const per = (t: Record<string, number>) => t.r / Math.exp(1_800 * (1 / (t.temperature + 273.15) - 1 / 298.15));
    expect(per(old)).toBeGreaterThan(per(young));
  });

  it('stay stable at steps of any length', () => {
    for (const stepMs of [1, 997, 3 * HOUR, 30 * 24 * HOUR, 400 * 24 * HOUR]) {
      const asset = create(3);
      for (let i = 0; i < 200; i++) {
        const m = asset.next(T0 + i * stepMs) as Message;
        const values = battery.formats[0].decode(m, undefined).values as Record<string, number>;
        for (const [name, value] of Object.entries(values)) {
          const { min, max } = battery.metrics[name];
          expect(value >= min && value <= max, `${name} = ${value} at steps of ${stepMs}`).toBe(true);
        }
        expect(m.Battery_Temperature).toBeLessThan(60);
      }
    }
  });
});

describe('battery scenarios', () => {
  /** Extremes of the scenario's 20 minutes, how many messages were missing, and charge (%) that no current explains. */
  function during(scenario: string, severity: number) {
    const asset = create(0);
    run(asset, T0, HOUR, 2_000, () => {});
    asset.inject(scenario, severity);
    const out = { temperature: 0, truth: 0, soh: 100, missing: 0, unexplained: 0 };
    let last: Message | null = null;
    run(asset, T0 + HOUR + 2_000, 20 * 60_000 - 4_000, 2_000, (m, t) => {
      if (!m) {
        out.missing++;
        return;
      }
      if (last) out.unexplained += last.SoC - m.SoC + (m.Battery_Current * 2) / 36 / t.capacity;
      last = m;
      out.temperature = Math.max(out.temperature, m.Battery_Temperature);
      out.truth = Math.max(out.truth, t.temperature);
      out.soh = Math.min(out.soh, m.SoH);
    });
    return out;
  }

  it('grow with severity', () => {
    expect(during('overheating', 1).temperature).toBeGreaterThan(60);
    expect(during('overheating', 0.3).temperature).toBeLessThan(during('overheating', 1).temperature - 20);
    expect(during('capacity_fade', 1).soh).toBeLessThan(75);
    expect(during('capacity_fade', 0.2).soh).toBeGreaterThan(during('capacity_fade', 1).soh + 10);
    expect(during('dropout', 1).missing).toBe(599);
    const half = during('dropout', 0.5).missing;
    expect(half).toBeGreaterThan(200);
    expect(half).toBeLessThan(400);
  });

  it('short a cell: charge vanishes that no current explains', () => {
    expect(during('overheating', 1).unexplained).toBeLessThan(0.01);
    expect(during('cell_short', 1).unexplained).toBeGreaterThan(5);
    expect(during('cell_short', 1).temperature).toBeGreaterThan(during('dropout', 0.1).temperature + 10);
  });

  it('drift: the sensor is wrong, the pack is well', () => {
    const drifted = during('sensor_drift', 1);
    expect(drifted.temperature - drifted.truth).toBeGreaterThan(20);
  });

  it('end with a repair', () => {
    const asset = create(0);
    asset.next(T0);
    asset.inject('dropout', 1);
    expect(asset.next(T0 + 2_000)).toBeNull();
    expect(asset.next(T0 + HOUR)).not.toBeNull();
  });

  it.each(['earthquake', '__proto__', 'constructor', ''])('refuse %j', (name) => {
    expect(() => create().inject(name, 0.5)).toThrow(expect.objectContaining({ code: 'bad_request' }));
  });
  it.each([0, -1, 1.01, Number.NaN])('refuse a severity of %d', (severity) => {
    expect(() => create().inject('dropout', severity)).toThrow(expect.objectContaining({ code: 'bad_request' }));
  });
});
