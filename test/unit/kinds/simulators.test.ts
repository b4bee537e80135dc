import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import device from '../../../actors/kinds/device.ts';
import machine from '../../../actors/kinds/machine.ts';
import mote from '../../../actors/kinds/mote.ts';
import { isId, METRIC_PATTERN } from '../../../actors/protocol/twin-id.ts';

const KINDS = [battery, device, machine, mote];
const T0 = Date.UTC(2026, 2, 1);

describe.each(KINDS)('the simulator of $kind', (kind) => {
  const simulator = kind.simulator!;

  /** SHA-256 of everything an asset says in two hours with a scenario in the middle. */
  function bytes(seed: number, index: number, between: () => void = () => {}): string {
    const asset = simulator.create({ seed, index });
    const hash = createHash('sha256');
    for (let i = 0; i < 3_600; i++) {
      if (i === 1_000) asset.inject(Object.keys(simulator.scenarios)[i % 3], 0.7);
      hash.update(`${JSON.stringify(asset.next(T0 + i * simulator.intervalMs))}\n`);
      between();
    }
    return hash.digest('hex');
  }

  it('says the same bytes from the same seed, whoever runs beside it', () => {
    const other = simulator.create({ seed: 1, index: 0 });
    let i = 0;
    expect(bytes(1, 0)).toBe(bytes(1, 0, () => other.next(T0 + i++)));
    expect(bytes(1, 0)).not.toBe(bytes(2, 0));
    expect(bytes(1, 0)).not.toBe(bytes(1, 1));
  });

  it('says only what its first format decodes, inside the ranges, at the time asked', () => {
    const ids = new Set<string>();
    for (let index = 0; index < simulator.demoCount; index++) {
      const asset = simulator.create({ seed: 42, index });
      ids.add(asset.id);
      for (let i = 0; i < 100; i++) {
        const at = T0 + i * 60_000;
        const message = asset.next(at);
        if (message === null) continue;
        const raw = kind.formats[0].decode(JSON.parse(JSON.stringify(message)), undefined);
        expect(raw.id).toBe(asset.id);
        expect(isId(raw.id)).toBe(true);
        expect(Date.parse(raw.at as string)).toBe(at);
        expect(raw.ignored).toBe(0);
        for (const [name, value] of Object.entries(raw.values as Record<string, number>)) {
          expect(name).toMatch(METRIC_PATTERN);
          expect(Number.isFinite(value) && !Object.is(value, -0)).toBe(true);
          if (kind.openMetrics) continue;
          expect(value).toBeGreaterThanOrEqual(kind.metrics[name].min);
          expect(value).toBeLessThanOrEqual(kind.metrics[name].max);
        }
      }
    }
    expect(ids.size).toBe(simulator.demoCount);
  });

  it('says each scenario in words and tells the truth in numbers', () => {
    for (const [name, text] of Object.entries(simulator.scenarios)) {
      expect(text.length).toBeGreaterThan(20);
      const asset = simulator.create({ seed: 1, index: 0 });
      asset.next(T0);
      asset.inject(name, 1);
      for (let i = 1; i < 50; i++) asset.next(T0 + i * 60_000);
      const truth = Object.values(asset.truth());
      expect(truth.length).toBeGreaterThan(1);
      expect(truth.every((value) => Number.isFinite(value))).toBe(true);
    }
  });
});

describe('the demo', () => {
  it('has at least 8 batteries, 8 machines, 42 motes and 4 devices that speak every few seconds', () => {
    const demo = Object.fromEntries(KINDS.map((kind) => [kind.kind, kind.simulator!]));
    expect(demo.battery.demoCount).toBeGreaterThanOrEqual(8);
    expect(demo.machine.demoCount).toBeGreaterThanOrEqual(8);
    expect(demo.mote.demoCount).toBeGreaterThanOrEqual(42);
    expect(demo.device.demoCount).toBeGreaterThanOrEqual(4);
    for (const { intervalMs } of Object.values(demo)) expect(intervalMs).toBeLessThanOrEqual(5_000);
  });
});

describe('device scenarios', () => {
  function values(scenario: string, severity: number): (number | null)[] {
    const asset = device.simulator!.create({ seed: 5, index: 0 });
    const out: (number | null)[] = [];
    for (let i = 0; i < 540; i++) {
      if (i === 30) asset.inject(scenario, severity);
      const message = asset.next(T0 + i * 2_000);
      if (i >= 30) out.push(message === null ? null : (message.value as number));
    }
    return out;
  }
  const spread = (v: (number | null)[]) => Math.max(...v.map((x) => x ?? 0)) - Math.min(...v.map((x) => x ?? 1e9));

  it('drift, spikes, stuck and dropout look like their names', () => {
    expect(spread(values('drift', 1))).toBeGreaterThan(15);
    expect(spread(values('drift', 0.1))).toBeLessThan(5);
    expect(spread(values('spikes', 1))).toBeGreaterThan(25);
    expect(new Set(values('sensor_stuck', 0.5)).size).toBe(1);
    expect(values('dropout', 1).every((v) => v === null)).toBe(true);
    const asset = device.simulator!.create({ seed: 5, index: 0 });
    expect(() => asset.inject('flood', 1)).toThrow(expect.objectContaining({ code: 'bad_request' }));
  });
});
