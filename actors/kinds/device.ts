import { gaussian, seededRandom } from '../protocol/clock.ts';
import { amount, assetOf, paragraph, standing } from '../protocol/digest.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import { defineTwin, type RawReading, type SimulatedAsset } from '../protocol/kind.ts';
import { hash32 } from '../protocol/twin-id.ts';

/**
 * Any IoT device that sends one value at a time and names it: its metrics are learned from its messages, so history
 * is narrow and rules name metrics that a device may or may not have.
 */

const HOUR_MS = 3_600_000;
const KNOWN = new Set(['device_id', 'sensor_type', 'value', 'unit', 'timestamp', 'id', 'seq']);

function decode(message: Record<string, unknown>, topicId: string | undefined): RawReading {
  const name = message.sensor_type;
  let ignored = 0;
  for (const field of Object.keys(message)) if (!KNOWN.has(field)) ignored++;
  return {
    id: message.device_id ?? topicId,
    at: message.timestamp,
    // A computed key makes an own property, also for `__proto__`; the door refuses the name.
    values: typeof name === 'string' ? { [name]: message.value } : {},
    unit: message.unit,
    key: message.id,
    seq: message.seq,
    ignored,
  };
}

const SCENARIOS = {
  drift: 'the value wanders away, by up to 15 standard steps in 20 minutes',
  sensor_stuck: 'the value stands still',
  spikes: 'single readings far from the rest',
  dropout: 'readings are missing; at severity 1 all of them',
};
/** After so long a scenario has run its course and the device is mended. */
const SCENARIO_MS = 20 * 60_000;

/** What the demo devices measure: mean, daily swing, noise (1 σ) and step of a scenario, in the unit. */
const SENSORS = [
  { type: 'temperature', unit: 'C', mean: 21, swing: 2.5, noise: 0.08, step: 1.5 },
  { type: 'humidity', unit: '%', mean: 45, swing: -6, noise: 0.3, step: 4 },
  { type: 'co2', unit: 'ppm', mean: 650, swing: 180, noise: 6, step: 150 },
  { type: 'noise', unit: 'dB', mean: 42, swing: 6, noise: 0.8, step: 5 },
] as const;

function create({ seed, index }: { seed: number; index: number }): SimulatedAsset {
  let random = seededRandom(hash32(`device:${index}`, seed));
  const sensor = SENSORS[index % SENSORS.length];
  const id = `dev-${index + 1}`;
  const offset = (random() - 0.5) * Math.abs(sensor.swing);
  let wander = 0;
  let last = 0;
  let value: number = sensor.mean;
  let stuckAt: number | null = null;
  let scenario: keyof typeof SCENARIOS | null = null;
  let severity = 0;
  let since: number | null = null;

  const save = () => ({ random: random.state(), wander, last, value, stuckAt, scenario, severity, since });

  return {
    id,
    save,
    resume(saved, stoodMs) {
      const s = saved as ReturnType<typeof save>;
      random = seededRandom(s.random);
      ({ wander, value, stuckAt, scenario, severity } = s);
      last = s.last === 0 ? 0 : s.last + stoodMs;
      since = s.since === null ? null : s.since + stoodMs;
    },
    next(at) {
      const dtMs = last === 0 ? 0 : Math.max(0, at - last);
      last = at;
      // A first-order wander with a time constant of ten minutes: stable for a step of any length.
      const keep = Math.exp(-dtMs / 600_000);
      wander = wander * keep + Math.sqrt(1 - keep * keep) * gaussian(random) * Math.abs(sensor.swing) * 0.15;
      const hour = (at % (24 * HOUR_MS)) / HOUR_MS;
      const daily = sensor.swing * Math.sin(((hour - 9) / 24) * 2 * Math.PI);
      const noise = sensor.noise * gaussian(random);
      const chance = random();
      if (scenario !== null) since ??= at;
      const ran = since === null ? 0 : at - since;
      if (ran > SCENARIO_MS) {
        scenario = null;
        since = null;
        stuckAt = null;
      }
      value = sensor.mean + offset + daily + wander;
      let shown = value + noise;
      if (scenario === 'drift') shown += severity * 15 * sensor.step * (ran / SCENARIO_MS);
      if (scenario === 'spikes' && chance < 0.1) shown += severity * 20 * sensor.step;
      if (scenario === 'sensor_stuck') {
        stuckAt ??= shown;
        shown = stuckAt;
      }
      if (scenario === 'dropout' && chance < severity) return null;
      return {
        device_id: id,
        sensor_type: sensor.type,
        value: Number(Math.max(0, shown).toFixed(2)),
        unit: sensor.unit,
        timestamp: new Date(at).toISOString(),
      };
    },
    inject(name, level) {
      if (!Object.hasOwn(SCENARIOS, name) || !(level > 0 && level <= 1)) {
        throw new TwinmeshError('bad_request', `A device knows the scenarios ${Object.keys(SCENARIOS).join(', ')}.`);
      }
      scenario = name as keyof typeof SCENARIOS;
      severity = level;
      since = null;
      stuckAt = null;
    },
    truth: () => ({ value, noise: sensor.noise }),
  };
}

export default defineTwin({
  kind: 'device',
  version: 1,
  title: 'IoT device',
  description: 'A generic device that sends one named value at a time; its metrics are learned from its messages.',
  openMetrics: true,
  metrics: {},
  formats: [
    {
      name: 'iot-data',
      mqtt: ['iot/data'],
      http: ['/api/data'],
      decode,
      example: {
        device_id: 'dev-7',
        sensor_type: 'temperature',
        value: 21.5,
        unit: 'C',
        timestamp: '2026-01-01T12:00:00.000Z',
      },
    },
  ],
  windows: { '5m': { spanMs: 300_000, panes: 5 }, '1h': { spanMs: 3_600_000, panes: 6 } },
  detectors: {
    cooldownMs: 300_000,
    zscore: {
      window: '1h',
      threshold: 4,
      minCount: 30,
      minStd: { temperature: 0.5, humidity: 1.5, co2: 40, noise: 2 },
      holdMs: 900_000,
    },
    rate: { temperature: 2, humidity: 5 },
    stuck: { temperature: { count: 60, forMs: 1_800_000 }, humidity: { count: 120, forMs: 3_600_000 } },
  },
  rules: [
    {
      name: 'too_hot',
      metric: 'temperature',
      above: 60,
      hysteresis: 3,
      holdMs: 10_000,
      cooldownMs: 300_000,
      severity: 'high',
      message: 'Temperature is {value} °C: too hot.',
    },
    {
      name: 'co2_high',
      metric: 'co2',
      above: 1_500,
      hysteresis: 200,
      holdMs: 60_000,
      cooldownMs: 600_000,
      severity: 'warning',
      message: 'CO2 is {value} ppm: ventilate.',
    },
  ],
  silentAfterMs: 900_000,
  graph: { type: 'device' },
  digest(view) {
    const values = Object.keys(view.reported).map((name) => {
      const text = amount(view.reported[name], view.units?.[name] ?? '', 2);
      return text === null ? null : `${name} ${text}`;
    });
    const there = values.filter((value) => value !== null);
    return paragraph([
      there.length > 0 ? `Device ${assetOf(view)} reports ${there.join(', ')}.` : `Device ${assetOf(view)}.`,
      standing(view),
    ]);
  },
  simulator: { demoCount: 4, intervalMs: 2_000, scenarios: SCENARIOS, create },
});
