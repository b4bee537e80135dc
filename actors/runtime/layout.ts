import type { Kind, ModelUse } from '../protocol/kind.ts';
import { needsOf } from '../protocol/model-use.ts';
import { type WindowPlan, windowSlots } from '../rolling/window.ts';

/**
 * Where the numbers of a twin lie in its one Float64Array:
 *
 *     [ header: 16 | rule 0: 8 | … | prediction 0: 8 | … | metric 0: 14 + windows | metric 1 | … ]
 *
 * One flat array a twin keeps a resident twin small, makes the turn free of allocation, and makes "bit for bit" a copy.
 * Kinds with open metrics grow a metric block with every metric they meet.
 */
export const HEADER_SLOTS = 16;
export const RULE_SLOTS = 8;
export const PREDICTION_SLOTS = 8;
export const METRIC_SLOTS = 14;

/** Header. Times in ms; 0 means never. */
export const H = {
  REVISION: 0,
  /** Event time of the newest reading folded. */
  AT: 1,
  /** received_at of the newest reading folded. */
  RECEIVED: 2,
  /** Readings at or below this event time are late beyond the window: never folded. Only grows. */
  FLOOR: 3,
  ACCEPTED: 4,
  /** Folded, but not newest when they came. */
  LATE: 5,
  /** When the twin wants a tick (received time), 0 for never. */
  WAKE: 6,
  ONLINE: 7,
  RETIRED: 8,
  HEALTH: 9,
  CREATED: 10,
  /** Bit per metric that a detector flagged in the newest reading (first 52 metrics). */
  FLAGGED: 11,
  ANOMALIES: 12,
  LAST_ANOMALY: 13,
  /** received_at since when the twin is offline. */
  OFFLINE_SINCE: 14,
  /** Standing alerts. */
  RAISED: 15,
} as const;

/** A rule. */
export const R = {
  STATE: 0,
  SINCE_AT: 1,
  SINCE_RECEIVED: 2,
  RAISED_REVISION: 3,
  RAISED_AT: 4,
  CLEARED_AT: 5,
  SILENCED_UNTIL: 6,
  VALUE: 7,
} as const;
export const RULE_IDLE = 0;
export const RULE_PENDING = 1;
export const RULE_RAISED = 2;

/** A prediction. */
export const P = {
  /** Answers folded. */
  COUNT: 0,
  /** Event time of the state it was last answered for. */
  AT: 1,
  /** received_at of that state; of a newer one where readings were folded before the answer was. */
  RECEIVED: 2,
  /** What rules were last judged by. */
  VALUE: 3,
  /** Event time of its last anomaly, for the cooldown; 0 for never. */
  ANOMALY_AT: 4,
  /** Recommended action, index in `ACTIONS`. */
  ACTION: 5,
} as const;

/** A metric. */
export const M = {
  COUNT: 0,
  LAST: 1,
  AT: 2,
  STUCK_COUNT: 3,
  STUCK_SINCE: 4,
  /** Event time of its last anomaly, for the cooldown. */
  ANOMALY_AT: 5,
  /** The baseline held during an episode: count 0 when there is none. */
  HELD_COUNT: 6,
  HELD_MEAN: 7,
  HELD_STD: 8,
  HELD_SINCE: 9,
  HELD_LAST: 10,
  RECEIVED: 11,
} as const;

/** A use of a model with its defaults filled in. */
export interface PredictionPlan {
  readonly name: string;
  readonly use: ModelUse;
  /** Its place among the predictions of the kind. */
  readonly index: number;
  /** Offset of its slots. */
  readonly offset: number;
  /** Metrics that must have a value before it is asked. */
  readonly needs: readonly string[];
  readonly minReadings: number;
  readonly staleAfterMs: number;
  /** Between two anomalies of it. */
  readonly cooldownMs: number;
}

export interface Layout {
  readonly kind: Kind;
  readonly windows: readonly WindowPlan[];
  /** Window the z-score detector measures against, or null. */
  readonly zWindow: WindowPlan | null;
  readonly predictions: readonly PredictionPlan[];
  readonly metricBlock: number;
  readonly firstMetric: number;
  /** Length of the array of a new twin. */
  readonly length: number;
  /** Longest window: a rate over a longer gap says nothing. */
  readonly longestMs: number;
}

const layouts = new WeakMap<Kind, Layout>();

export function layoutOf(kind: Kind): Layout {
  let layout = layouts.get(kind);
  if (!layout) {
    layout = makeLayout(kind);
    layouts.set(kind, layout);
  }
  return layout;
}

function makeLayout(kind: Kind): Layout {
  let offset = METRIC_SLOTS;
  const windows: WindowPlan[] = [];
  for (const name of kind.windowNames) {
    const { spanMs, panes } = kind.windows[name];
    windows.push({ name, spanMs, panes, paneMs: spanMs / panes, offset, elapsedMs: 0, weight: 0 });
    offset += windowSlots(panes);
  }
  const firstPrediction = HEADER_SLOTS + kind.rules.length * RULE_SLOTS;
  const predictions = Object.entries(kind.models ?? {}).map(([name, use], index) =>
    planOf(kind, name, use, index, firstPrediction + index * PREDICTION_SLOTS),
  );
  const firstMetric = firstPrediction + predictions.length * PREDICTION_SLOTS;
  return {
    kind,
    windows,
    zWindow: windows.find((w) => w.name === kind.detectors.zscore?.window) ?? null,
    predictions,
    metricBlock: offset,
    firstMetric,
    length: firstMetric + kind.metricNames.length * offset,
    longestMs: windows.at(-1)?.spanMs ?? 0,
  };
}

const STALE_AFTER_PERIODS = 3;
const STALE_AFTER_MS = 30_000;
/** After an anomaly, silence for it, where a kind does not say. */
export const COOLDOWN_MS = 300_000;

function planOf(kind: Kind, name: string, use: ModelUse, index: number, offset: number): PredictionPlan {
  return {
    name,
    use,
    index,
    offset,
    needs: needsOf(kind, use),
    minReadings: use.minReadings ?? 1,
    staleAfterMs: use.staleAfterMs ?? Math.max(STALE_AFTER_PERIODS * use.everyMs, STALE_AFTER_MS),
    cooldownMs: use.anomaly?.cooldownMs ?? kind.detectors.cooldownMs ?? COOLDOWN_MS,
  };
}
