import { gaussian, seededRandom } from '../protocol/clock.ts';
import { amount, assetOf, paragraph, sentence, standing, trend } from '../protocol/digest.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import { defineTwin, type RawReading, type SimulatedAsset } from '../protocol/kind.ts';
import { hash32 } from '../protocol/twin-id.ts';

/** The battery pack of a vehicle: seven values of its management system, and a pack to simulate. */

/** Payload name → metric. */
const FIELDS = new Map([
  ['SoC', 'soc'],
  ['SoH', 'soh'],
  ['Battery_Voltage', 'voltage'],
  ['Battery_Current', 'current'],
  ['Battery_Temperature', 'temperature'],
  ['Charge_Cycles', 'cycles'],
  ['Power_Consumption', 'power'],
]);
const HEADER = new Set(['battery_id', 'timestamp', 'id', 'seq']);

function decode(message: Record<string, unknown>, topicId: string | undefined): RawReading {
  const values: Record<string, unknown> = {};
  let ignored = 0;
  for (const field of Object.keys(message)) {
    const metric = FIELDS.get(field);
    if (metric !== undefined) values[metric] = message[field];
    else if (!HEADER.has(field)) ignored++;
  }
  return {
    id: message.battery_id ?? topicId,
    at: message.timestamp,
    values,
    key: message.id,
    seq: message.seq,
    ignored,
  };
}

// ---- simulator: an equivalent circuit of 96 cells in series -------------------------------------------------

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

const SCENARIOS = {
  cell_short: 'one cell leaks inside: charge vanishes, the pack warms and its voltage sags',
  overheating: 'the coolant pump has failed and a module produces heat, up to 12 kW',
  capacity_fade: 'capacity falls by up to 30 % and resistance doubles',
  sensor_drift: 'the temperature sensor reads up to 25 °C too high',
  dropout: 'messages are missing; at severity 1 all of them',
};
type Scenario = keyof typeof SCENARIOS;
/** Scenarios ramp up over this time, then the pack is repaired. */
const SCENARIO_MS = 20 * 60_000;

type Mode = 'drive' | 'rest' | 'charge';

/**
 * V = OCV(SoC) + I·R(T, age); dSoC = I·dt / capacity; C·dT/dt = I²R − h·(T − ambient); capacity and R age with the root of
 * time and with cycles; cycles count by charge throughput. The current stands still over a sub-step and is what the
 * message reports, so the equations can be checked from messages as long as they come at most SUBSTEP_MS apart. Longer
 * steps are cut into at most SUBSTEPS parts; heat is integrated exactly and charge is clamped, so any length is stable.
 */
function create({ seed, index }: { seed: number; index: number }): SimulatedAsset {
  const random = seededRandom(hash32(`battery:${index}`, seed));
  const id = `EV-${String(index + 1).padStart(3, '0')}`;
  let soc = 0.35 + 0.6 * random();
  let cycles = 40 + 700 * random();
  let ageMs = (0.3 + 4 * random()) * YEAR_MS;
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

  const capacity = () =>
    CAPACITY_AH * Math.max(0.3, 1 - 0.018 * Math.sqrt(ageMs / YEAR_MS) - 0.2 * (cycles / 1_500) - lostFraction);
  const resistance = () =>
    RESISTANCE_OHM *
    (1 + 0.06 * Math.sqrt(ageMs / YEAR_MS) + 0.6 * (cycles / 1_500) + lostFraction * 3.3) *
    Math.exp(1_800 * (1 / (temperature + 273.15) - 1 / 298.15));

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
    const ramp = fault(dtMs);
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
    const ramp = severity * Math.min(1, sinceMs / (SCENARIO_MS / 2));
    faultHeatW = scenario === 'overheating' ? 12_000 * ramp : 0;
    lostFraction = scenario === 'capacity_fade' ? 0.3 * ramp : 0;
    bias = scenario === 'sensor_drift' ? 25 * ramp : 0;
    return ramp;
  }

  return {
    id,
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

// ---- the kind -----------------------------------------------------------------------------------------------

export default defineTwin({
  kind: 'battery',
  version: 1,
  title: 'Battery pack',
  description: 'The traction battery of an electric vehicle, as its management system reports it.',
  metrics: {
    soc: { unit: '%', min: 0, max: 100, normal: [15, 100], title: 'State of charge', gauge: 'battery_soc_percent' },
    soh: { unit: '%', min: 0, max: 110, normal: [80, 105], title: 'State of health', gauge: 'battery_soh_percent' },
    voltage: { unit: 'V', min: 0, max: 1_500, normal: [300, 402], title: 'Pack voltage' },
    current: { unit: 'A', min: -5_000, max: 5_000, normal: [-400, 150], title: 'Pack current (negative: discharging)' },
    temperature: {
      unit: '°C',
      min: -80,
      max: 1_000,
      normal: [-10, 45],
      title: 'Pack temperature',
      gauge: 'battery_temperature_celsius',
    },
    cycles: { unit: 'cycles', min: 0, max: 100_000, title: 'Charge cycles' },
    power: { unit: 'W', min: -5_000_000, max: 5_000_000, title: 'Power consumption (negative: charging)' },
  },
  formats: [
    {
      name: 'ev-telemetry',
      mqtt: ['ev/battery/telemetry', 'ev/battery/telemetry/{id}'],
      kafka: ['ev-telemetry', 'ev_battery_telemetry'],
      decode,
      example: {
        battery_id: 'EV-001',
        timestamp: '2026-01-01T12:00:00.000Z',
        SoC: 81.2,
        SoH: 97.4,
        Battery_Voltage: 386.1,
        Battery_Current: -42.0,
        Battery_Temperature: 31.5,
        Charge_Cycles: 212,
        Power_Consumption: 16216,
      },
    },
  ],
  windows: {
    '1m': { spanMs: 60_000, panes: 4 },
    '5m': { spanMs: 300_000, panes: 5 },
    '1h': { spanMs: 3_600_000, panes: 6 },
  },
  detectors: {
    cooldownMs: 300_000,
    // Voltage and current follow the driver and charge has a trend: those are watched by rules and rate. On 42 real
    // drives the floor of 1.5 °C flags nothing.
    zscore: {
      window: '5m',
      threshold: 3,
      minCount: 20,
      metrics: ['temperature', 'soh'],
      minStd: { temperature: 1.5, soh: 0.5 },
      holdMs: 900_000,
    },
    rate: { temperature: 3, soc: 1.5, soh: 1 },
    stuck: { voltage: { count: 600, forMs: 3_600_000 } },
  },
  rules: [
    {
      name: 'overheating',
      metric: 'temperature',
      above: 45,
      hysteresis: 3,
      holdMs: 10_000,
      cooldownMs: 120_000,
      severity: 'high',
      message: 'Battery temperature is {value} °C: reduce load and check the cooling.',
    },
    {
      name: 'overheating_critical',
      metric: 'temperature',
      above: 60,
      hysteresis: 5,
      holdMs: 2_000,
      cooldownMs: 60_000,
      severity: 'critical',
      message: 'Battery temperature is {value} °C: stop, thermal runaway is possible.',
    },
    {
      name: 'low_charge',
      metric: 'soc',
      below: 10,
      hysteresis: 3,
      holdMs: 10_000,
      cooldownMs: 300_000,
      severity: 'warning',
      message: 'State of charge is {value} %: charge soon.',
    },
    {
      name: 'over_voltage',
      metric: 'voltage',
      above: 405,
      hysteresis: 3,
      holdMs: 2_000,
      cooldownMs: 60_000,
      severity: 'critical',
      message: 'Pack voltage is {value} V: stop charging.',
    },
    {
      name: 'under_voltage',
      metric: 'voltage',
      below: 288,
      hysteresis: 8,
      holdMs: 5_000,
      cooldownMs: 60_000,
      severity: 'high',
      message: 'Pack voltage is {value} V: the cells are close to deep discharge.',
    },
    {
      name: 'low_health',
      metric: 'soh',
      below: 75,
      hysteresis: 1,
      holdMs: 10_000,
      cooldownMs: 3_600_000,
      severity: 'warning',
      message: 'State of health is {value} %: plan the replacement.',
    },
  ],
  silentAfterMs: 60_000,
  graph: {
    type: 'battery_pack',
    components: [
      { id: 'cells', type: 'cell_stack', criticality: 'high' },
      { id: 'bms', type: 'battery_management_system', criticality: 'high' },
      { id: 'cooling', type: 'cooling_circuit', criticality: 'medium' },
      { id: 'contactor', type: 'contactor', criticality: 'medium' },
    ],
  },
  prometheusLabel: 'battery_id',
  digest(view) {
    const r = view.reported;
    const soc = amount(r.soc, '%');
    const flow = r.current > 0.5 ? 'charging' : r.current < -0.5 ? 'discharging' : 'resting';
    const amps = amount(Math.abs(r.current), 'A');
    const soh = amount(r.soh, '%');
    const cycles = amount(r.cycles, 'charge cycles', 0);
    const power = amount(Math.abs(r.power) / 1_000, 'kW');
    return paragraph([
      sentence(`Battery ${assetOf(view)} is`, [
        soc === null ? null : `at ${soc} of charge`,
        amps === null ? null : `${flow} at ${amps}${power === null ? '' : ` (${power})`}`,
        amount(r.voltage, 'V') === null ? null : `at ${amount(r.voltage, 'V')}`,
        amount(r.temperature, '°C') === null ? null : `at ${amount(r.temperature, '°C')}`,
      ]) ?? `Battery ${assetOf(view)}.`,
      sentence('Its state of health is', [soh === null ? null : `${soh}${cycles === null ? '' : ` after ${cycles}`}`]),
      trend(view, 'temperature', '1h', '°C', 3_600_000),
      standing(view),
    ]);
  },
  simulator: { demoCount: 8, intervalMs: 2_000, scenarios: SCENARIOS, create },
});
