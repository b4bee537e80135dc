import { readFileSync } from 'node:fs';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * What rows to export: a plain JSON object that a trainer hands to the exporter and leaves in the model's folder for its
 * held-out set, so that training and evaluation make their rows the same way.
 */
export interface ExportSpec {
  kind: string;
  /** Features in order, as `ModelUse.inputs` of the kind. */
  inputs: readonly string[];
  sample: SampleSpec;
  /** Values of metrics later on become truth columns `ahead.<metric>`. */
  ahead?: { horizonMs: number; metrics: readonly string[] };
  /** Exactly one of the two. */
  simulator?: readonly PopulationSpec[];
  files?: readonly FileSpec[];
}

/** Which states of a twin become rows. A row is the state after a reading. */
export interface SampleSpec {
  /** At the first reading of every so many ms of event time. */
  everyMs?: number;
  /** At every n-th reading. */
  everyReadings?: number;
  /** At the newest reading of each twin or run. */
  last?: boolean;
  /** When a metric has come from above to this or below; not again within `quietMs` of event time. */
  crossing?: { metric: string; below: number; quietMs?: number };
  /** When a twin would ask for this prediction of its kind: as the host asks, where each answer comes at once. */
  due?: string;
  /** Nothing before so much event time since the first reading of the twin. Default 0. */
  fromMs?: number;
}

/** A fixed number, or `[lo, hi]`: drawn evenly for each run. */
export type Draw = number | readonly [number, number];

/** Simulated assets, one a run: all draws follow from `seed` and the number of the run. */
export interface PopulationSpec {
  runs: number;
  seed: number;
  /** Index of the asset for the simulator, drawn as a whole number (upper end included). Default: the number of the run. */
  index?: Draw;
  /** Default: the interval of the simulator. */
  stepMs?: Draw;
  durationMs: Draw;
  /** Event time of the first reading. Default: any time of 2025. */
  startMs?: Draw;
  /** Parameters of the simulator, as its kind documents them. */
  parameters?: Record<string, Draw>;
  /** With probability `share` a run has one of these scenarios, from `afterMs` on, with this severity. */
  scenarios?: { names: readonly string[]; share: number; severity: Draw; afterMs: Draw };
  /** Each value of each reading times 1 + sigma · normal (cut at three): for all metrics, or by metric. */
  noise?: number | Record<string, number>;
  /** Probability that a metric is left out of a whole run: by metric. */
  without?: Record<string, number>;
  /** These metrics times one factor a run: at the same voltage a pack of another capacity has other currents and powers. */
  times?: { metrics: readonly string[]; factor: Draw };
  /** Step that the values of a metric are rounded to, as a sensor does that reports whole degrees: by metric; 0 rounds nothing. */
  resolution?: Record<string, Draw>;
}

/** A real file, replayed as readings of the kind. */
export interface FileSpec {
  /** Relative to the data folder. */
  path: string;
  /** Further files that are read side by side with it: matrices of other metrics. */
  beside?: readonly string[];
  /** Map of services/load/maps by name, or `./NAME.json` in models/training/maps. */
  map: string;
  /**
   * State of charge as a management system counts it where the file has none: `soc` starts at 100 % wherever the attribute
   * changes, and moves by the integral of the current over `capacityAh`; kept inside 0 to 100.
   */
  chargeCount?: { capacityAh: number; restartOn: string };
  /** Columns of another table, found by attributes of the reading (or `twin` for its id), become truth columns. */
  labels?: { path: string; on: Record<string, string>; columns: readonly string[] };
}

/** Reads and checks a spec. Throws bad_request naming the fault. */
export function readSpec(path: string): ExportSpec {
  let spec: ExportSpec;
  try {
    spec = JSON.parse(readFileSync(path, 'utf8')) as ExportSpec;
  } catch (error) {
    throw new TwinmeshError('bad_request', `${path}: ${messageOf(error)}`, undefined, { cause: error });
  }
  return checkSpec(spec, path);
}

export function checkSpec(spec: ExportSpec, where = 'The spec'): ExportSpec {
  const fault = faultOf(spec);
  if (fault !== null) throw new TwinmeshError('bad_request', `${where}: ${fault}.`);
  return spec;
}

function faultOf(spec: ExportSpec): string | null {
  if (typeof spec !== 'object' || spec === null) return 'it is no object';
  if (typeof spec.kind !== 'string') return 'kind is missing';
  if (!Array.isArray(spec.inputs) || spec.inputs.some((name) => typeof name !== 'string'))
    return 'inputs must be names';
  if (typeof spec.sample !== 'object' || spec.sample === null) return 'sample is missing';
  const { everyMs, everyReadings, last, crossing, due } = spec.sample;
  if ([everyMs, everyReadings, last, crossing, due].filter((way) => way !== undefined).length !== 1)
    return 'sample takes one of everyMs, everyReadings, last, crossing, due';
  if ((spec.simulator === undefined) === (spec.files === undefined)) return 'it takes one of simulator and files';
  for (const population of spec.simulator ?? [])
    if (!(population.runs > 0) || !Number.isInteger(population.seed)) return 'a population has runs and a whole seed';
  for (const file of spec.files ?? [])
    if (typeof file.path !== 'string' || typeof file.map !== 'string') return 'a file has path and map';
  return null;
}
