import { amount, assetOf, paragraph, sentence, standing, trend } from '../protocol/digest.ts';
import { defineTwin, type MetricDefinition, type RawReading } from '../protocol/kind.ts';

/**
 * A turbofan engine as the C-MAPSS data of NASA has it (Saxena, Goebel, Simon, Eklund, PHM 2008): three settings and 21
 * sensors, one reading a cycle. It is the yardstick for remaining useful life, so it has no simulator of its own: the data
 * are simulated already, and are replayed.
 *
 * A cycle (a flight) has no duration in the data. It stands as one hour of event time: cycle n is reported n − 1 hours
 * after the first. A window of 30 hours is the last 30 cycles or so; hours of predicted life are cycles.
 */
const CYCLE_MS = 3_600_000;

/** Name → unit, highest credible value, title; in the order of the columns. Lowest is 0 unless told. */
const SENSORS: Record<string, [unit: string, max: number, title: string, min?: number]> = {
  altitude: ['kft', 100, 'Altitude', -2],
  mach: ['Mach', 30, 'Flight speed', -1],
  throttle: ['%', 150, 'Throttle resolver angle'],
  t2: ['°R', 5_000, 'Temperature at the fan inlet'],
  t24: ['°R', 5_000, 'Temperature at the outlet of the low-pressure compressor'],
  t30: ['°R', 5_000, 'Temperature at the outlet of the high-pressure compressor'],
  t50: ['°R', 5_000, 'Temperature at the outlet of the low-pressure turbine'],
  p2: ['psia', 5_000, 'Pressure at the fan inlet'],
  p15: ['psia', 5_000, 'Pressure in the bypass duct'],
  p30: ['psia', 5_000, 'Pressure at the outlet of the high-pressure compressor'],
  nf: ['rpm', 50_000, 'Speed of the fan'],
  nc: ['rpm', 50_000, 'Speed of the core'],
  epr: ['', 100, 'Engine pressure ratio'],
  ps30: ['psia', 5_000, 'Static pressure at the outlet of the high-pressure compressor'],
  phi: ['pps/psi', 5_000, 'Fuel flow over ps30'],
  nrf: ['rpm', 50_000, 'Corrected speed of the fan'],
  nrc: ['rpm', 50_000, 'Corrected speed of the core'],
  bpr: ['', 1_000, 'Bypass ratio'],
  farb: ['', 100, 'Fuel-air ratio of the burner'],
  ht_bleed: ['', 5_000, 'Enthalpy of the bleed'],
  nf_demand: ['rpm', 50_000, 'Demanded speed of the fan'],
  nrf_demand: ['rpm', 50_000, 'Demanded corrected speed of the fan'],
  w31: ['lbm/s', 5_000, 'Coolant flow of the high-pressure turbine'],
  w32: ['lbm/s', 5_000, 'Coolant flow of the low-pressure turbine'],
};

/** Sensors that change over an engine's life at sea level; the others stand still there. */
const TELLING = [
  't24',
  't30',
  't50',
  'p30',
  'nf',
  'nc',
  'ps30',
  'phi',
  'nrf',
  'nrc',
  'bpr',
  'ht_bleed',
  'w31',
  'w32',
] as const;

/** What the model is told of each; the longest window tells how the engine began. */
const STATISTICS = ['5h.mean', '10h.mean', '30h.mean', '30h.slope', '30h.std', '120h.mean', '120h.slope'];

const HEADER = new Set(['timestamp', 'engine_id', 'cycle', 'readings', 'metadata', 'id']);

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function decode(message: Record<string, unknown>, topicId: string | undefined): RawReading {
  return {
    id: message.engine_id ?? topicId,
    at: message.timestamp,
    values: isObject(message.readings) ? message.readings : {},
    key: message.id,
    seq: message.cycle,
    attributes: isObject(message.metadata) ? message.metadata : undefined,
    ignored: Object.keys(message).filter((field) => !HEADER.has(field)).length,
  };
}

export default defineTwin({
  kind: 'turbofan',
  version: 1,
  title: 'Turbofan engine',
  description: 'A turbofan engine with three settings and 21 sensors, one reading a flight (NASA C-MAPSS).',
  metrics: Object.fromEntries(
    Object.entries(SENSORS).map(([name, [unit, max, title, min = 0]]): [string, MetricDefinition] => [
      name,
      { unit, min, max, title },
    ]),
  ),
  formats: [
    {
      name: 'engine-cycle',
      mqtt: ['factory/turbofans/{id}/cycles'],
      kafka: ['turbofan-cycles'],
      decode,
      example: {
        timestamp: '2026-01-01T12:00:00.000Z',
        engine_id: 'ENGINE_001',
        cycle: 1,
        readings: {
          altitude: 0.0023,
          mach: 0.0003,
          throttle: 100,
          t2: 518.67,
          t24: 643.02,
          t30: 1585.29,
          t50: 1398.21,
          p2: 14.62,
          p15: 21.61,
          p30: 553.9,
          nf: 2388.04,
          nc: 9050.17,
          epr: 1.3,
          ps30: 47.2,
          phi: 521.72,
          nrf: 2388.03,
          nrc: 8125.55,
          bpr: 8.4052,
          farb: 0.03,
          ht_bleed: 392,
          nf_demand: 2388,
          nrf_demand: 100,
          w31: 38.86,
          w32: 23.3735,
        },
        metadata: { fleet: 'FD001' },
      },
    },
  ],
  windows: {
    '5h': { spanMs: 5 * CYCLE_MS, panes: 5 },
    '10h': { spanMs: 10 * CYCLE_MS, panes: 5 },
    '30h': { spanMs: 30 * CYCLE_MS, panes: 10 },
    '120h': { spanMs: 120 * CYCLE_MS, panes: 12 },
  },
  detectors: {
    cooldownMs: 24 * CYCLE_MS,
    // Wear is slow and no anomaly; five standard deviations of 30 flights are something else.
    zscore: {
      window: '30h',
      threshold: 5,
      minCount: 20,
      metrics: [...TELLING],
      minStd: { bpr: 0.03 },
    },
  },
  models: {
    rul: {
      model: 'turbofan-rul',
      inputs: [...TELLING.flatMap((name) => STATISTICS.map((statistic) => `${name}.${statistic}`)), 't24.120h.count'],
      needs: [...TELLING],
      minReadings: 5,
      everyMs: 1_000,
      // until the next flight, and one that was left out
      staleAfterMs: 2 * CYCLE_MS,
      maintenance: { inspectBelowH: 60, scheduleBelowH: 30, stopBelowH: 10, hoursPerUnit: 1 },
    },
  },
  rules: [
    {
      name: 'life_short',
      metric: 'predictions.rul',
      below: 20,
      hysteresis: 10,
      holdMs: 0,
      cooldownMs: 10 * CYCLE_MS,
      severity: 'high',
      message: 'The engine has {value} flights left: take it out of the schedule.',
    },
  ],
  silentAfterMs: 48 * CYCLE_MS,
  graph: {
    type: 'turbofan',
    components: [
      { id: 'fan', type: 'fan', criticality: 'high' },
      { id: 'hpc', type: 'high_pressure_compressor', criticality: 'high' },
      { id: 'hpt', type: 'high_pressure_turbine', criticality: 'high' },
      { id: 'lpt', type: 'low_pressure_turbine', criticality: 'high' },
    ],
  },
  digest(view) {
    const r = view.reported;
    const parts: [string, string | null][] = [
      ['an exhaust temperature of', amount(r.t50, '°R')],
      ['a compressor pressure of', amount(r.ps30, 'psia', 2)],
      ['a core speed of', amount(r.nc, 'rpm')],
    ];
    const name = `Engine ${assetOf(view)}`;
    return paragraph([
      sentence(
        `${name} has`,
        parts.map(([label, text]) => (text === null ? null : `${label} ${text}`)),
      ) ?? `${name}.`,
      trend(view, 't50', '30h', '°R', 10 * CYCLE_MS),
      standing(view),
    ]);
  },
});
