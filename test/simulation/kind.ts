import { defineTwin, type Kind, type KindDefinition } from '../../actors/protocol/kind.ts';

/** The kinds of the simulation: short windows and holds, so that everything happens often. */

/** Values of `mark` at which folding throws, and at which the process dies. */
export const POISON = 950;
export const KILLER = 990;
/** Value of `load` in rows that the store refuses to take. */
export const UNSTORABLE = 777;

/** Set by the cluster: ends the process that is folding. */
export const killing = { now: (): void => {} };

/** A kind is data and its fold is the runtime's, so the only place from where a turn can be made to throw is a text. */
const hostile = {
  replaceAll(_: string, value: string): string {
    if (Number(value) >= KILLER) killing.now();
    throw new Error(`a turn over mark ${value} throws`);
  },
} as unknown as string;

const probe: KindDefinition = {
  kind: 'probe',
  version: 1,
  title: 'Probe',
  description: 'A simulated asset with two sensors.',
  metrics: {
    temperature: { unit: '°C', min: -50, max: 200 },
    load: { unit: 'N', min: 0, max: 1000 },
    mark: { unit: '', min: 0, max: 1000 },
  },
  formats: [
    {
      name: 'probe',
      decode: (message) => ({ id: message.id, at: message.at, values: {} }),
      example: { id: 'a', at: 0, temperature: 1 },
    },
  ],
  windows: { '10s': { spanMs: 10_000, panes: 5 }, '60s': { spanMs: 60_000, panes: 6 } },
  detectors: {
    cooldownMs: 5_000,
    zscore: {
      window: '10s',
      threshold: 3,
      minCount: 4,
      metrics: ['temperature'],
      // no rounded value lies exactly three of these from a mean: there the last bit would decide, and the oracle sums otherwise
      minStd: { temperature: 0.50003 },
      holdMs: 8_000,
    },
  },
  rules: [
    {
      name: 'hot',
      metric: 'temperature',
      above: 80,
      hysteresis: 5,
      holdMs: 2_000,
      cooldownMs: 3_000,
      severity: 'critical',
      message: '{value} °C is hot',
    },
    {
      name: 'idle',
      metric: 'load',
      below: 50,
      hysteresis: 10,
      holdMs: 0,
      cooldownMs: 1_000,
      severity: 'warning',
      message: 'idle at {value}',
    },
    {
      name: 'hostile',
      metric: 'mark',
      above: 900,
      hysteresis: 0,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'info',
      message: 'mark {value}',
    },
  ],
  silentAfterMs: 6_000,
  graph: { type: 'Probe' },
  digest: () => '',
};

const pod: KindDefinition = {
  ...probe,
  kind: 'pod',
  title: 'Pod',
  openMetrics: true,
  metrics: {},
  windows: { '10s': { spanMs: 10_000, panes: 5 } },
  detectors: {},
  rules: [],
  silentAfterMs: 9_000,
};

/** What the next version of the program folds: another limit. */
const nextProbe: KindDefinition = {
  ...probe,
  version: 2,
  rules: [{ ...probe.rules[0], above: 70 }, ...probe.rules.slice(1)],
};

/** As `probe`, and models are asked about it: only in the seeds in which there are models. */
const gauge: KindDefinition = {
  ...probe,
  kind: 'gauge',
  title: 'Gauge',
  rules: [
    ...probe.rules,
    {
      name: 'worn',
      metric: 'predictions.wear',
      below: 20,
      hysteresis: 5,
      holdMs: 1_500,
      cooldownMs: 1_000,
      severity: 'high',
      message: '{value} h left',
    },
    {
      name: 'odd',
      metric: 'predictions.oddity',
      above: 1.5,
      hysteresis: 0.5,
      holdMs: 0,
      cooldownMs: 1_000,
      severity: 'critical',
      message: '{value} times the threshold',
    },
  ],
  features: { above_mean: (f) => f('temperature') - f('temperature.10s.mean') },
  models: {
    wear: {
      model: 'gauge-wear',
      inputs: ['temperature', 'temperature.10s.panes', 'above_mean', 'time.hour_sin'],
      everyMs: 1_500,
      maintenance: { inspectBelowH: 60, scheduleBelowH: 30, stopBelowH: 6 },
    },
    oddity: {
      model: 'gauge-oddity',
      inputs: ['temperature', 'load', 'load.60s.z'],
      everyMs: 1_000,
      minReadings: 3,
      anomaly: { cooldownMs: 4_000 },
    },
  },
};

/** What the next version folds: another limit, one prediction more, and all of them in other places. */
const nextGauge: KindDefinition = {
  ...gauge,
  version: nextProbe.version,
  rules: [{ ...gauge.rules[0], above: 70 }, ...gauge.rules.slice(1)],
  models: {
    strain: { model: 'gauge-wear', inputs: ['load'], everyMs: 3_000 },
    oddity: gauge.models!.oddity,
    wear: gauge.models!.wear,
  },
};

/** Turns over high marks throw: the text of the rule is replaced behind the back of those who check kinds. */
function withHostileText(kind: Kind): Kind {
  const rules = kind.rules.map((rule) => (rule.name === 'hostile' ? { ...rule, message: hostile } : rule));
  return Object.freeze({ ...kind, rules });
}

export const KINDS: readonly Kind[] = [
  withHostileText(defineTwin(probe)),
  defineTwin(pod),
  withHostileText(defineTwin(gauge)),
];
export const NEXT_KINDS: readonly Kind[] = [
  withHostileText(defineTwin(nextProbe)),
  defineTwin(pod),
  withHostileText(defineTwin(nextGauge)),
];
