import { type Feature, featureNames, parseFeature, type Statistic } from '../protocol/feature.ts';
import type { Kind } from '../protocol/kind.ts';
import { PANE, PANE_SLOTS } from '../rolling/pane.ts';
import { paneMean, readEwma, readWindow, type WindowPlan } from '../rolling/window.ts';
import { H, type Layout, layoutOf, M } from './layout.ts';
import { metricOffset, type TwinState } from './state.ts';

/**
 * Features: numbers of a twin's state by name, as models take them (`ModelUse.inputs` says what the names mean).
 *
 * Owns the one way from a state to an input vector: live, in replay and in the export of training data. Does not own what
 * a model makes of it.
 *
 * Invariants:
 *  1  Pure: the same state gives the same numbers, and statistics are those that the view shows, bit for bit before they
 *     are rounded to 32 bits.
 *  2  NaN where there is none: a metric never reported, a statistic of too few readings, a feature that is not finite.
 *  3  Names are looked up once, when the reader is compiled; reading touches numbers only. Kinds with open metrics look up
 *     where the twin keeps a metric at each reading, because each twin has its own order.
 */
export interface FeatureReader {
  readonly kind: Kind;
  /** One name a number, in order: panes expanded. */
  readonly names: readonly string[];
  /** Numbers a row. */
  readonly width: number;
  readonly read: (state: TwinState, into: Float32Array | Float64Array, offset: number) => void;
}

/** One number of a state: NaN where there is none. */
export type Read = (state: TwinState) => number;
type Write = (state: TwinState, into: Float32Array | Float64Array, at: number) => void;

const DAY_MS = 86_400_000;
const window = new Float64Array(PANE_SLOTS);

const readers = new WeakMap<Kind, Map<string, FeatureReader>>();

/** The reader of these inputs for a kind: compiled once. Throws a RangeError naming an input that means nothing. */
export function featureReader(kind: Kind, inputs: readonly string[]): FeatureReader {
  let ofKind = readers.get(kind);
  if (ofKind === undefined) {
    ofKind = new Map();
    readers.set(kind, ofKind);
  }
  const key = inputs.join('\n');
  let reader = ofKind.get(key);
  if (reader === undefined) {
    reader = compile(kind, inputs);
    ofKind.set(key, reader);
  }
  return reader;
}

/** Writes the features of a state, `reader.width` numbers from `offset` on. */
export function featuresOf(
  state: TwinState,
  reader: FeatureReader,
  into: Float32Array | Float64Array,
  offset: number,
): void {
  reader.read(state, into, offset);
}

/** One feature by itself. Throws a RangeError for a name that means nothing, or many numbers. */
export function readerOf(kind: Kind, name: string): Read {
  return reading(kind, featureOf(kind, name));
}

export { featureNames };

function compile(kind: Kind, inputs: readonly string[]): FeatureReader {
  const names = featureNames(kind, inputs);
  const writes: { at: number; write: Write }[] = [];
  let at = 0;
  for (const name of inputs) {
    const feature = featureOf(kind, name);
    if (feature.type === 'panes') {
      writes.push({ at, write: panesWriter(kind, feature) });
      at += feature.panes;
    } else {
      const read = reading(kind, feature);
      writes.push({
        at,
        write: (state, into, where) => {
          into[where] = read(state);
        },
      });
      at += 1;
    }
  }
  const width = at;
  return {
    kind,
    names,
    width,
    read(state, into, offset) {
      for (let i = 0; i < writes.length; i++) writes[i].write(state, into, offset + writes[i].at);
    },
  };
}

function featureOf(kind: Kind, name: string): Feature {
  const feature = parseFeature(kind, name);
  if (feature === null) throw new RangeError(`Kind "${kind.kind}" has no feature "${name}".`);
  return feature;
}

function reading(kind: Kind, feature: Feature): Read {
  switch (feature.type) {
    case 'hour': {
      const circle = feature.circle === 'sin' ? Math.sin : Math.cos;
      return ({ n }) => (n[H.ACCEPTED] > 0 ? circle((2 * Math.PI * (n[H.AT] % DAY_MS)) / DAY_MS) : Number.NaN);
    }
    case 'reported': {
      const offsetIn = locator(kind, feature.metric);
      return (state) => {
        const m = offsetIn(state);
        return m >= 0 && state.n[m + M.COUNT] > 0 ? state.n[m + M.LAST] : Number.NaN;
      };
    }
    case 'statistic':
      return statisticReader(kind, feature.metric, feature.window, feature.statistic);
    case 'filled':
      return filledReader(kind, feature);
    case 'computed':
      return shared(kind, feature.name);
    case 'panes':
      throw new RangeError(`"${feature.metric}.${feature.window}.panes" is many numbers: it cannot be read as one.`);
  }
}

/** Where a twin keeps a metric; −1 where it does not. */
function locator(kind: Kind, metric: string): (state: TwinState) => number {
  if (kind.openMetrics) return (state) => metricOffset(state, metric);
  const layout = layoutOf(kind);
  const offset = layout.firstMetric + kind.metricNames.indexOf(metric) * layout.metricBlock;
  return () => offset;
}

function planOf(layout: Layout, name: string): WindowPlan {
  const plan = layout.windows.find((w) => w.name === name);
  if (plan === undefined) throw new RangeError(`No window "${name}".`);
  return plan;
}

function panesWriter(kind: Kind, feature: Extract<Feature, { type: 'panes' }>): Write {
  const offsetIn = locator(kind, feature.metric);
  const plan = planOf(layoutOf(kind), feature.window);
  return (state, into, at) => {
    const m = offsetIn(state);
    let before = Number.NaN;
    for (let i = 0; i < plan.panes; i++) {
      if (m >= 0 && state.n[m + M.COUNT] > 0) {
        const mean = paneMean(state.n, m + plan.offset, plan, i);
        if (!Number.isNaN(mean)) before = mean;
      }
      into[at + i] = before;
    }
  };
}

function filledReader(kind: Kind, feature: Extract<Feature, { type: 'filled' }>): Read {
  const offsetIn = locator(kind, feature.metric);
  const plan = planOf(layoutOf(kind), feature.window);
  return (state) => {
    const m = offsetIn(state);
    if (m < 0 || state.n[m + M.COUNT] === 0) return 0;
    let filled = 0;
    for (let i = 0; i < plan.panes; i++) if (!Number.isNaN(paneMean(state.n, m + plan.offset, plan, i))) filled++;
    return filled;
  };
}

function statisticReader(kind: Kind, metric: string, windowName: string, statistic: Statistic): Read {
  const offsetIn = locator(kind, metric);
  const plan = planOf(layoutOf(kind), windowName);
  return (state) => {
    const { n } = state;
    const m = offsetIn(state);
    if (m < 0 || n[m + M.COUNT] === 0) return statistic === 'count' ? 0 : Number.NaN;
    const w = m + plan.offset;
    readWindow(n, w, plan, window);
    const count = window[PANE.N];
    switch (statistic) {
      case 'count':
        return count;
      case 'mean':
        return count > 0 ? window[PANE.MEAN] : Number.NaN;
      case 'min':
        return count > 0 ? window[PANE.MIN] : Number.NaN;
      case 'max':
        return count > 0 ? window[PANE.MAX] : Number.NaN;
      case 'last':
        return count > 0 ? n[m + M.LAST] : Number.NaN;
      case 'std':
        return count > 1 ? Math.sqrt(window[PANE.M2] / (count - 1)) : Number.NaN;
      case 'slope':
        return count > 1 && window[PANE.M2_T] > 0 ? (window[PANE.C_XT] / window[PANE.M2_T]) * 1000 : Number.NaN;
      case 'ewma':
        return count > 0 ? readEwma(n, w) : Number.NaN;
      case 'z':
        return zOf(count, n[m + M.LAST]);
    }
  };
}

/** As in `viewWindow`: the newest against the window without it. */
function zOf(count: number, last: number): number {
  if (count < 3) return Number.NaN;
  const mean = window[PANE.MEAN];
  const before = mean - (last - mean) / (count - 1);
  const m2Before = window[PANE.M2] - (last - mean) * (last - before);
  const z = m2Before > 0 ? (last - before) / Math.sqrt(m2Before / (count - 2)) : Number.NaN;
  // readings that differ by next to nothing: no number says how far the newest lies off
  return Number.isFinite(z) ? z : Number.NaN;
}

/** A feature of the kind. What it asks for is compiled at the first asking; one that asks for itself gets NaN. */
function computed(kind: Kind, name: string): Read {
  const compute = kind.features![name];
  const asked = new Map<string, Read>();
  let current: TwinState | null = null;
  let running = false;
  const f = (wanted: string): number => {
    let read = asked.get(wanted);
    if (read === undefined) {
      const feature = parseFeature(kind, wanted);
      if (feature === null || feature.type === 'panes') read = () => Number.NaN;
      else read = reading(kind, feature);
      asked.set(wanted, read);
    }
    return read(current!);
  };
  return (state) => {
    if (running) return Number.NaN;
    running = true;
    const outer = current;
    current = state;
    try {
      const value = compute(f);
      return typeof value === 'number' && Number.isFinite(value) ? value : Number.NaN;
    } finally {
      current = outer;
      running = false;
    }
  };
}

const computedOf = new WeakMap<Kind, Map<string, Read>>();

/** One compiled reader a computed feature and kind: features that ask for one another must end, not be compiled for ever. */
function shared(kind: Kind, name: string): Read {
  let ofKind = computedOf.get(kind);
  if (ofKind === undefined) {
    ofKind = new Map();
    computedOf.set(kind, ofKind);
  }
  let read = ofKind.get(name);
  if (read === undefined) {
    read = computed(kind, name);
    ofKind.set(name, read);
  }
  return read;
}
