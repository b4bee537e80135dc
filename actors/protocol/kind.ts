import type { Severity } from './entry.ts';
import { TwinmeshError } from './errors.ts';
import { modelFaults, predictionOf } from './model-use.ts';
import { KIND_PATTERN, METRIC_PATTERN } from './twin-id.ts';
import type { TwinView } from './view.ts';

/**
 * A kind of asset: data plus pure functions, one file each in actors/kinds/. Tables, metrics, API schema,
 * console page and simulator follow from it. `defineTwin` checks it and fills in the defaults.
 */
export interface KindDefinition {
  /** Lower case; becomes part of ids, topics and table names. */
  kind: string;
  /** Grows with every change of what the fold computes. */
  version: number;
  title: string;
  description: string;
  /** True for kinds that learn their metrics from the messages (`device`): history is narrow, `metrics` is empty. */
  openMetrics?: boolean;
  metrics: Record<string, MetricDefinition>;
  formats: WireFormat[];
  /** Rolling windows, shortest first, e.g. `{ '1m': { spanMs: 60_000, panes: 6 } }`. */
  windows: Record<string, WindowDefinition>;
  detectors: DetectorDefinition;
  rules: RuleDefinition[];
  /** Models that are asked about each twin, by the name their answer has in `predictions`, e.g. `rul`. */
  models?: Record<string, ModelUse>;
  /** Without a reading for so long the twin is offline. Milliseconds of received time. */
  silentAfterMs: number;
  /** Features computed from others, by name: pure. `f('temperature.5m.mean')` reads a feature; NaN where there is none. */
  features?: Record<string, (f: (name: string) => number) => number>;
  /** Its place in the equipment graph. */
  graph: { type: string; components?: { id: string; type: string; criticality: 'low' | 'medium' | 'high' }[] };
  /** Where the label of the Prometheus gauges comes from, e.g. `battery_id`. Default `twin_id`. */
  prometheusLabel?: string;
  /** The twin in a few sentences, for people and for the assistant. */
  digest(view: TwinView): string;
  /** Extra members of the W3C Thing Model that is made from the metrics. */
  thing?: Record<string, unknown>;
  simulator?: SimulatorDefinition;
}

export interface MetricDefinition {
  unit: string;
  /** Physical range: outside it a value is refused. */
  min: number;
  max: number;
  title?: string;
  /** Where the value lies in ordinary operation, `[lo, hi]`: shown as the expected range; never refuses anything. */
  normal?: readonly [number, number];
  /** Prometheus gauge of the reported value, where the outside expects a name. */
  gauge?: string;
}

export interface WindowDefinition {
  spanMs: number;
  /** Panes the span is cut into; the window slides by one pane. 2 to 60, dividing the span evenly. */
  panes: number;
}

export interface DetectorDefinition {
  /** After an anomaly of a metric, silence for it. Milliseconds of event time. Default 5 minutes. */
  cooldownMs?: number;
  zscore?: {
    window: string;
    threshold: number;
    minCount: number;
    /** Default: all metrics. */
    metrics?: string[];
    /** Metric → floor of the standard deviation, so that a very quiet sensor does not make every change an anomaly. */
    minStd?: Record<string, number>;
    /**
     * From the first flagged reading of a metric its baseline (mean, std) is held for so long at most, and let go once a
     * pane of the window has passed without a flag. Without it a long event becomes its own baseline. Default 0: not held.
     */
    holdMs?: number;
  };
  /** Metric → highest credible change per second. */
  rate?: Record<string, number>;
  /** Metric → identical values in a row, over at least `forMs`, that mean a stuck sensor. */
  stuck?: Record<string, { count: number; forMs: number }>;
}

/** When a model is asked about a twin, with what, and what follows from its answer. */
export interface ModelUse {
  /** Name of the model: a folder in models/. */
  model: string;
  /**
   * Features in order, as the model card lists them:
   *   `temperature`            reported value of the metric
   *   `temperature.5m.mean`    a statistic of a window: count mean std min max last slope ewma z
   *   `temperature.1h.filled`  how many panes of a window hold a reading
   *   `temperature.1h.panes`   means of the panes of a window, oldest first: as many inputs as it has panes; an empty pane has the one before it
   *   `time.hour_sin`, `time.hour_cos`   hour of day (UTC) of the newest reading, on the circle
   *   `<name>`                 one of `features` of the kind
   */
  inputs: readonly string[];
  /** Asked again when so much event time has passed since the state it was last answered about. */
  everyMs: number;
  /** Metrics that must have a value, and readings the twin must have folded, before it is asked. Default: those the inputs name; 1. */
  needs?: readonly string[];
  minReadings?: number;
  /**
   * It is asked only where this feature is above 0; any name that `inputs` may have but `…panes`. For models that have an
   * answer at some moments only. A pure function of the state, read when all else says it is due. Default: always.
   */
  when?: string;
  /** An answer older than this (event time of the twin against its own) is shown as stale, while it may be asked. Default three times everyMs, 30 s at least. */
  staleAfterMs?: number;
  /** The answer is an anomaly where its score is above its threshold: `anomaly.detected`, once a cooldown. Default cooldown: that of the detectors. */
  anomaly?: { cooldownMs?: number };
  /**
   * The answer is remaining useful life: `maintenance.predicted` when the recommended action changes. Limits in hours;
   * `hoursPerUnit` turns the unit of the model into hours (default 1).
   */
  maintenance?: { inspectBelowH: number; scheduleBelowH: number; stopBelowH: number; hoursPerUnit?: number };
}

export interface RuleDefinition {
  name: string;
  /** A metric, or `predictions.<name>`: judged by the value of that prediction (score ÷ threshold where it is an anomaly score). */
  metric: string;
  /** Raise when the value is above (or below) this. Exactly one of the two. */
  above?: number;
  below?: number;
  /** How far back inside the limit the value has to come before the alert clears. Unit of the metric. */
  hysteresis: number;
  /** How long the condition has to hold before the alert is raised. */
  holdMs: number;
  /** After clearing, how long the rule stays quiet. */
  cooldownMs: number;
  severity: Severity;
  /** `{value}` is replaced. */
  message: string;
}

/**
 * One way devices of this kind speak. `decode` gets one parsed JSON object (arrays are split before) and only names
 * the parts; whether they are valid is decided at the door for all formats alike. It must not throw on any object.
 */
export interface WireFormat {
  name: string;
  /** MQTT topic filters; `{id}` stands for one level that carries the asset id. */
  mqtt?: string[];
  kafka?: string[];
  /** HTTP paths that take this format. */
  http?: string[];
  /** Whether a message on a topic shared by several formats is this one's. Default: yes. */
  accepts?(message: Record<string, unknown>): boolean;
  decode(message: Record<string, unknown>, topicId: string | undefined): RawReading;
  /** A message in this format, for docs, OpenAPI and tests. */
  example: Record<string, unknown>;
}

/** A reading as the device said it: nothing has been checked. */
export interface RawReading {
  id: unknown;
  at: unknown;
  values: Record<string, unknown>;
  key?: unknown;
  seq?: unknown;
  sensor?: unknown;
  unit?: unknown;
  attributes?: Record<string, unknown>;
  /** How many fields of the message mean nothing to this kind: ignored, and counted by ingest. */
  ignored?: number;
}

export interface SimulatorDefinition {
  /** How many assets the demo has of this kind, and how often each speaks. */
  demoCount: number;
  intervalMs: number;
  /** Failure scenarios by name, with what they look like. */
  scenarios: Record<string, string>;
  /** `parameters`: what the kind lets one set of an asset instead of drawing it, by name; unknown names throw `bad_request`. For training. */
  create(options: { seed: number; index: number; parameters?: Record<string, number> }): SimulatedAsset;
}

export interface SimulatedAsset {
  id: string;
  /** The message the asset sends at `at` (ms; calls come in order of time), in its kind's first format; null when it stays silent. Same seed, same bytes. */
  next(at: number): Record<string, unknown> | null;
  /** Starts a scenario; severity in (0, 1]. Unknown names throw `bad_request`. */
  inject(scenario: string, severity: number): void;
  /** What the sensors do not show: for tests and training. */
  truth(): Record<string, number>;
  /** All that `resume` needs, as plain JSON whose members are always the same. Both or neither; without them it begins anew at each start. */
  save?(): Record<string, unknown>;
  /** Goes on from what an asset of the same seed and index saved, having stood still for `stoodMs`: times it keeps move by so many. May throw. */
  resume?(saved: Record<string, unknown>, stoodMs: number): void;
}

/** Columns that every history table has: no metric may be called so. */
const RESERVED = new Set(['shard', 'twin', 'at', 'received_at', 'revision', 'key', 'seq', 'sensor', 'attributes']);

/** A checked kind with what the hot path wants precomputed. */
export interface Kind extends KindDefinition {
  readonly metricNames: readonly string[];
  readonly windowNames: readonly string[];
  /** Names of its predictions, in order of `models`. */
  readonly predictionNames: readonly string[];
}

const MEMBERS = {
  kind: 'text',
  version: 'number',
  title: 'text',
  description: 'text',
  metrics: 'object',
  formats: 'array',
  windows: 'object',
  detectors: 'object',
  rules: 'array',
  silentAfterMs: 'number',
  graph: 'object',
  digest: 'function',
} as const;
const METRIC_MEMBERS = { unit: 'text', min: 'number', max: 'number' } as const;
const FORMAT_MEMBERS = { name: 'text', decode: 'function', example: 'object' } as const;
const WINDOW_MEMBERS = { spanMs: 'number', panes: 'number' } as const;
const RULE_MEMBERS = { name: 'text', metric: 'text', message: 'text', severity: 'text' } as const;

/** Members that are missing or of another type, of the definition and of what it lists: kind files need not be typed. */
function shapeFaults(definition: KindDefinition): string[] {
  const faults = memberFaults('', definition, MEMBERS);
  if (faults.length > 0) return faults;
  const { metrics, windows, formats, rules } = definition;
  return [
    ...Object.entries(metrics).flatMap(([name, metric]) => memberFaults(`metrics.${name}.`, metric, METRIC_MEMBERS)),
    ...Object.entries(windows).flatMap(([name, window]) => memberFaults(`windows.${name}.`, window, WINDOW_MEMBERS)),
    ...formats.flatMap((format, i) => memberFaults(`formats[${i}].`, format, FORMAT_MEMBERS)),
    ...rules.flatMap((rule, i) => memberFaults(`rules[${i}].`, rule, RULE_MEMBERS)),
  ];
}

function memberFaults(prefix: string, holder: unknown, wanted: Record<string, string>): string[] {
  if (typeOf(holder) !== 'object') return [`${prefix.slice(0, -1) || 'the definition'} must be an object`];
  return Object.entries(wanted).flatMap(([name, type]) => {
    const value = (holder as Record<string, unknown>)[name];
    if (value === undefined) return [`${prefix}${name} is missing`];
    return typeOf(value) === type
      ? []
      : [
          `${prefix}${name} must be ${type === 'text' ? 'text' : `a${type[0] === 'o' || type[0] === 'a' ? 'n' : ''} ${type}`}`,
        ];
  });
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value === 'string' ? 'text' : typeof value;
}

/** Checks a kind and freezes it. Throws `bad_kind` naming every fault at once. */
export function defineTwin(definition: KindDefinition): Kind {
  const faults = shapeFaults(definition);
  if (faults.length > 0) throw new TwinmeshError('bad_kind', `Kind "${definition?.kind}": ${faults.join('; ')}.`);
  const d = definition;
  const metricNames = Object.keys(d.metrics);
  const windowNames = Object.keys(d.windows);
  if (!KIND_PATTERN.test(d.kind)) faults.push(`kind "${d.kind}" must match ${KIND_PATTERN}`);
  if (!Number.isInteger(d.version) || d.version < 1) faults.push('version must be a positive integer');
  if (!d.openMetrics && metricNames.length === 0) faults.push('at least one metric is needed (or openMetrics)');
  if (d.openMetrics && metricNames.length > 0) faults.push('a kind with openMetrics declares no metrics');
  for (const name of metricNames) {
    if (!/^[a-z][a-z0-9_]{0,50}$/.test(name)) faults.push(`metric "${name}" must be lower case letters, digits and _`);
    if (RESERVED.has(name)) faults.push(`metric "${name}": the name is taken by a column of every history table`);
    const { min, max, normal } = d.metrics[name];
    if (normal && !(min <= normal[0] && normal[0] < normal[1] && normal[1] <= max))
      faults.push(`metric "${name}": normal must lie inside min and max`);
    if (!(min < max)) faults.push(`metric "${name}": min must be below max`);
  }
  let previous = 0;
  for (const name of windowNames) {
    const { spanMs, panes } = d.windows[name];
    if (!Number.isInteger(panes) || panes < 2 || panes > 60) faults.push(`window "${name}": panes must be 2 to 60`);
    if (!(spanMs > previous)) faults.push(`window "${name}": windows go from short to long`);
    if (spanMs % panes !== 0) faults.push(`window "${name}": panes must divide the span`);
    previous = spanMs;
  }
  const known = (metric: string) => d.openMetrics === true || metric in d.metrics;
  faults.push(...modelFaults(d));
  const names = new Set<string>();
  for (const rule of d.rules) {
    if (!METRIC_PATTERN.test(rule.name) || names.has(rule.name))
      faults.push(`rule "${rule.name}": name missing or twice`);
    names.add(rule.name);
    const prediction = predictionOf(rule.metric);
    if (prediction === null ? !known(rule.metric) : !Object.hasOwn(d.models ?? {}, prediction))
      faults.push(`rule "${rule.name}": unknown metric "${rule.metric}"`);
    if ((rule.above === undefined) === (rule.below === undefined))
      faults.push(`rule "${rule.name}": above or below, one of them`);
    if (!(rule.hysteresis >= 0 && rule.holdMs >= 0 && rule.cooldownMs >= 0))
      faults.push(`rule "${rule.name}": negative times or hysteresis`);
  }
  const z = d.detectors.zscore;
  if (z && !(z.window in d.windows)) faults.push(`detector zscore: unknown window "${z.window}"`);
  if (z && !(z.threshold > 0 && z.minCount >= 3))
    faults.push('detector zscore: threshold above 0 and minCount of 3 or more');
  if (z && !((z.holdMs ?? 0) >= 0)) faults.push('detector zscore: holdMs must not be negative');
  for (const metric of [
    ...(z?.metrics ?? []),
    ...Object.keys(z?.minStd ?? {}),
    ...Object.keys(d.detectors.rate ?? {}),
    ...Object.keys(d.detectors.stuck ?? {}),
  ]) {
    if (!known(metric)) faults.push(`detectors: unknown metric "${metric}"`);
  }
  if (!(d.silentAfterMs > 0)) faults.push('silentAfterMs must be above 0');
  if (d.formats.length === 0) faults.push('at least one wire format is needed');
  if (faults.length > 0) throw new TwinmeshError('bad_kind', `Kind "${d.kind}": ${faults.join('; ')}.`);
  return Object.freeze({
    ...d,
    metricNames: Object.freeze(metricNames),
    windowNames: Object.freeze(windowNames),
    predictionNames: Object.freeze(Object.keys(d.models ?? {})),
  });
}
