import { gaussian, seededRandom } from '../../protocol/clock.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { SimulatedAsset, SimulatorDefinition } from '../../protocol/kind.ts';
import { hash32 } from '../../protocol/twin-id.ts';

/** A battery pack to simulate: an equivalent circuit of 96 cells in series that ages. */

const CELLS = 96;
/** Capacity of the new pack, ampere-hours. */
const CAPACITY_AH = 94;
/** Resistance of the new pack at 25 °C, ohms. */
const RESISTANCE_OHM = 0.095;
/** Heat capacity of the pack, joules per kelvin. */
const HEAT_CAPACITY = 250_000;
/** Heat given to ambient, watts per kelvin, with the coolant pump off and on. */
const COOLING = { passive: 12, active: 90 };
/** Constant current and constant voltage of charging, which ends below C/20; and the voltage nothing may exceed. */
const CHARGE = { currentA: 32, voltageV: 4.14 * CELLS, limitV: 4.18 * CELLS, endA: CAPACITY_AH / 20 };
/** Noise of the voltage sensor (V) and of the temperature sensor (°C), one sigma, cut at three. */
const NOISE = { voltage: 0.01, temperature: 0.05 };
const SUBSTEPS = 64;
const SUBSTEP_MS = 10_000;
const HOUR_MS = 3_600_000;
const YEAR_MS = 365.25 * 24 * HOUR_MS;

/** Open-circuit voltage of one NMC cell at these states of charge, volts. */
const SOC = [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
const OCV = [3.0, 3.35, 3.45, 3.55, 3.61, 3.65, 3.7, 3.8, 3.9, 4.0, 4.08, 4.18];

function openCircuit(soc: number): number {
  let i = 1;
  while (i < SOC.length - 1 && SOC[i] < soc) i++;
  return CELLS * (OCV[i - 1] + ((OCV[i] - OCV[i - 1]) * (soc - SOC[i - 1])) / (SOC[i] - SOC[i - 1]));
}

export const SCENARIOS = {
  cell_short: 'one cell leaks inside: charge vanishes, the pack warms and its voltage sags',
  overheating: 'the coolant pump has failed and a module produces heat, up to 12 kW',
  capacity_fade: 'capacity falls by up to 30 % and resistance doubles',
  sensor_drift: 'the temperature sensor reads up to 25 °C too high',
  dropout: 'messages are missing; at severity 1 all of them',
};
type Scenario = keyof typeof SCENARIOS;
/** Scenarios ramp up over this time, then the pack is repaired. */
const SCENARIO_MS = 20 * 60_000;

/**
 * How a pack ages: capacity lost = 0.018·√years + fade·(cycles/knee)^exponent + 0.02·e^((cycles − knee)/(sharpness·knee)).
 * The root and the power are the growth of the surface film, slow and slowing; the last term is the knee that ageing cells
 * run into when lithium plating takes over (Attia et al., J. Electrochem. Soc. 169, 2022). Resistance bends a little before
 * capacity does. Drawn for each pack from these ranges unless set by a parameter of the same name.
 */
const AGEING = {
  /** Charge cycles at which the knee has taken 2 %. */
  knee: [600, 1_000],
  /** Share of capacity that film growth has taken at the knee: plating sets in when the film has grown so far. */
  fade: [0.073, 0.077],
  exponent: [0.65, 0.8],
  /** Width of the knee as a share of its cycles. */
  sharpness: [0.095, 0.105],
  /** Growth of resistance up to the knee, share of the new pack's. */
  growth: [0.3, 0.4],
} as const;
type Ageing = { -readonly [name in keyof typeof AGEING]: number };
/** Where the pack starts: cycles, and how many of them a year it has seen. */
const PARAMETERS = new Set([...Object.keys(AGEING), 'cycles', 'usage']);
/** State of health at which a pack is called worn out, and the cycles a year at which the simulated pack goes on. */
export const END_OF_LIFE = 0.8;
const USAGE = 1_290;

function lostBy(cycles: number, years: number, a: Ageing): number {
  const knee = 0.02 * Math.exp(Math.min(4, (cycles - a.knee) / (a.sharpness * a.knee)));
  return 0.018 * Math.sqrt(years) + a.fade * (cycles / a.knee) ** a.exponent + knee;
}

/** Cycles from now until the pack is worn out, at its usual use. */
function cyclesLeft(cycles: number, years: number, a: Ageing): number {
  let lo = 0;
  let hi = 20 * a.knee;
  for (let i = 0; i < 40; i++) {
    const middle = (lo + hi) / 2;
    if (lostBy(cycles + middle, years + middle / USAGE, a) < 1 - END_OF_LIFE) lo = middle;
    else hi = middle;
  }
  return lo;
}

type Mode = 'drive' | 'rest' | 'charge';

/**
 * V = OCV(SoC) + I·R(T, age); dSoC = I·dt / capacity; C·dT/dt = I²R − h·(T − ambient); capacity and R age (above);
 * cycles count by charge throughput. The current stands still over a sub-step and is what the
 * message reports, so the equations can be checked from messages as long as they come at most SUBSTEP_MS apart. Longer
 * steps are cut into at most SUBSTEPS parts; heat is integrated exactly and charge is clamped, so any length is stable.
 */
export function create({ seed, index, parameters = {} }: Parameters<SimulatorDefinition['create']>[0]): SimulatedAsset {
  const unknown = Object.keys(parameters).filter((name) => !PARAMETERS.has(name));
  if (unknown.length > 0)
    throw new TwinmeshError(
      'bad_request',
      `A battery has no parameter ${unknown[0]}; it has ${[...PARAMETERS].join(', ')}.`,
    );
  let random = seededRandom(hash32(`battery:${index}`, seed));
  const ageing = Object.fromEntries(
    Object.entries(AGEING).map(([name, [lo, hi]]) => {
      const drawn = lo + (hi - lo) * random();
      return [name, parameters[name] ?? drawn];
    }),
  ) as Ageing;
  const id = `EV-${String(index + 1).padStart(3, '0')}`;
  let soc = 0.35 + 0.6 * random();
  const startCycles = ageing.knee * (0.05 + 0.95 * random());
  let cycles = parameters.cycles ?? startCycles;
  const usage = 250 + 450 * random();
  let ageMs = (cycles / (parameters.usage ?? usage)) * YEAR_MS;
  const climate = 8 + 16 * random();
  let ambient = climate;
  let temperature = climate + 4 + 6 * random();
  let mode: Mode = (['drive', 'rest', 'charge'] as const)[index % 3];
  let modeLeftMs = 600_000 + 1_200_000 * random();
  let cruiseW = 8_000 + 10_000 * random();
  let driveW = cruiseW;
  let current = 0;
  let voltage = openCircuit(soc);
  let faultHeatW = 0;
  let heatW = 0;
  let cooling = COOLING.passive;
  let last: number | null = null;
  let scenario: Scenario | null = null;
  let severity = 0;
  let sinceMs = 0;
  let pending = false;
  let lostFraction = 0;
  let bias = 0;
  let ramp = 0;

  const capacity = () => CAPACITY_AH * Math.max(0.3, 1 - lostBy(cycles, ageMs / YEAR_MS, ageing) - lostFraction);
  const resistance = () => {
    const { knee, sharpness, growth } = ageing;
    const bend = 0.15 * Math.exp(Math.min(2, (cycles - 0.9 * knee) / (sharpness * knee)));
    const aged = 0.06 * Math.sqrt(ageMs / YEAR_MS) + growth * (cycles / knee) ** 1.5 + bend;
    const grown = 1 + Math.min(3, aged) + lostFraction * 3.3;
    return RESISTANCE_OHM * grown * Math.exp(1_800 * (1 / (temperature + 273.15) - 1 / 298.15));
  };

  function nextMode(): void {
    if (mode === 'drive') mode = soc < 0.4 ? 'charge' : 'rest';
    else if (mode === 'rest') mode = soc < 0.5 ? 'charge' : 'drive';
    else mode = 'rest';
    modeLeftMs = (mode === 'drive' ? 1_200_000 : mode === 'rest' ? 600_000 : 4 * HOUR_MS) * (0.6 + 0.8 * random());
    cruiseW = 8_000 + 10_000 * random();
  }

  /** What the pack is asked for over the next sub-step, amperes, whole milliamperes; negative discharges. */
  function demand(dtMs: number): number {
    const noise = gaussian(random);
    const ocv = openCircuit(soc);
    const charge = capacity() * HOUR_MS;
    let wanted = -0.4;
    if (mode === 'drive') {
      const keep = Math.exp(-dtMs / 8_000);
      driveW = cruiseW + (driveW - cruiseW) * keep + Math.sqrt(1 - keep * keep) * 13_000 * noise;
      wanted = -Math.max(-35_000, Math.min(85_000, driveW)) / ocv;
    } else if (mode === 'charge') {
      wanted = Math.max(0, Math.min(CHARGE.currentA, (CHARGE.voltageV - ocv) / resistance()));
    }
    const lowest = Math.min(0, (-(soc - 0.02) * charge) / dtMs);
    // The management system takes no current that would lift the pack above its limit, recuperation included.
    const room = Math.min((CHARGE.limitV - ocv) / resistance(), ((0.985 - soc) * charge) / dtMs);
    const highest = Math.max(0, room);
    return Math.round(Math.max(lowest, Math.min(highest, wanted)) * 1_000) / 1_000;
  }

  function step(dtMs: number, at: number): void {
    modeLeftMs -= dtMs;
    const full = mode === 'charge' && (soc > 0.96 || (current > 0 && current < CHARGE.endA));
    if (modeLeftMs <= 0 || full || (mode === 'drive' && soc < 0.15)) nextMode();
    ambient = climate + 5 * Math.sin(2 * Math.PI * ((at % (24 * HOUR_MS)) / (24 * HOUR_MS) - 0.375));
    ramp = fault(dtMs);
    current = demand(dtMs);
    const leakA = scenario === 'cell_short' ? 25 * ramp : 0;
    if (leakA > 0) faultHeatW = leakA * openCircuit(soc);
    heatW = current * current * resistance() + faultHeatW;
    cooling = temperature > 36 && scenario !== 'overheating' ? COOLING.active : COOLING.passive;
    const settled = ambient + heatW / cooling;
    temperature = settled + (temperature - settled) * Math.exp((-cooling * dtMs) / 1_000 / HEAT_CAPACITY);
    soc = Math.max(0.01, soc + ((current - leakA) * dtMs) / (capacity() * HOUR_MS));
    cycles += (Math.max(0, current) * dtMs) / (CAPACITY_AH * HOUR_MS);
    ageMs += dtMs;
    voltage = openCircuit(soc) + current * resistance() - (scenario === 'cell_short' ? 3.5 * ramp : 0);
  }

  /** Lets the scenario do its work; answers how far it has come, 0 to severity. */
  function fault(dtMs: number): number {
    if (scenario === null) return 0;
    sinceMs += dtMs;
    if (sinceMs > SCENARIO_MS) {
      scenario = null;
      faultHeatW = lostFraction = bias = 0;
      return 0;
    }
    const reached = severity * Math.min(1, sinceMs / (SCENARIO_MS / 2));
    faultHeatW = scenario === 'overheating' ? 12_000 * reached : 0;
    lostFraction = scenario === 'capacity_fade' ? 0.3 * reached : 0;
    bias = scenario === 'sensor_drift' ? 25 * reached : 0;
    return reached;
  }

  const save = () => ({
    ...{ random: random.state(), soc, cycles, ageMs, ambient, temperature, mode, modeLeftMs, cruiseW, driveW, current },
    ...{ voltage, faultHeatW, heatW, cooling, last, scenario, severity, sinceMs, pending, lostFraction, bias, ramp },
  });

  return {
    id,
    save,
    resume(saved, stoodMs) {
      const s = saved as ReturnType<typeof save>;
      random = seededRandom(s.random);
      ({ soc, cycles, ageMs, ambient, temperature, mode, modeLeftMs, cruiseW, driveW, current } = s);
      ({ voltage, faultHeatW, heatW, cooling, scenario, severity, sinceMs, pending, lostFraction, bias, ramp } = s);
      last = s.last === null ? null : s.last + stoodMs;
    },
    next(at) {
      const dtMs = last === null ? 0 : Math.max(0, at - last);
      const start = last ?? at;
      last = Math.max(at, start);
      if (pending) sinceMs = 0;
      pending = false;
      const parts = dtMs === 0 ? 0 : Math.min(SUBSTEPS, Math.ceil(dtMs / SUBSTEP_MS));
      for (let i = 0; i < parts; i++) step(dtMs / parts, start + ((i + 1) * dtMs) / parts);
      const shownV = Number((voltage + NOISE.voltage * gaussian(random)).toFixed(3));
      const shownT = temperature + bias + NOISE.temperature * gaussian(random);
      const missing = random() < severity;
      if (scenario === 'dropout' && missing) return null;
      return {
        battery_id: id,
        timestamp: new Date(at).toISOString(),
        SoC: Number((soc * 100).toFixed(4)),
        SoH: Number(((capacity() / CAPACITY_AH) * 100).toFixed(3)),
        Battery_Voltage: shownV,
        Battery_Current: current + 0,
        Battery_Temperature: Number(shownT.toFixed(2)),
        Charge_Cycles: Math.floor(cycles),
        Power_Consumption: Math.round(-shownV * current) + 0,
      };
    },
    inject(name, level) {
      if (!Object.hasOwn(SCENARIOS, name) || !(level > 0 && level <= 1)) {
        throw new TwinmeshError('bad_request', `A battery knows the scenarios ${Object.keys(SCENARIOS).join(', ')}.`);
      }
      scenario = name as Scenario;
      severity = level;
      pending = true;
      faultHeatW = lostFraction = bias = 0;
    },
    truth: () => ({
      soc: soc * 100,
      ocv: openCircuit(soc),
      r: resistance(),
      capacity: capacity(),
      soh: (capacity() / CAPACITY_AH) * 100,
      current,
      voltage,
      temperature,
      ambient,
      cycles,
      rul: cyclesLeft(cycles, ageMs / YEAR_MS, ageing),
      fault: ramp,
      cooling,
      heatCapacity: HEAT_CAPACITY,
      heatW,
      faultHeatW,
      nominalCapacity: CAPACITY_AH,
      voltageNoise: NOISE.voltage,
      temperatureNoise: NOISE.temperature,
    }),
  };
}
