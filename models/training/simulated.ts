import { DOOR_LIMITS, Door } from '../../actors/ingress/door.ts';
import { gaussian, type Random, seededRandom } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { hash32, twinIdOf } from '../../actors/protocol/twin-id.ts';
import { featureReader } from '../../actors/runtime/features.ts';
import { newState } from '../../actors/runtime/state.ts';
import { Rows } from './rows.ts';
import { Sampler } from './sampling.ts';
import type { Draw, ExportSpec, PopulationSpec } from './spec.ts';

/** Truth columns of a simulated row, before those of the asset itself (`truth.<name>`) and those ahead. */
const COLUMNS = ['population', 'run', 'at', 'elapsed', 'scenario', 'severity', 'since'] as const;
const YEAR_MS = 365 * 86_400_000;
const EPOCH_MS = Date.UTC(2025, 0, 1);

function drawn(random: Random, draw: Draw): number {
  return typeof draw === 'number' ? draw : draw[0] + (draw[1] - draw[0]) * random();
}

/**
 * Runs simulated assets and makes rows of their twins. `scenario` is the index in the kind's list of scenarios, −1 where
 * none was started yet; `since` the ms since it was; `elapsed` the ms since the first reading.
 * The draws of a run depend on the seed of its population and its number alone.
 */
export function simulatedRows(kind: Kind, spec: ExportSpec, progress: (done: number, of: number) => void): Rows {
  const { simulator } = kind;
  if (!simulator) throw new TwinmeshError('bad_request', `Kind "${kind.kind}" has no simulator.`);
  const reader = featureReader(kind, spec.inputs);
  const populations = spec.simulator!;
  const truths = Object.keys(simulator.create({ seed: 1, index: 0 }).truth());
  const ahead = (spec.ahead?.metrics ?? []).map((metric) => `ahead.${metric}`);
  const rows = new Rows(reader.names, [...COLUMNS, ...truths.map((name) => `truth.${name}`), ...ahead]);
  const all = populations.reduce((sum, population) => sum + population.runs, 0);
  let done = 0;
  populations.forEach((population, p) => {
    for (let run = 0; run < population.runs; run++) {
      oneRun(kind, spec, population, { p, run, number: done, truths }, rows);
      progress(++done, all);
    }
  });
  return rows;
}

interface Which {
  p: number;
  run: number;
  number: number;
  truths: readonly string[];
}

function oneRun(kind: Kind, spec: ExportSpec, population: PopulationSpec, which: Which, rows: Rows): void {
  const { p, run, number, truths } = which;
  const random = seededRandom(hash32(`export:${run}`, population.seed));
  const simulator = kind.simulator!;
  const scenarios = Object.keys(simulator.scenarios);
  const index =
    population.index === undefined
      ? run
      : typeof population.index === 'number'
        ? population.index
        : Math.floor(drawn(random, [population.index[0], population.index[1] + 1]));
  const parameters = Object.fromEntries(
    Object.entries(population.parameters ?? {}).map(([name, draw]) => [name, drawn(random, draw)]),
  );
  const asset = simulator.create({ seed: hash32(`asset:${run}`, population.seed), index, parameters });
  const stepMs = Math.max(1, Math.round(drawn(random, population.stepMs ?? simulator.intervalMs)));
  const durationMs = drawn(random, population.durationMs);
  const startMs = Math.round(drawn(random, population.startMs ?? [EPOCH_MS, EPOCH_MS + YEAR_MS]));
  let scenario = -1;
  let severity = 0;
  let scenarioAt = Number.POSITIVE_INFINITY;
  const chosen = random();
  if (population.scenarios !== undefined && random() < population.scenarios.share) {
    const { names, severity: strength, afterMs } = population.scenarios;
    scenario = scenarios.indexOf(names[Math.min(names.length - 1, Math.floor(chosen * names.length))]);
    severity = drawn(random, strength);
    scenarioAt = startMs + drawn(random, afterMs);
  }
  const left = new Set(
    Object.entries(population.without ?? {}).flatMap(([name, share]) => (random() < share ? [name] : [])),
  );
  // drawn last, so that the draws above are the same with and without them
  const factor = population.times === undefined ? 1 : drawn(random, population.times.factor);
  const factors = new Map(population.times?.metrics.map((metric) => [metric, factor]));
  const steps = new Map(
    Object.entries(population.resolution ?? {}).map(([metric, draw]) => [metric, drawn(random, draw)]),
  );
  const sigma = (metric: string) =>
    typeof population.noise === 'number' ? population.noise : (population.noise?.[metric] ?? 0);
  const door = new Door({ ...DOOR_LIMITS, maxSkewMs: 0 });
  const firstTruth = COLUMNS.length;
  let since = Number.NaN;
  const sampler = new Sampler(
    newState(kind, twinIdOf(kind.kind, asset.id)),
    featureReader(kind, spec.inputs),
    rows,
    spec,
    (row, reading) => {
      const started = !Number.isNaN(since);
      const told = [
        p,
        number,
        reading.at,
        reading.at - startMs,
        started ? scenario : -1,
        started ? severity : 0,
        since,
      ];
      told.forEach((value, i) => {
        rows.tell(row, i, value);
      });
      const truth = asset.truth();
      truths.forEach((name, i) => {
        rows.tell(row, firstTruth + i, truth[name]);
      });
    },
  );
  for (let at = startMs; at <= startMs + durationMs; at += stepMs) {
    if (at >= scenarioAt && Number.isNaN(since)) {
      asset.inject(scenarios[scenario], severity);
      scenarioAt = at;
    }
    if (at >= scenarioAt) since = at - scenarioAt;
    const message = asset.next(at);
    if (message === null) continue;
    const raw = kind.formats[0].decode(message, undefined);
    const clean = raw.values as Record<string, number>;
    const values: Record<string, number> = {};
    for (const name of Object.keys(clean)) {
      if (left.has(name)) continue;
      const s = sigma(name);
      values[name] = s === 0 ? clean[name] : clean[name] * (1 + s * gaussian(random));
      values[name] *= factors.get(name) ?? 1;
      const step = steps.get(name) ?? 0;
      if (step > 0) values[name] = Math.round(values[name] / step) * step + 0;
      const metric = kind.metrics[name];
      if (metric !== undefined) values[name] = Math.min(metric.max, Math.max(metric.min, values[name]));
    }
    sampler.take(door.admit(kind, { ...raw, values }, Number.POSITIVE_INFINITY), clean);
  }
  sampler.end();
}
