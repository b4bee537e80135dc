import type { RuleOverride, Tuning } from '../protocol/entry.ts';
import type { Kind } from '../protocol/kind.ts';
import type { TwinId } from '../protocol/twin-id.ts';
import { Recent } from '../rolling/recent.ts';
import { type Layout, layoutOf } from './layout.ts';
import type { RuleSet } from './rules.ts';

/**
 * The state of one twin: what the fold changes and the snapshot keeps. Numbers lie in `n` (layout.ts), what is not a
 * number in `aside`, folded identities in `recent`. Nothing else may influence a fold.
 */
export interface TwinState {
  readonly twinId: TwinId;
  readonly kind: Kind;
  readonly layout: Layout;
  n: Float64Array;
  recent: Recent;
  aside: Aside;
  /** Rules under the tuning in force: derived, never stored. */
  rules: { tuning: Tuning; set: RuleSet } | null;
}

/** The part of the state that is not numbers: plain JSON. */
export interface Aside {
  attributes: Record<string, string | number | boolean>;
  desired: Record<string, unknown>;
  /** Names of the delta as the device was told last; absent while nothing is desired. */
  told?: string;
  /** Metric names in order of their blocks, for kinds with open metrics. */
  metrics?: string[];
  units?: Record<string, string>;
  /** Acknowledgements of standing alerts by rule. */
  acknowledged?: Record<string, { by: string; note?: string }>;
  maintenance?: { at: number; work: string; by: string };
  predictions?: Record<string, Record<string, unknown>>;
  /** Idempotency keys of the last commands with the revision they made, oldest first. */
  commands?: [key: string, revision: number][];
  /** Tuning in force; absent for the defaults. */
  tuning?: Tuning;
}

/** Metrics that a twin of a kind with open metrics may learn: each costs a block of windows. */
export const MAX_OPEN_METRICS = 64;
/** Attributes that a twin keeps; further names are not taken. */
export const MAX_ATTRIBUTES = 64;
/** Size of the desired state as JSON text. */
export const MAX_DESIRED_CHARS = 16_384;

/** How many idempotency keys a twin remembers. */
export const REMEMBERED_COMMANDS = 64;

export const DEFAULT_LATENESS_MS = 600_000;

/** What a twin folds with before its journal says otherwise. */
export const DEFAULT_TUNING: Tuning = Object.freeze({
  version: 0,
  latenessMs: DEFAULT_LATENESS_MS,
  rules: Object.freeze({}) as Record<string, RuleOverride>,
});

export function newState(kind: Kind, twinId: TwinId): TwinState {
  const layout = layoutOf(kind);
  return {
    twinId,
    kind,
    layout,
    n: new Float64Array(layout.length),
    recent: new Recent(),
    aside: { attributes: {}, desired: {} },
    rules: null,
  };
}

export function tuningOf(state: TwinState): Tuning {
  return state.aside.tuning ?? DEFAULT_TUNING;
}

/** Offset of the block of a metric, or −1 where the twin has none. */
export function metricOffset(state: TwinState, name: string): number {
  const { kind, layout, aside } = state;
  const index = kind.openMetrics ? (aside.metrics?.indexOf(name) ?? -1) : kind.metricNames.indexOf(name);
  return index < 0 ? -1 : layout.firstMetric + index * layout.metricBlock;
}

/** Offset of the block of an open metric, made where it is new. */
export function openMetricOffset(state: TwinState, name: string): number {
  const at = metricOffset(state, name);
  if (at >= 0) return at;
  state.aside.metrics ??= [];
  state.aside.metrics.push(name);
  const offset = state.n.length;
  const grown = new Float64Array(offset + state.layout.metricBlock);
  grown.set(state.n);
  state.n = grown;
  return offset;
}

/** Metric names that have a block, in order. */
export function metricsOf(state: TwinState): readonly string[] {
  return state.kind.openMetrics ? (state.aside.metrics ?? []) : state.kind.metricNames;
}

/** An answer: 325 on the average of an anomaly with four shares and a life with its interval, by heap. */
const PREDICTION_BYTES = 350;

/** Bytes this twin keeps in memory, about: arrays exactly, objects by estimate. */
export function residentBytes(state: TwinState): number {
  const predictions = state.aside.predictions === undefined ? 0 : PREDICTION_BYTES * state.layout.predictions.length;
  return state.n.byteLength + state.recent.bytes + 600 + predictions + 60 * Object.keys(state.aside.attributes).length;
}
