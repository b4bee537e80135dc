import { TwinmeshError } from '../actors/protocol/errors.ts';
import { Faults } from './shape.ts';
import { isModelName, isVersion } from './version.ts';

/**
 * The model card: what a model takes, what its answer means, from what it was made and what it must not be used for.
 *
 *  1  A card comes from outside: nothing of it is used before `parseCard` has checked all of it; every fault is named.
 *  2  What it says about the file (hash, inputs, outputs) is held against the file in model.ts, not believed.
 */
export const MODEL_TYPES = ['regression', 'anomaly', 'probability', 'classification', 'forecast', 'cluster'] as const;
export type ModelType = (typeof MODEL_TYPES)[number];

export interface CardInput {
  name: string;
  unit: string;
  /** The model clips to this range: for operators to know. */
  min: number;
  max: number;
  missing: 'impute' | 'required';
  /** Distribution in training, for population stability: n inner edges cut n + 1 shares. */
  reference?: { edges: number[]; shares: number[] };
}

/** Shares of the answer by hiding groups of inputs: `reference` has a value for each input that stands for "nothing special". */
export interface Occlusion {
  method: 'occlusion';
  groups: Record<string, number[]>;
  reference: number[];
}

export interface CardOutput {
  unit?: string;
  threshold?: number;
  classes?: string[];
  metrics?: string[];
  horizonMs?: number;
  /** Share of the truth that lies in the interval, 0 to 1. */
  coverage?: number;
  /** Metrics that the contributions speak of, in their order. */
  groups?: string[];
  explain?: { method: 'graph' } | Occlusion;
  /** An answer outside is refused. */
  range?: [number, number];
}

export interface CardScore {
  name: string;
  value: number;
  data: string;
  split: string;
  floor?: { name: string; value: number };
  best?: { name: string; value: number; source: string };
}

export interface ModelCard {
  name: string;
  version: string;
  kind: string;
  type: ModelType;
  title: string;
  description: string;
  inputs: CardInput[];
  output: CardOutput;
  training: Record<string, unknown>;
  scores: CardScore[];
  limits: string[];
  /** Of model.onnx, hexadecimal. */
  sha256: string;
  opset: number;
}

export const MAX_CARD_BYTES = 1_000_000;
export const MAX_OPSET = 17;
const MAX_WIDTH = 2_000;

/** Throws bad_model with every fault. */
export function parseCard(text: string): ModelCard {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new TwinmeshError('bad_model', 'card.json is not valid JSON.');
  }
  const faults = new Faults('card.json');
  const card = faults.object('the card', value);
  if (!isModelName(card.name)) faults.add('name', 'must be lower case letters, digits and -');
  if (!isVersion(card.version)) faults.add('version', 'must be like 1.0.0');
  if (typeof card.sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(card.sha256))
    faults.add('sha256', 'must be 64 hexadecimal digits');
  const type = faults.choice('type', card.type, MODEL_TYPES);
  const inputs = faults
    .list('inputs', card.inputs, MAX_WIDTH)
    .map((input, i) => inputOf(faults, `inputs[${i}]`, input));
  if (inputs.length === 0) faults.add('inputs', 'must name at least one');
  if (new Set(inputs.map(({ name }) => name)).size !== inputs.length) faults.add('inputs', 'must not name one twice');
  const parsed: ModelCard = {
    name: String(card.name),
    version: String(card.version),
    kind: faults.text('kind', card.kind, 31),
    type,
    title: faults.text('title', card.title, 200),
    description: faults.text('description', card.description, 5_000),
    inputs,
    output: outputOf(faults, type, inputs.length, card.output),
    training: faults.object('training', card.training),
    scores: faults.list('scores', card.scores, 200).map((score, i) => scoreOf(faults, `scores[${i}]`, score)),
    limits: faults.list('limits', card.limits, 50).map((limit, i) => faults.text(`limits[${i}]`, limit)),
    sha256: String(card.sha256),
    opset: faults.integer('opset', card.opset, 1, MAX_OPSET),
  };
  faults.end();
  return parsed;
}

function inputOf(faults: Faults, path: string, value: unknown): CardInput {
  const input = faults.object(path, value);
  const min = faults.number(`${path}.min`, input.min);
  const max = faults.number(`${path}.max`, input.max);
  if (min > max) faults.add(path, 'must have min below max');
  return {
    name: faults.text(`${path}.name`, input.name, 200),
    unit: typeof input.unit === 'string' ? input.unit.slice(0, 50) : '',
    min,
    max,
    missing: faults.choice(`${path}.missing`, input.missing, ['impute', 'required']),
    ...(input.reference === undefined ? {} : { reference: referenceOf(faults, `${path}.reference`, input.reference) }),
  };
}

function referenceOf(faults: Faults, path: string, value: unknown): { edges: number[]; shares: number[] } {
  const reference = faults.object(path, value);
  const edges = faults
    .list(`${path}.edges`, reference.edges, 200)
    .map((e, i) => faults.number(`${path}.edges[${i}]`, e));
  const shares = faults
    .list(`${path}.shares`, reference.shares, 201)
    .map((share, i) => faults.number(`${path}.shares[${i}]`, share, 0, 1));
  if (edges.some((edge, i) => i > 0 && edge < edges[i - 1])) faults.add(`${path}.edges`, 'must not go down');
  const total = shares.reduce((sum, share) => sum + share, 0);
  if (shares.length > 0 && Math.abs(total - 1) > 0.01) faults.add(`${path}.shares`, 'must sum to 1');
  return { edges, shares };
}

function outputOf(faults: Faults, type: ModelType, width: number, value: unknown): CardOutput {
  const output = faults.object('output', value);
  const has = (name: string): boolean => output[name] !== undefined && output[name] !== null;
  const parsed: CardOutput = {
    ...(has('unit') && { unit: faults.text('output.unit', output.unit, 50) }),
    ...(has('threshold') && { threshold: faults.number('output.threshold', output.threshold) }),
    ...(has('classes') && { classes: faults.names('output.classes', output.classes, 200) }),
    ...(has('metrics') && { metrics: faults.names('output.metrics', output.metrics, 200) }),
    ...(has('horizonMs') && { horizonMs: faults.number('output.horizonMs', output.horizonMs, 1, 1e12) }),
    ...(has('coverage') && { coverage: faults.number('output.coverage', output.coverage, 0, 1) }),
    ...(has('groups') && { groups: faults.names('output.groups', output.groups, 200) }),
    ...(has('explain') && { explain: explainOf(faults, width, output.explain) }),
    ...(has('range') && { range: faults.span('output.range', output.range) }),
  };
  if (type === 'anomaly' && !((parsed.threshold ?? 0) > 0)) faults.add('output.threshold', 'must be above 0 (anomaly)');
  if ((type === 'classification' || type === 'cluster') && !parsed.classes?.length)
    faults.add('output.classes', `must name the classes (${type})`);
  if (type === 'forecast' && !parsed.metrics?.length) faults.add('output.metrics', 'must name the metrics (forecast)');
  if (type === 'forecast' && parsed.horizonMs === undefined) faults.add('output.horizonMs', 'is missing (forecast)');
  if (parsed.explain?.method === 'graph' && !parsed.groups?.length)
    faults.add('output.groups', 'must name what the contributions of the graph speak of');
  if (parsed.explain?.method === 'occlusion' && (type === 'forecast' || type === 'cluster'))
    faults.add('output.explain', `by occlusion needs one number to compare: not ${type}`);
  return parsed;
}

function explainOf(faults: Faults, width: number, value: unknown): CardOutput['explain'] {
  const explain = faults.object('output.explain', value);
  const method = faults.choice('output.explain.method', explain.method, ['graph', 'occlusion']);
  if (method === 'graph') return { method };
  const groups: Record<string, number[]> = {};
  for (const [name, indices] of Object.entries(faults.object('output.explain.groups', explain.groups))) {
    const path = `output.explain.groups.${name}`;
    groups[name] = faults
      .list(path, indices, width)
      .map((index, i) => faults.integer(`${path}[${i}]`, index, 0, width - 1));
  }
  const count = Object.keys(groups).length;
  if (count === 0 || count > 50) faults.add('output.explain.groups', 'must name 1 to 50');
  const reference = faults
    .list('output.explain.reference', explain.reference, width)
    .map((x, i) => faults.number(`output.explain.reference[${i}]`, x));
  if (reference.length !== width) faults.add('output.explain.reference', `must have ${width} values, one an input`);
  return { method, groups, reference };
}

function scoreOf(faults: Faults, path: string, value: unknown): CardScore {
  const score = faults.object(path, value);
  const named = (name: 'floor' | 'best') => {
    const other = faults.object(`${path}.${name}`, score[name]);
    return {
      name: faults.text(`${path}.${name}.name`, other.name),
      value: faults.number(`${path}.${name}.value`, other.value),
    };
  };
  return {
    name: faults.text(`${path}.name`, score.name),
    value: faults.number(`${path}.value`, score.value),
    data: faults.text(`${path}.data`, score.data),
    split: faults.text(`${path}.split`, score.split),
    ...(score.floor === undefined || score.floor === null ? {} : { floor: named('floor') }),
    ...(score.best === undefined || score.best === null
      ? {}
      : {
          best: {
            ...named('best'),
            source: faults.text(`${path}.best.source`, (score.best as Record<string, unknown>).source),
          },
        }),
  };
}
