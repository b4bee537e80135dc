import { gaussian, seededRandom } from '../../protocol/clock.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { SimulatedAsset } from '../../protocol/kind.ts';
import { hash32 } from '../../protocol/twin-id.ts';

/**
 * Motes of one room, simulated. Owns what the room does to them (daylight, lamps, heating, the server corner, the outside
 * wall), how their cells empty and how their sensors and radios fail. Does not own what a mote is (kinds/mote.ts).
 *
 * Invariants:
 *  1  Same seed and index, same bytes: every draw comes from a generator seeded with both.
 *  2  `truth` says what messages do not: the group a mote stands in, its charge, and what is wrong with it.
 */

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

export const MOTE_SCENARIOS = {
  dying_battery: 'voltage falls to its end, within 5 minutes at severity 1; readings turn into nonsense, then silence',
  heat_source: 'something hot and damp stands beside the mote, up to 25 °C and 45 %RH more',
  sensor_stuck: 'temperature and humidity stand still',
  drift: 'the temperature sensor reads up to 12 °C too high',
  dropout: 'readings are missing; at severity 1 all of them',
};
type Scenario = keyof typeof MOTE_SCENARIOS;
/** After so long a scenario other than a dying battery has run its course. */
const SCENARIO_MS = 10 * 60_000;

/** Where a mote stands decides what its days look like; the index of its group is in its truth. */
export const MOTE_GROUPS = ['sunny', 'shaded', 'server_room', 'outside_wall'] as const;
type Group = (typeof MOTE_GROUPS)[number];
/**
 * `offset` °C and `humidity` %RH on top of the room's, `sun` °C at noon beside the window, `daily` the share of the room's
 * day and night that reaches it, `daylight` and `lamps` the shares of light.
 */
const GROUP: Record<Group, Record<'offset' | 'humidity' | 'sun' | 'daily' | 'daylight' | 'lamps', number>> = {
  sunny: { offset: 0.3, humidity: -1, sun: 2.8, daily: 1, daylight: 1, lamps: 1 },
  shaded: { offset: 0, humidity: 0, sun: 0.3, daily: 0.85, daylight: 0.4, lamps: 1 },
  server_room: { offset: 3, humidity: -5, sun: 0, daily: 0.2, daylight: 0.1, lamps: 0.6 },
  outside_wall: { offset: -0.8, humidity: 4, sun: 0.3, daily: 1.35, daylight: 0.85, lamps: 1 },
};

/** The seed moves the walls of the server corner and the outside strip, and says which motes of the second row have blinds. */
function groupOf(seed: number, index: number, column: number, row: number): Group {
  const walls = hash32('walls', seed);
  if (row >= 2 && column >= 7 + (walls & 1)) return 'server_room';
  if (row >= 1 && column <= ((walls >> 1) & 1)) return 'outside_wall';
  if (row === 0) return 'sunny';
  return row === 1 && (hash32(`blinds:${index}`, seed) & 1) === 1 ? 'sunny' : 'shaded';
}

/**
 * Everything but the wander and the cells is a function of time and place, and those two are first-order lags that are
 * integrated exactly: a step of any length is one step.
 */
/** Above the numbers of the well-known traces (1 to 54): replaying one must not meet the demo's twins. */
const FIRST_DEMO_MOTE = 101;

export function createMote({ seed, index }: { seed: number; index: number }): SimulatedAsset {
  let random = seededRandom(hash32(`mote:${index}`, seed));
  const column = index % ROOM.columns;
  const row = Math.floor(index / ROOM.columns);
  const x = column * ROOM.stepX + 2;
  const y = row * ROOM.stepY + 1;
  const group = groupOf(seed, index, column, row);
  const place = GROUP[group];
  const daylightShare = Math.exp(-y / ROOM.daylightDepth);
  // Beside the windows the sun warms; the kitchen end (high x) is warmer by a degree.
  const own = {
    offset: 0.4 * (random() - 0.5) + x / 40 + place.offset,
    sun: place.sun * daylightShare,
    humidity: 3 * (random() - 0.5) + place.humidity,
  };
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
  const now = { temperature: 0, humidity: 0, light: 0, voltage: 0, astray: 0, drift: 0, heat: 0, stuck: 0, dropout: 0 };

  /** Two cells in series: flat for most of their life, then a slope to the end. */
  function cellVoltage(): number {
    return charge <= 0 ? 1.95 : 2.0 + 0.95 * Math.min(1, charge / 0.3) * (0.88 + 0.12 * charge);
  }

  function outside(at: number): void {
    const hour = (at % DAY_MS) / HOUR_MS;
    const sun = Math.max(0, Math.sin(((hour - 6) / 13) * Math.PI)) * (hour > 6 && hour < 19 ? 1 : 0);
    // Lamps fade in and out over six minutes around 7:30 and 20:30; places differ by which lamp hangs near.
    const lamps = 1 / (1 + Math.exp(-(hour - 7.5) * 40)) - 1 / (1 + Math.exp(-(hour - 20.5) * 40));
    now.light = 900 * sun * daylightShare * place.daylight + lamps * (180 + 12 * (index % 7)) * place.lamps + 2;
    const daily = 2.4 * place.daily * Math.sin(((hour - 9) / 24) * 2 * Math.PI);
    now.temperature = 22 + own.offset + daily + own.sun * sun + wander;
    now.humidity = 42 + own.humidity + HUMIDITY_PER_DEGREE * (now.temperature - 22) + damp;
  }

  const save = () => ({
    ...{ random: random.state(), charge, wander, damp, last, deadSince, scenario, severity, since, pending, stuck },
    now: { ...now },
  });

  return {
    id: String(FIRST_DEMO_MOTE + index),
    save,
    resume(saved, stoodMs) {
      const s = saved as ReturnType<typeof save>;
      random = seededRandom(s.random);
      ({ charge, wander, damp, scenario, severity, pending, stuck } = s);
      Object.assign(now, s.now);
      last = s.last === null ? null : s.last + stoodMs;
      deadSince = s.deadSince === null ? null : s.deadSince + stoodMs;
      since = s.since + stoodMs;
    },
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
      now.astray = Math.max(0, Math.min(1, (DYING.from - now.voltage) / (DYING.from - DYING.to)));
      const ramp = severity * Math.min(1, (at - since) / (SCENARIO_MS / 4));
      now.heat = scenario === 'heat_source' ? 25 * ramp : 0;
      now.drift = scenario === 'drift' ? 12 * ramp : 0;
      now.stuck = scenario === 'sensor_stuck' ? 1 : 0;
      now.dropout = scenario === 'dropout' ? severity : 0;
      if (deadSince !== null || (scenario === 'dropout' && missing)) return null;

      let temperature = now.temperature + NOISE.temperature * n[0];
      let humidity = Math.min(100, Math.max(0, now.humidity)) + NOISE.humidity * n[1];
      temperature += now.heat + now.drift;
      if (now.heat > 0) humidity = Math.min(100, humidity + 1.8 * now.heat);
      if (scenario === 'sensor_stuck') {
        stuck ??= { temperature, humidity };
        ({ temperature, humidity } = stuck);
      }
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
      if (!Object.hasOwn(MOTE_SCENARIOS, name) || !(level > 0 && level <= 1)) {
        throw new TwinmeshError('bad_request', `A mote knows the scenarios ${Object.keys(MOTE_SCENARIOS).join(', ')}.`);
      }
      scenario = name as Scenario;
      severity = level;
      pending = true;
      stuck = null;
      if (name === 'dying_battery') charge = Math.min(charge, 0.3);
    },
    truth: () => ({ ...now, charge, x, y, daylightShare, group: MOTE_GROUPS.indexOf(group) }),
  };
}
