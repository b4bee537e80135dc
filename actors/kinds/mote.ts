import { gaussian, seededRandom } from '../protocol/clock.ts';
import { amount, assetOf, paragraph, sentence, standing, trend } from '../protocol/digest.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import { defineTwin, type RawReading, type SimulatedAsset } from '../protocol/kind.ts';
import { hash32 } from '../protocol/twin-id.ts';

/**
 * A battery-driven sensor mote in a building. The ranges are wide on purpose: a dying mote reports 122 °C and humidity
 * far below zero, and that is worth storing and flagging; only what no sensor can mean is refused.
 */

const HEADER = new Set(['mote_id', 'timestamp', 'temperature', 'humidity', 'light', 'voltage', 'id', 'seq']);
const METRICS = ['temperature', 'humidity', 'light', 'voltage'] as const;

function decode(message: Record<string, unknown>, topicId: string | undefined): RawReading {
  const values: Record<string, unknown> = {};
  for (const name of METRICS) if (message[name] !== undefined) values[name] = message[name];
  let ignored = 0;
  for (const field of Object.keys(message)) if (!HEADER.has(field)) ignored++;
  const id = message.mote_id ?? topicId;
  return {
    // A running number on the wire; anything else than a whole one stays what it is and is refused at the door.
    id: Number.isSafeInteger(id) && (id as number) >= 0 ? String(id) : id,
    at: message.timestamp,
    values,
    key: message.id,
    seq: message.seq,
    ignored,
  };
}

// ---- simulator ----------------------------------------------------------------------------------------------

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** The room: motes stand on a grid of ten columns; daylight comes through the windows at y = 0. Metres. */
const ROOM = { columns: 10, stepX: 4, stepY: 6, daylightDepth: 9 };
/** One sigma of the sensors, cut at three. */
const NOISE = { temperature: 0.03, humidity: 0.12, light: 0.02, voltage: 0.004 };
/** Humidity falls by so much where it is a degree warmer, %RH per °C. */
const HUMIDITY_PER_DEGREE = -2.1;
/** Below `from` volts readings go astray, at `to` they have become the famous nonsense; below `dead` the radio is off. */
const DYING = { from: 2.34, to: 2.04, dead: 2.0, temperature: 122.153, humidity: -3.91901 };
/** A dead mote gets new cells after so long. */
const REPLACED_MS = 30 * 60_000;

const SCENARIOS = {
  dying_battery: 'voltage falls to its end, within 5 minutes at severity 1; readings turn into nonsense, then silence',
  heat_source: 'something hot and damp stands beside the mote, up to 25 °C and 45 %RH more',
  sensor_stuck: 'temperature and humidity stand still',
  drift: 'the temperature sensor reads up to 12 °C too high',
  dropout: 'readings are missing; at severity 1 all of them',
};
type Scenario = keyof typeof SCENARIOS;
/** After so long a scenario other than a dying battery has run its course. */
const SCENARIO_MS = 10 * 60_000;

/**
 * Everything but the wander and the cells is a function of time and place, and those two are first-order lags that are
 * integrated exactly: a step of any length is one step.
 */
/** Above the numbers of the well-known traces (1 to 54): replaying one must not meet the demo's twins. */
const FIRST_DEMO_MOTE = 101;

function create({ seed, index }: { seed: number; index: number }): SimulatedAsset {
  const random = seededRandom(hash32(`mote:${index}`, seed));
  const x = (index % ROOM.columns) * ROOM.stepX + 2;
  const y = Math.floor(index / ROOM.columns) * ROOM.stepY + 1;
  const daylightShare = Math.exp(-y / ROOM.daylightDepth);
  // Beside the windows the sun warms; the kitchen end (high x) is warmer by a degree.
  const own = { offset: 0.4 * (random() - 0.5) + x / 40, sun: 1.5 * daylightShare, humidity: 3 * (random() - 0.5) };
  // Every fourteenth mote starts with nearly empty cells, so that a demo shows a death within hours.
  const weak = index % 14 === 13;
  /** Charge left in the cells, 0 to 1, and how long a full set lasts. */
  let charge = weak ? 0.2 + 0.1 * random() : 0.5 + 0.5 * random();
  const lifeMs = weak ? 12 * HOUR_MS : (40 + 60 * random()) * DAY_MS;
  let wander = 0;
  let damp = 0;
  let last: number | null = null;
  let deadSince: number | null = null;
  let scenario: Scenario | null = null;
  let severity = 0;
  let since = 0;
  let pending = false;
  let stuck: { temperature: number; humidity: number } | null = null;
  const now = { temperature: 0, humidity: 0, light: 0, voltage: 0, astray: 0 };

  /** Two cells in series: flat for most of their life, then a slope to the end. */
  function cellVoltage(): number {
    return charge <= 0 ? 1.95 : 2.0 + 0.95 * Math.min(1, charge / 0.3) * (0.88 + 0.12 * charge);
  }

  function outside(at: number): void {
    const hour = (at % DAY_MS) / HOUR_MS;
    const sun = Math.max(0, Math.sin(((hour - 6) / 13) * Math.PI)) * (hour > 6 && hour < 19 ? 1 : 0);
    // Lamps fade in and out over six minutes around 7:30 and 20:30; places differ by which lamp hangs near.
    const lamps = 1 / (1 + Math.exp(-(hour - 7.5) * 40)) - 1 / (1 + Math.exp(-(hour - 20.5) * 40));
    now.light = 900 * sun * daylightShare + lamps * (180 + 12 * (index % 7)) + 2;
    const daily = 2.4 * Math.sin(((hour - 9) / 24) * 2 * Math.PI);
    now.temperature = 22 + own.offset + daily + own.sun * sun + wander;
    now.humidity = 42 + own.humidity + HUMIDITY_PER_DEGREE * (now.temperature - 22) + damp;
  }

  return {
    id: String(FIRST_DEMO_MOTE + index),
    next(at) {
      const dtMs = last === null ? 0 : Math.max(0, at - last);
      last = at;
      if (pending) since = at;
      pending = false;
      if (scenario !== null && scenario !== 'dying_battery' && at - since > SCENARIO_MS) {
        scenario = null;
        stuck = null;
      }
      const keep = Math.exp(-dtMs / (2 * HOUR_MS));
      const push = Math.sqrt(1 - keep * keep);
      wander = wander * keep + 0.5 * push * gaussian(random);
      damp = damp * keep + 1.2 * push * gaussian(random);
      const n = [gaussian(random), gaussian(random), gaussian(random), gaussian(random)];
      const missing = random() < severity;

      charge = Math.max(
        0,
        charge - dtMs / lifeMs - (scenario === 'dying_battery' ? (0.3 * severity * dtMs) / 300_000 : 0),
      );
      if (deadSince !== null && at - deadSince >= REPLACED_MS) {
        charge = 1;
        deadSince = null;
        scenario = null;
      }
      now.voltage = cellVoltage();
      if (now.voltage < DYING.dead) deadSince ??= at;
      outside(at);
      if (deadSince !== null || (scenario === 'dropout' && missing)) return null;

      const ramp = severity * Math.min(1, (at - since) / (SCENARIO_MS / 4));
      let temperature = now.temperature + NOISE.temperature * n[0];
      let humidity = Math.min(100, Math.max(0, now.humidity)) + NOISE.humidity * n[1];
      if (scenario === 'heat_source') {
        temperature += 25 * ramp;
        humidity = Math.min(100, humidity + 45 * ramp);
      }
      if (scenario === 'drift') temperature += 12 * ramp;
      if (scenario === 'sensor_stuck') {
        stuck ??= { temperature, humidity };
        ({ temperature, humidity } = stuck);
      }
      now.astray = Math.max(0, Math.min(1, (DYING.from - now.voltage) / (DYING.from - DYING.to)));
      temperature += (DYING.temperature - temperature) * now.astray ** 2;
      humidity += (DYING.humidity - humidity) * now.astray ** 2;
      return {
        mote_id: FIRST_DEMO_MOTE + index,
        temperature: Number(temperature.toFixed(4)),
        humidity: Number(humidity.toFixed(4)),
        light: Number(Math.max(0, now.light * (1 + NOISE.light * n[2])).toFixed(2)),
        voltage: Number((now.voltage + NOISE.voltage * n[3]).toFixed(5)),
        timestamp: new Date(at).toISOString(),
      };
    },
    inject(name, level) {
      if (!Object.hasOwn(SCENARIOS, name) || !(level > 0 && level <= 1)) {
        throw new TwinmeshError('bad_request', `A mote knows the scenarios ${Object.keys(SCENARIOS).join(', ')}.`);
      }
      scenario = name as Scenario;
      severity = level;
      pending = true;
      stuck = null;
      if (name === 'dying_battery') charge = Math.min(charge, 0.3);
    },
    truth: () => ({ ...now, charge, x, y, daylightShare }),
  };
}

// ---- the kind -----------------------------------------------------------------------------------------------

export default defineTwin({
  kind: 'mote',
  version: 1,
  title: 'Sensor mote',
  description: 'A battery-driven sensor of temperature, humidity and light in a building.',
  metrics: {
    temperature: { unit: '°C', min: -273.15, max: 1_000, normal: [18, 28], title: 'Temperature' },
    humidity: { unit: '%', min: -10_000, max: 1_000, normal: [20, 70], title: 'Relative humidity' },
    light: { unit: 'lux', min: 0, max: 200_000, normal: [0, 2_000], title: 'Illuminance' },
    voltage: { unit: 'V', min: 0, max: 20, normal: [2.4, 3.2], title: 'Battery voltage' },
  },
  formats: [
    {
      name: 'mote-readings',
      mqtt: ['building/motes/{id}/readings'],
      kafka: ['sensor_readings'],
      decode,
      example: {
        mote_id: 1,
        temperature: 22.5,
        humidity: 45.3,
        light: 250.0,
        voltage: 2.8,
        timestamp: '2026-01-01T12:00:00Z',
      },
    },
  ],
  windows: {
    '5m': { spanMs: 300_000, panes: 5 },
    '1h': { spanMs: 3_600_000, panes: 6 },
    '24h': { spanMs: 86_400_000, panes: 6 },
  },
  detectors: {
    cooldownMs: 300_000,
    // Chosen on the labelled single-hop motes of Suthaharan et al. (2010), 5 s apart: reading-wise F1 0.99 with holdMs,
    // 0.26 without. Light is a switch and voltage has its rule.
    zscore: {
      window: '5m',
      threshold: 3,
      minCount: 8,
      metrics: ['temperature', 'humidity'],
      minStd: { temperature: 0.5, humidity: 1.5 },
      holdMs: 900_000,
    },
    rate: { temperature: 1, humidity: 3 },
    stuck: { temperature: { count: 48, forMs: 1_800_000 }, humidity: { count: 96, forMs: 1_800_000 } },
  },
  rules: [
    {
      name: 'battery_low',
      metric: 'voltage',
      below: 2.35,
      hysteresis: 0.05,
      holdMs: 10_000,
      cooldownMs: 600_000,
      severity: 'warning',
      message: 'Mote battery is at {value} V: its readings are not to be trusted soon, replace the cells.',
    },
    {
      name: 'too_hot',
      metric: 'temperature',
      above: 40,
      hysteresis: 2,
      holdMs: 10_000,
      cooldownMs: 300_000,
      severity: 'high',
      message: 'Temperature is {value} °C: a heat source, or a dying mote.',
    },
    {
      name: 'too_cold',
      metric: 'temperature',
      below: 5,
      hysteresis: 1,
      holdMs: 60_000,
      cooldownMs: 300_000,
      severity: 'warning',
      message: 'Temperature is {value} °C: danger of frost, or a dying mote.',
    },
    {
      name: 'humidity_high',
      metric: 'humidity',
      above: 80,
      hysteresis: 5,
      holdMs: 30_000,
      cooldownMs: 300_000,
      severity: 'warning',
      message: 'Humidity is {value} %: look for water or steam.',
    },
    {
      name: 'humidity_impossible',
      metric: 'humidity',
      below: 5,
      hysteresis: 2,
      holdMs: 10_000,
      cooldownMs: 300_000,
      severity: 'warning',
      message: 'Humidity is {value} %: no room is so dry, the sensor is failing.',
    },
  ],
  silentAfterMs: 300_000,
  graph: {
    type: 'sensor_mote',
    components: [
      { id: 'cells', type: 'battery', criticality: 'high' },
      { id: 'radio', type: 'radio', criticality: 'medium' },
      { id: 'sensors', type: 'sensor_board', criticality: 'medium' },
    ],
  },
  digest(view) {
    const r = view.reported;
    const name = `Mote ${assetOf(view)}`;
    return paragraph([
      sentence(`${name} measures`, [
        amount(r.temperature, '°C'),
        amount(r.humidity, '% relative humidity'),
        amount(r.light, 'lux', 0),
      ]) ?? `${name}.`,
      sentence('Its battery is at', [amount(r.voltage, 'V', 2)]),
      trend(view, 'temperature', '1h', '°C', 3_600_000),
      trend(view, 'humidity', '1h', '%', 3_600_000),
      standing(view),
    ]);
  },
  simulator: { demoCount: 42, intervalMs: 5_000, scenarios: SCENARIOS, create },
});
