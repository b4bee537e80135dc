import { amount, assetOf, paragraph, sentence, standing, trend } from '../protocol/digest.ts';
import { defineTwin, type RawReading } from '../protocol/kind.ts';
import { create, SCENARIOS } from './simulators/machine.ts';

/** A machine of a production line: four measurements. The one that is simulated is a hydraulic press. */

const HEADER = new Set(['timestamp', 'machine_id', 'sensor_id', 'readings', 'metadata', 'id', 'seq']);

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function decode(message: Record<string, unknown>, topicId: string | undefined): RawReading {
  let ignored = 0;
  for (const field of Object.keys(message)) if (!HEADER.has(field)) ignored++;
  return {
    id: message.machine_id ?? topicId,
    at: message.timestamp,
    values: isObject(message.readings) ? message.readings : {},
    key: message.id,
    seq: message.seq,
    sensor: message.sensor_id,
    attributes: isObject(message.metadata) ? message.metadata : undefined,
    ignored,
  };
}

/** Readings an hour from which on a minute without any does not come by chance. */
const SPEAKS_OFTEN = 480;
const METRICS = ['temperature', 'vibration', 'pressure', 'power'];

export default defineTwin({
  kind: 'machine',
  version: 2,
  title: 'Machine',
  description: 'A machine of a production line with temperature, vibration, hydraulic pressure and electric power.',
  metrics: {
    temperature: { unit: '°C', min: -100, max: 2_000, normal: [15, 85], title: 'Temperature' },
    vibration: { unit: 'mm/s', min: 0, max: 1_000, normal: [0, 4.5], title: 'Vibration velocity (RMS)' },
    pressure: { unit: 'bar', min: -1, max: 2_000, normal: [35, 55], title: 'Hydraulic pressure' },
    power: { unit: 'kW', min: -100_000, max: 100_000, normal: [0, 300], title: 'Electric power' },
  },
  formats: [
    {
      name: 'sensor-readings',
      mqtt: ['factory/machines/{id}/readings'],
      kafka: ['sensor-readings'],
      decode,
      example: {
        timestamp: '2026-01-01T12:00:00.000Z',
        machine_id: 'MACHINE_001',
        sensor_id: 'TEMP_001',
        readings: { temperature: 65.5, vibration: 1.2, pressure: 45.0, power: 250.0 },
        metadata: { location: 'Factory_A_Line_1', shift: 'morning' },
      },
    },
  ],
  windows: {
    '1m': { spanMs: 60_000, panes: 4 },
    '5m': { spanMs: 300_000, panes: 5 },
    '1h': { spanMs: 3_600_000, panes: 6 },
    '12h': { spanMs: 43_200_000, panes: 6 },
  },
  features: {
    // Readings of the last minutes against those of the hour: 1 at a steady pace, less where messages are missing.
    pace_5m: (f) => {
      const filled = f('power.5m.filled');
      const hour = f('power.1h.count');
      // minutes without any are a silence, which going offline tells; the first and the last one since are not whole
      const whole = filled < 5 && hour > SPEAKS_OFTEN ? Math.max(1, filled - 2) / 5 : 1;
      return Math.min(1, (12 * f('power.5m.count')) / whole / hour);
    },
    // 0 while it has spoken for a minute or two only since a silence: how warm it should be nobody can know who has not seen its load.
    heard_lately: (f) => (f('power.5m.filled') < 3 && f('power.1h.count') > SPEAKS_OFTEN ? 0 : 1),
  },
  detectors: {
    cooldownMs: 300_000,
    // The floors are as wide as a change of regime, so that only what no regime explains is an anomaly.
    zscore: {
      window: '5m',
      threshold: 3,
      minCount: 20,
      minStd: { temperature: 4, vibration: 0.4, pressure: 1.2, power: 80 },
      holdMs: 900_000,
    },
    rate: { temperature: 5, vibration: 10, pressure: 20 },
    stuck: {
      temperature: { count: 60, forMs: 120_000 },
      vibration: { count: 60, forMs: 120_000 },
      pressure: { count: 60, forMs: 120_000 },
    },
  },
  models: {
    anomaly: {
      model: 'machine-anomaly',
      inputs: [
        ...METRICS.flatMap((m) => [m, `${m}.1m.mean`, `${m}.1m.std`, `${m}.5m.mean`, `${m}.5m.std`]),
        ...['power.1h.panes', 'power.5m.panes', 'time.hour_sin', 'time.hour_cos', 'pace_5m'],
      ],
      needs: METRICS,
      when: 'heard_lately',
      everyMs: 1_000,
      minReadings: 10,
      anomaly: { cooldownMs: 900_000 },
    },
    rul: {
      model: 'machine-rul',
      inputs: ['12h.panes', '1h.panes', '5m.panes', '1m.mean'].flatMap((span) =>
        ['vibration', 'power', 'temperature'].map((metric) => `${metric}.${span}`),
      ),
      everyMs: 30_000,
      minReadings: 5,
      maintenance: { inspectBelowH: 100, scheduleBelowH: 24, stopBelowH: 2 },
    },
  },
  // Vibration limits: ISO 10816-3, group 1 (large machines) on rigid foundation, zone borders B/C and C/D.
  rules: [
    {
      name: 'overheating',
      metric: 'temperature',
      above: 85,
      hysteresis: 5,
      holdMs: 10_000,
      cooldownMs: 120_000,
      severity: 'high',
      message: 'Machine temperature is {value} °C: check coolant and load.',
    },
    {
      name: 'overheating_critical',
      metric: 'temperature',
      above: 100,
      hysteresis: 5,
      holdMs: 4_000,
      cooldownMs: 60_000,
      severity: 'critical',
      message: 'Machine temperature is {value} °C: stop the machine.',
    },
    {
      name: 'vibration_high',
      metric: 'vibration',
      above: 4.5,
      hysteresis: 0.5,
      holdMs: 10_000,
      cooldownMs: 300_000,
      severity: 'high',
      message: 'Vibration is {value} mm/s (ISO 10816 zone C): inspect bearings and balance soon.',
    },
    {
      name: 'vibration_critical',
      metric: 'vibration',
      above: 7.1,
      hysteresis: 0.6,
      holdMs: 4_000,
      cooldownMs: 120_000,
      severity: 'critical',
      message: 'Vibration is {value} mm/s (ISO 10816 zone D): damage is likely, stop the machine.',
    },
    {
      name: 'pressure_low',
      metric: 'pressure',
      below: 35,
      hysteresis: 2,
      holdMs: 6_000,
      cooldownMs: 120_000,
      severity: 'high',
      message: 'Hydraulic pressure is {value} bar: look for a leak.',
    },
    {
      name: 'power_surge',
      metric: 'power',
      above: 320,
      hysteresis: 15,
      holdMs: 0,
      cooldownMs: 60_000,
      severity: 'warning',
      message: 'Power is {value} kW: check the drive and the supply.',
    },
    {
      name: 'unusual_state',
      metric: 'predictions.anomaly',
      above: 1.5,
      hysteresis: 0.5,
      holdMs: 20_000,
      cooldownMs: 300_000,
      severity: 'warning',
      message: 'The machine runs {value} times as unusually as ordinary work ever does: see which metric contributes.',
    },
  ],
  silentAfterMs: 60_000,
  graph: {
    type: 'press',
    components: [
      { id: 'bearing', type: 'bearing', criticality: 'high' },
      { id: 'drive', type: 'electric_drive', criticality: 'high' },
      { id: 'pump', type: 'hydraulic_pump', criticality: 'high' },
      { id: 'cooling', type: 'cooling_circuit', criticality: 'medium' },
    ],
  },
  digest(view) {
    const r = view.reported;
    const place = typeof view.attributes.location === 'string' ? ` at ${view.attributes.location}` : '';
    const name = `Machine ${assetOf(view)}${place}`;
    const parts: [string, string | null][] = [
      ['a temperature of', amount(r.temperature, '°C')],
      ['a vibration of', amount(r.vibration, 'mm/s', 2)],
      ['a pressure of', amount(r.pressure, 'bar')],
      ['a power of', amount(r.power, 'kW')],
    ];
    return paragraph([
      sentence(
        `${name} has`,
        parts.map(([label, text]) => (text === null ? null : `${label} ${text}`)),
      ) ?? `${name}.`,
      trend(view, 'temperature', '1h', '°C', 3_600_000),
      trend(view, 'vibration', '1h', 'mm/s', 3_600_000),
      standing(view),
    ]);
  },
  simulator: { demoCount: 8, intervalMs: 2_000, scenarios: SCENARIOS, create },
});
