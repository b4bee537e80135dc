import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import device from '../../../actors/kinds/device.ts';
import machine from '../../../actors/kinds/machine.ts';
import mote from '../../../actors/kinds/mote.ts';
import { amount, sentence, trend } from '../../../actors/protocol/digest.ts';
import type { TwinView, WindowView } from '../../../actors/protocol/view.ts';

const KINDS = [battery, device, machine, mote];
const UNSAID = /undefined|NaN|null|Infinity|\[object|-0[^.\d]|\s{2}/;

function view(kind: string, parts: Partial<TwinView> = {}): TwinView {
  return {
    twinId: `${kind}:X1`,
    kind,
    revision: 3,
    at: '2026-01-01T00:00:00.000Z',
    receivedAt: '2026-01-01T00:00:00.000Z',
    attributes: {},
    reported: {},
    rolling: {},
    desired: {},
    delta: {},
    predictions: {},
    health: { status: 'ok', reasons: [] },
    alerts: [],
    online: true,
    retired: false,
    maintenance: null,
    ingest: { accepted: 3, late: 0, duplicate: 0, backfill: 0, lagMs: null },
    stale: null,
    ...parts,
  };
}

function window(parts: Partial<WindowView> = {}): WindowView {
  return { count: 100, mean: 21.5, std: 0.3, min: 21, max: 22, last: 22, slope: 0.0005, ewma: 21.6, z: 1, ...parts };
}

describe('digests', () => {
  it('say what a battery does', () => {
    const text = battery.digest(
      view('battery', {
        reported: { soc: 81.2, soh: 97.4, voltage: 386.1, current: -42, temperature: 31.5, cycles: 212, power: 16216 },
        rolling: { temperature: { '1h': window() } },
      }),
    );
    expect(text).toContain(
      'Battery X1 is at 81.2 % of charge, discharging at 42 A (16.2 kW), at 386.1 V and at 31.5 °C.',
    );
    expect(text).toContain('Its state of health is 97.4 % after 212 charge cycles.');
    expect(text).toContain(
      'Over the last 1h temperature lay between 21 and 22 °C (mean 21.5), rising at 1.8 °C in 1h.',
    );
    expect(text).toContain('Health is ok. No alert stands.');
    expect(battery.digest(view('battery', { reported: { current: 30 } }))).toContain('charging at 30 A');
    expect(battery.digest(view('battery', { reported: { current: 0 } }))).toContain('resting at 0 A');
  });

  it('say where a machine stands and what stands against it', () => {
    const text = machine.digest(
      view('machine', {
        attributes: { location: 'Factory_A_Line_1' },
        reported: { temperature: 101.04, vibration: 1.234, pressure: 45, power: 250 },
        health: { status: 'critical', reasons: ['overheating_critical'] },
        alerts: [
          {
            alertId: 'a1',
            rule: 'overheating_critical',
            severity: 'critical',
            message: 'Machine temperature is 101 °C.',
            state: 'raised',
            raisedAt: '2026-01-01T00:00:00.000Z',
          },
        ],
        maintenance: { at: '2025-12-01T00:00:00.000Z', work: 'new bearing', by: 'ann' },
      }),
    );
    expect(text).toContain('Machine X1 at Factory_A_Line_1 has a temperature of 101 °C, a vibration of 1.23 mm/s');
    expect(text).toContain('Health is critical (overheating_critical).');
    expect(text).toContain(
      'Alert overheating_critical (critical, raised since 2026-01-01T00:00:00.000Z): Machine temp',
    );
    expect(text).toContain('Last maintenance: new bearing');
  });

  it('say what motes and devices measure', () => {
    const reported = { temperature: 22.5, humidity: 45.3, light: 250, voltage: 2.8 };
    expect(mote.digest(view('mote', { reported }))).toContain(
      'Mote X1 measures 22.5 °C, 45.3 % relative humidity and 250 lux. Its battery is at 2.8 V.',
    );
    expect(device.digest(view('device', { reported: { co2: 612.25 }, units: { co2: 'ppm' } }))).toContain(
      'Device X1 reports co2 612.25 ppm.',
    );
  });

  it('say when a twin is silent, retired or has never spoken', () => {
    expect(mote.digest(view('mote', { at: null, online: false }))).toContain('It has not reported yet.');
    expect(mote.digest(view('mote', { online: false }))).toContain('offline; the last reading is of 2026-01-01');
    expect(mote.digest(view('mote', { retired: true }))).toContain('It is retired.');
    const stale = { reason: 'store down' as const, since: '2026-01-01T00:00:00.000Z', remedy: 'x' };
    expect(mote.digest(view('mote', { stale }))).toContain('store down since 2026');
  });

  it.each(KINDS)('of $kind never say what is not there', (kind) => {
    const number = fc.oneof(
      fc.constant(undefined),
      fc.constant(Number.NaN),
      fc.double(),
      fc.constantFrom(0, -0, -0.01),
    );
    const numberOrNull = fc.oneof(fc.constant(null), fc.double({ noNaN: true }));
    const names = [...kind.metricNames, 'temperature', 'co2'];
    const values = fc.record(Object.fromEntries(names.map((name) => [name, number])), { requiredKeys: [] });
    const windows = fc.record({
      count: fc.nat(5),
      mean: numberOrNull,
      std: numberOrNull,
      min: numberOrNull,
      max: numberOrNull,
      last: numberOrNull,
      slope: numberOrNull,
      ewma: numberOrNull,
      z: numberOrNull,
    });
    fc.assert(
      fc.property(values, windows, fc.boolean(), (reported, w, online) => {
        const text = kind.digest(
          view(kind.kind, {
            reported: reported as Record<string, number>,
            online,
            rolling: { temperature: { '1h': w }, humidity: { '1h': w }, vibration: { '1h': w } },
          }),
        );
        expect(text).not.toMatch(UNSAID);
        expect(text).toContain('X1');
        expect(text).toMatch(/\.$/);
      }),
      { numRuns: 300 },
    );
  });
});

describe('the sentences', () => {
  it('drop what is missing', () => {
    expect(amount(12.345, '°C')).toBe('12.3 °C');
    expect(amount(-0.04, 'V')).toBe('0 V');
    expect(amount(undefined, 'V')).toBeNull();
    expect(sentence('It has', [null, 'a', null])).toBe('It has a.');
    expect(sentence('It has', ['a', 'b', 'c'])).toBe('It has a, b and c.');
    expect(sentence('It has', [null])).toBeNull();
    expect(trend(view('mote'), 'temperature', '1h', '°C', 3_600_000)).toBeNull();
    const steady = view('mote', { rolling: { temperature: { '1h': window({ slope: 0 }) } } });
    expect(trend(steady, 'temperature', '1h', '°C', 3_600_000)).toContain('(mean 21.5) and was steady.');
  });
});
