import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import device from '../../../actors/kinds/device.ts';
import machine from '../../../actors/kinds/machine.ts';
import mote from '../../../actors/kinds/mote.ts';
import { isId } from '../../../actors/protocol/twin-id.ts';

const KINDS = [battery, device, machine, mote];

function decode(kind: (typeof KINDS)[number], message: Record<string, unknown>, topicId?: string) {
  return kind.formats[0].decode(message, topicId);
}

describe('battery messages', () => {
  const message = {
    battery_id: 'EV-001',
    timestamp: '2026-01-01T00:00:00Z',
    SoC: 81.2,
    SoH: 97.4,
    Battery_Voltage: 386.1,
    Battery_Current: -42.0,
    Battery_Temperature: 31.5,
    Charge_Cycles: 212,
    Power_Consumption: 16216,
  };

  it('name seven metrics', () => {
    expect(decode(battery, message)).toMatchObject({
      id: 'EV-001',
      at: '2026-01-01T00:00:00Z',
      values: { soc: 81.2, soh: 97.4, voltage: 386.1, current: -42, temperature: 31.5, cycles: 212, power: 16216 },
      ignored: 0,
    });
    expect(Object.keys(decode(battery, message).values).sort()).toEqual([...battery.metricNames].sort());
  });

  it('count what they do not know and keep the identity', () => {
    const raw = decode(battery, { ...message, Trip: 7, soc: 1, id: 'r-1', seq: 9 });
    expect(raw).toMatchObject({ ignored: 2, key: 'r-1', seq: 9 });
    expect(raw.values.soc).toBe(81.2);
  });

  it('take the id from the topic where they have none', () => {
    expect(decode(battery, { SoC: 5 }, 'EV-009')).toMatchObject({ id: 'EV-009', values: { soc: 5 } });
    expect(decode(battery, { SoC: 5, battery_id: 'EV-001' }, 'EV-009').id).toBe('EV-001');
  });

  it('feed the gauges that dashboards expect', () => {
    expect(battery.prometheusLabel).toBe('battery_id');
    expect([battery.metrics.soc.gauge, battery.metrics.soh.gauge, battery.metrics.temperature.gauge]).toEqual([
      'battery_soc_percent',
      'battery_soh_percent',
      'battery_temperature_celsius',
    ]);
  });
});

describe('machine messages', () => {
  it('carry any subset of readings, a sensor and attributes', () => {
    const raw = decode(machine, {
      timestamp: 1_767_225_600,
      machine_id: 'MACHINE_001',
      sensor_id: 'TEMP_001',
      readings: { temperature: 65.5 },
      metadata: { location: 'Factory_A_Line_1', shift: 'morning' },
    });
    expect(raw).toMatchObject({
      id: 'MACHINE_001',
      at: 1_767_225_600,
      sensor: 'TEMP_001',
      values: { temperature: 65.5 },
      attributes: { location: 'Factory_A_Line_1', shift: 'morning' },
    });
  });

  it.each([undefined, null, 5, 'x', [1, 2]])('with readings of %j have no values', (readings) => {
    expect(decode(machine, { machine_id: 'M', readings, metadata: readings })).toMatchObject({
      values: {},
      attributes: undefined,
    });
  });
});

describe('mote messages', () => {
  it('number their motes; the id is that number as text', () => {
    const raw = decode(mote, {
      mote_id: 1,
      temperature: 22.5,
      humidity: 45.3,
      light: 250,
      voltage: 2.8,
      timestamp: 't',
    });
    expect(raw).toMatchObject({ id: '1', values: { temperature: 22.5, humidity: 45.3, light: 250, voltage: 2.8 } });
    expect(decode(mote, { mote_id: 'attic-3' }).id).toBe('attic-3');
    expect(decode(mote, { temperature: 1 }, '17').id).toBe('17');
  });

  it.each([1.5, -3, 1e300, true, null, {}])('of mote %j keep a fault that the door can refuse', (mote_id) => {
    expect(isId(decode(mote, { mote_id }).id)).toBe(false);
  });

  it('leave out what was not measured', () => {
    expect(decode(mote, { mote_id: 2, temperature: 20, humidity: undefined }).values).toEqual({ temperature: 20 });
  });

  it('of dying motes are within range, impossible ones are not', () => {
    const inside = (metric: string, value: number) =>
      value >= mote.metrics[metric].min && value <= mote.metrics[metric].max;
    expect(inside('temperature', 122.153)).toBe(true);
    expect(inside('temperature', 385.568)).toBe(true);
    expect(inside('humidity', -3.91901)).toBe(true);
    expect(inside('humidity', -8983.13)).toBe(true);
    expect(inside('voltage', 0.00911)).toBe(true);
    expect(inside('voltage', 18.5602)).toBe(true);
    expect(inside('temperature', -300)).toBe(false);
    expect(inside('light', -1)).toBe(false);
    expect(inside('voltage', -0.1)).toBe(false);
    expect(inside('humidity', 1e6)).toBe(false);
  });
});

describe('device messages', () => {
  it('name their own metric', () => {
    expect(
      decode(device, { device_id: 'dev-7', sensor_type: 'temperature', value: 21.5, unit: 'C', timestamp: 't' }),
    ).toMatchObject({ id: 'dev-7', at: 't', values: { temperature: 21.5 }, unit: 'C', ignored: 0 });
  });

  it('cannot reach the prototype', () => {
    const raw = decode(device, JSON.parse('{"device_id":"d","sensor_type":"__proto__","value":{"polluted":1}}'));
    expect(Object.keys(raw.values)).toEqual(['__proto__']);
    expect((raw.values as { polluted?: unknown }).polluted).toBeUndefined();
    expect(Object.getPrototypeOf(raw.values)).toBe(Object.prototype);
    expect(decode(device, { device_id: 'd', sensor_type: 5, value: 1 }).values).toEqual({});
  });
});

describe.each(KINDS)('the format of $kind', (kind) => {
  it('decodes its example into its metrics, inside their range', () => {
    const raw = decode(kind, kind.formats[0].example);
    expect(isId(raw.id)).toBe(true);
    expect(Number.isNaN(Date.parse(raw.at as string))).toBe(false);
    for (const [name, value] of Object.entries(raw.values)) {
      if (kind.openMetrics) continue;
      expect(value).toBeGreaterThanOrEqual(kind.metrics[name].min);
      expect(value).toBeLessThanOrEqual(kind.metrics[name].max);
    }
    expect(raw.ignored).toBe(0);
  });

  it('throws on no object at all', () => {
    const fields = Object.keys(kind.formats[0].example);
    const message = fc.dictionary(fc.oneof(fc.constantFrom(...fields), fc.string()), fc.jsonValue({ maxDepth: 3 }));
    fc.assert(
      fc.property(message, fc.option(fc.string(), { nil: undefined }), (m, topicId) => {
        const raw = decode(kind, m, topicId);
        expect(typeof raw.values).toBe('object');
        expect(raw.values).not.toBeNull();
      }),
      { numRuns: 300 },
    );
  });
});
