import { gaussian, seededRandom } from '../../protocol/clock.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { SimulatedAsset, SimulatorDefinition } from '../../protocol/kind.ts';
import { hash32 } from '../../protocol/twin-id.ts';

/** A hydraulic press to simulate: it warms up, follows its load, and wears. */

const HOUR_MS = 3_600_000;
/** Time constants of warming up, of the hydraulic pressure and of the drive, milliseconds. */
const LAG_MS = { temperature: 900_000, pressure: 8_000, load: 15_000 };
/** One sigma of the sensors, cut at three. */
const NOISE = { temperature: 0.15, vibration: 0.04, pressure: 0.15, power: 1.5 };
const SUBSTEPS = 64;
const SUBSTEP_MS = 10_000;

export const SCENARIOS = {
  bearing_wear: 'vibration grows to six times its level, the bearing warms and the drive works harder',
  overheating: 'the cooling has failed: temperature climbs by up to 60 °C',
  pressure_loss: 'the hydraulic circuit leaks: pressure falls by up to 70 %',
  power_surge: 'the drive draws bursts of up to twice its power',
  sensor_stuck: 'the temperature sensor stands still; from severity 0.5 all sensors do',
  drift: 'the temperature sensor reads up to 30 °C too high',
  dropout: 'messages are missing; at severity 1 all of them',
  wear_out: 'the bearing wears out for good, with the load: within an hour at severity 1, within weeks at 0.1',
};
type Scenario = keyof typeof SCENARIOS;
/** Scenarios ramp up over half of this time, then stay, then the machine is mended; `wear_out` is mended so long after the failure. */
const SCENARIO_MS = 20 * 60_000;
/** `wear_out`: life at rated wear, hours, by severity; wear follows load, whose mean is MEAN_LOAD. */
const LONGEST_LIFE_H = 500;
const lifeH = (severity: number) => LONGEST_LIFE_H ** (1 - severity);
const MEAN_LOAD = 0.69;
/** How damage grows over the share of life used: slow for long, then ever faster. */
const damageAt = (used: number) => Math.expm1(4 * used) / Math.expm1(4);
/** What `hoursToFailure` says of a bearing that does not wear. */
const SOUND_H = 10_000;

/** Load levels of the regimes, share of the rated load. */
const REGIMES = { idle: 0.15, partial: 0.6, full: 1 } as const;
type Regime = keyof typeof REGIMES;

function shiftAt(at: number): 'night' | 'morning' | 'afternoon' {
  const hour = (at % (24 * HOUR_MS)) / HOUR_MS;
  return hour < 6 || hour >= 22 ? 'night' : hour < 14 ? 'morning' : 'afternoon';
}

/**
 * Temperature follows load with the lag of a warm-up, pressure and power follow it within seconds, vibration is what the
 * shaft does at that load. Lags are integrated exactly, so a step of any length is stable; it is cut into at most
 * SUBSTEPS parts.
 */
export function create({ seed, index, parameters = {} }: Parameters<SimulatorDefinition['create']>[0]): SimulatedAsset {
  for (const name of Object.keys(parameters))
    if (name !== 'log10_life_h' && name !== 'used')
      throw new TwinmeshError('bad_request', `A machine has no parameter "${name}": there is log10_life_h and used.`);
  let random = seededRandom(hash32(`machine:${index}`, seed));
  const number = String(index + 1).padStart(3, '0');
  const location = `Factory_${String.fromCharCode(65 + (Math.floor(index / 4) % 26))}_Line_${1 + (index % 4)}`;
  // No two machines are alike: each has its own rated values.
  const own = {
    rise: 40 + 6 * random(),
    shaft: 0.55 + 0.2 * random(),
    pressure: 44 + 2 * random(),
    power: 235 + 25 * random(),
  };
  let regime: Regime = 'full';
  let regimeLeftMs = 600_000 * (0.5 + random());
  let load = 0.9;
  let ambient = 22;
  let temperature = 22 + own.rise * (0.6 + 0.4 * random());
  let pressure = own.pressure;
  let vibration = 0;
  let power = 0;
  let last: number | null = null;
  // With a life given the machine wears out from the start; `used` is the share of it that lies behind.
  const { log10_life_h: log10LifeH } = parameters;
  let scenario: Scenario | null = log10LifeH === undefined ? null : 'wear_out';
  let severity = log10LifeH === undefined ? 0 : 1 - log10LifeH / Math.log10(LONGEST_LIFE_H);
  let sinceMs = 0;
  let pending = false;
  let stuck: { temperature: number; vibration: number; pressure: number; power: number } | null = null;
  let used = parameters.used ?? 0;

  function nextRegime(at: number): void {
    const p = random();
    const idle = shiftAt(at) === 'night' ? 0.45 : 0.12;
    regime = p < idle ? 'idle' : p < idle + 0.3 ? 'partial' : 'full';
    regimeLeftMs = 300_000 + 900_000 * random();
  }

  /** How far the scenario has come: 0 to severity. */
  function ramp(): number {
    if (scenario === 'wear_out') return damageAt(used);
    return scenario === null ? 0 : severity * Math.min(1, sinceMs / (SCENARIO_MS / 2));
  }

  /** Hours until damage is 1 at the pace of this wear and, for `wear_out`, at the mean load. */
  function hoursToFailure(): number {
    if (scenario === 'wear_out') return (1 - used) * lifeH(severity);
    if (scenario === 'bearing_wear') return ((1 - ramp()) / severity) * (SCENARIO_MS / 2 / HOUR_MS);
    return SOUND_H;
  }

  function step(dtMs: number, at: number): void {
    regimeLeftMs -= dtMs;
    if (regimeLeftMs <= 0) nextRegime(at);
    if (scenario === 'wear_out') used = Math.min(1, used + ((dtMs / HOUR_MS) * load) / MEAN_LOAD / lifeH(severity));
    if (scenario !== null && (scenario !== 'wear_out' || used === 1)) sinceMs += dtMs;
    if (sinceMs > SCENARIO_MS) {
      scenario = null;
      stuck = null;
      sinceMs = 0;
    }
    const worn = scenario === 'bearing_wear' || scenario === 'wear_out' ? ramp() : 0;
    const hot = scenario === 'overheating' ? ramp() : 0;
    const leak = scenario === 'pressure_loss' ? ramp() : 0;
    load += (REGIMES[regime] - load) * (1 - Math.exp(-dtMs / LAG_MS.load));
    ambient = 22 + 3 * Math.sin(2 * Math.PI * ((at % (24 * HOUR_MS)) / (24 * HOUR_MS) - 0.375));
    // A failed cooling heats faster than a warm-up does: the lag shortens to a third.
    const lagMs = LAG_MS.temperature / (1 + 2 * hot);
    const settled = ambient + own.rise * load + 12 * worn + 60 * hot;
    temperature = settled + (temperature - settled) * Math.exp(-dtMs / lagMs);
    const held = (own.pressure - 1.5 * load) * (1 - 0.7 * leak);
    pressure = held + (pressure - held) * Math.exp(-dtMs / LAG_MS.pressure);
    vibration = (0.35 + own.shaft * load) * (1 + 5.5 * worn) + 0.8 * worn;
    power = (40 + (own.power - 40) * load) * (1 + 0.12 * worn + 0.05 * leak);
  }

  const save = () => ({
    ...{ random: random.state(), regime, regimeLeftMs, load, ambient, temperature, pressure, vibration, power, last },
    ...{ scenario, severity, sinceMs, pending, stuck, used },
  });

  return {
    id: `MACHINE_${number}`,
    save,
    resume(saved, stoodMs) {
      const s = saved as ReturnType<typeof save>;
      random = seededRandom(s.random);
      ({ regime, regimeLeftMs, load, ambient, temperature, pressure, vibration, power } = s);
      ({ scenario, severity, sinceMs, pending, stuck, used } = s);
      last = s.last === null ? null : s.last + stoodMs;
    },
    next(at) {
      const start = last ?? at;
      const dtMs = Math.max(0, at - start);
      last = Math.max(at, start);
      if (pending) sinceMs = 0;
      pending = false;
      if (dtMs === 0) step(1, at);
      const parts = dtMs === 0 ? 0 : Math.min(SUBSTEPS, Math.ceil(dtMs / SUBSTEP_MS));
      for (let i = 0; i < parts; i++) step(dtMs / parts, start + ((i + 1) * dtMs) / parts);
      const bias = scenario === 'drift' ? 30 * ramp() : 0;
      const surge = random() < 0.5 && scenario === 'power_surge' ? 1 + severity : 1;
      const seen = {
        temperature: Number((temperature + bias + NOISE.temperature * gaussian(random)).toFixed(2)),
        vibration: Number(Math.max(0, vibration + NOISE.vibration * gaussian(random)).toFixed(3)),
        pressure: Number(Math.max(0, pressure + NOISE.pressure * gaussian(random)).toFixed(2)),
        power: Number(Math.max(0, power * surge + NOISE.power * gaussian(random)).toFixed(1)),
      };
      if (scenario === 'sensor_stuck') {
        stuck ??= { ...seen };
        if (severity >= 0.5) Object.assign(seen, stuck);
        else seen.temperature = stuck.temperature;
      }
      const missing = random() < severity;
      if (scenario === 'dropout' && missing) return null;
      return {
        timestamp: new Date(at).toISOString(),
        machine_id: `MACHINE_${number}`,
        sensor_id: `MULTI_${number}`,
        readings: seen,
        metadata: { location, shift: shiftAt(at) },
      };
    },
    inject(name, level) {
      if (!Object.hasOwn(SCENARIOS, name) || !(level > 0 && level <= 1)) {
        throw new TwinmeshError('bad_request', `A machine knows the scenarios ${Object.keys(SCENARIOS).join(', ')}.`);
      }
      scenario = name as Scenario;
      severity = level;
      pending = true;
      stuck = null;
      used = 0;
    },
    truth: () => ({
      load,
      ambient,
      temperature,
      vibration,
      pressure,
      power,
      regime: REGIMES[regime],
      damage: ramp(),
      hoursToFailure: hoursToFailure(),
      temperatureNoise: NOISE.temperature,
      vibrationNoise: NOISE.vibration,
      pressureNoise: NOISE.pressure,
      powerNoise: NOISE.power,
    }),
  };
}
