import { metricsBehind, parseFeature } from './feature.ts';
import type { KindDefinition, ModelUse } from './kind.ts';

/** Checks the models that a kind names: what they are asked with, when, and what follows from their answers. */
const PREDICTION_PATTERN = /^[a-z][a-z0-9_]{0,30}$/;
const MODEL_PATTERN = /^[a-z][a-z0-9-]{0,62}$/;
/** Features of a kind: what parses as something else would never be found. */
const FEATURE_PATTERN = /^[a-z][a-z0-9_]{0,62}$/;
/** Uses a kind may name: the host keeps a bit for each. */
export const MAX_MODELS = 16;
/** Numbers that one question holds. */
export const MAX_WIDTH = 1_024;

/** The metric of a rule that is judged by a prediction, e.g. `predictions.rul`. */
const PREDICTIONS = 'predictions.';

/** Name of the prediction that a rule is judged by; null where it is judged by a metric. */
export function predictionOf(metric: string): string | null {
  return metric.startsWith(PREDICTIONS) ? metric.slice(PREDICTIONS.length) : null;
}

/** What is wrong with `models` and `features`, in words. Members may be of any type. */
export function modelFaults(d: KindDefinition): string[] {
  const faults: string[] = [];
  if (d.features !== undefined) {
    if (!isObject(d.features)) return ['features must be an object'];
    for (const [name, compute] of Object.entries(d.features)) {
      if (typeof compute !== 'function') faults.push(`features.${name} must be a function`);
      if (!FEATURE_PATTERN.test(name)) faults.push(`feature "${name}" must be lower case letters, digits and _`);
      if (Object.hasOwn(d.metrics, name)) faults.push(`feature "${name}": a metric has this name`);
    }
  }
  if (d.models === undefined) return faults;
  if (!isObject(d.models)) return [...faults, 'models must be an object'];
  const uses = Object.entries(d.models);
  if (uses.length > MAX_MODELS) faults.push(`models: at most ${MAX_MODELS}`);
  for (const [name, use] of uses) faults.push(...useFaults(d, name, use).map((fault) => `models.${name}: ${fault}`));
  return faults;
}

function useFaults(d: KindDefinition, name: string, use: ModelUse): string[] {
  if (!isObject(use)) return ['must be an object'];
  const faults: string[] = [];
  if (!PREDICTION_PATTERN.test(name)) faults.push('the name must be lower case letters, digits and _');
  if (typeof use.model !== 'string' || !MODEL_PATTERN.test(use.model))
    faults.push('model must be lower case letters, digits and -');
  if (!isTexts(use.inputs) || use.inputs.length === 0) return [...faults, 'inputs must be a list of feature names'];
  let width = 0;
  for (const input of use.inputs) {
    const feature = parseFeature(d, input);
    if (feature === null) faults.push(`unknown feature "${input}"`);
    width += feature?.type === 'panes' ? feature.panes : 1;
  }
  if (width > MAX_WIDTH) faults.push(`${width} inputs are more than ${MAX_WIDTH}`);
  if (!isAbove(use.everyMs, 0)) faults.push('everyMs must be above 0');
  if (use.needs !== undefined) {
    if (!isTexts(use.needs)) faults.push('needs must be a list of metrics');
    else
      for (const metric of use.needs)
        if (!d.openMetrics && !Object.hasOwn(d.metrics, metric)) faults.push(`needs the unknown metric "${metric}"`);
  }
  if (use.minReadings !== undefined && !(Number.isInteger(use.minReadings) && use.minReadings >= 1))
    faults.push('minReadings must be 1 or more');
  if (use.when !== undefined) {
    const feature = typeof use.when === 'string' ? parseFeature(d, use.when) : null;
    if (feature === null || feature.type === 'panes') faults.push(`when: "${use.when}" is no feature of one number`);
  }
  if (use.staleAfterMs !== undefined && !isAbove(use.staleAfterMs, 0)) faults.push('staleAfterMs must be above 0');
  if (use.anomaly !== undefined) {
    if (!isObject(use.anomaly)) faults.push('anomaly must be an object');
    else if (use.anomaly.cooldownMs !== undefined && !(use.anomaly.cooldownMs >= 0))
      faults.push('anomaly.cooldownMs must not be negative');
  }
  if (use.maintenance !== undefined) {
    if (!isObject(use.maintenance)) faults.push('maintenance must be an object');
    else {
      const { inspectBelowH, scheduleBelowH, stopBelowH, hoursPerUnit } = use.maintenance;
      if (!(stopBelowH >= 0 && stopBelowH < scheduleBelowH && scheduleBelowH < inspectBelowH))
        faults.push('maintenance: limits go from inspect over schedule down to stop');
      if (hoursPerUnit !== undefined && !isAbove(hoursPerUnit, 0))
        faults.push('maintenance.hoursPerUnit must be above 0');
    }
  }
  return faults;
}

/** Metrics that must have a value before a model is asked. */
export function needsOf(d: KindDefinition, use: ModelUse): readonly string[] {
  return use.needs ?? metricsBehind(d, use.inputs);
}

function isObject(value: unknown): boolean {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isAbove(value: unknown, limit: number): boolean {
  return typeof value === 'number' && Number.isFinite(value) && value > limit;
}
