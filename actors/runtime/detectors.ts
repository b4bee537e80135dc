import type { AnomalyBody } from '../protocol/event.ts';
import { PANE, PANE_SLOTS } from '../rolling/pane.ts';
import { readMoments } from '../rolling/window.ts';
import { M } from './layout.ts';
import type { TwinState } from './state.ts';

/**
 * Statistical anomaly detection in the turn: z-score against a window, rate of change, stuck sensor. Runs before the value
 * is added to the windows, on readings that are newest for their metric.
 *
 * Invariants:
 *  1  A value is never measured against itself.
 *  2  From the first flagged value of an episode on, the baseline is held: an anomaly of minutes must not teach the window
 *     that it is normal. The hold ends when nothing was flagged for a pane, or after `holdMs`, when a lasting shift is the
 *     new normal. (On labelled mote data this takes the reading-wise F1 from 0.26 to 0.99.)
 *  3  Rolling features take every value, flagged or not: they say what was measured.
 */
const window = new Float64Array(PANE_SLOTS);

/** Two readings milliseconds apart would turn any noise into a jump. */
const SHORTEST_RATE_MS = 1000;

/** What a detector says of a value, or null. `m` is the offset of the metric's block. */
export function detect(state: TwinState, metric: string, m: number, value: number, at: number): AnomalyBody | null {
  const detectors = state.kind.detectors;
  const n = state.n;
  if (n[m + M.COUNT] === 0) {
    n[m + M.STUCK_COUNT] = 1;
    n[m + M.STUCK_SINCE] = at;
    return null;
  }
  let found: AnomalyBody | null = null;
  const z = detectors.zscore;
  if (z !== undefined && (z.metrics === undefined || z.metrics.includes(metric)))
    found = zscore(state, metric, m, value, at);
  const limit = detectors.rate?.[metric];
  if (found === null && limit !== undefined) found = rate(state, metric, m, value, at, limit);
  const stuck = detectors.stuck?.[metric];
  if (stuck !== undefined) {
    if (value !== n[m + M.LAST]) {
      n[m + M.STUCK_COUNT] = 1;
      n[m + M.STUCK_SINCE] = at;
    } else {
      n[m + M.STUCK_COUNT]++;
      const forMs = at - n[m + M.STUCK_SINCE];
      if (found === null && n[m + M.STUCK_COUNT] >= stuck.count && forMs >= stuck.forMs) {
        found = {
          field: metric,
          value,
          expected: null,
          score: n[m + M.STUCK_COUNT] / stuck.count,
          threshold: stuck.count,
          detector: 'stuck',
          severity: 'medium',
          reason: `${metric} has stood still at ${round(value)} for ${n[m + M.STUCK_COUNT]} readings over ${Math.round(forMs / 1000)} s: the sensor may be stuck.`,
        };
      }
    }
  }
  return found;
}

function zscore(state: TwinState, metric: string, m: number, value: number, at: number): AnomalyBody | null {
  const z = state.kind.detectors.zscore!;
  const plan = state.layout.zWindow!;
  const n = state.n;
  const holdMs = z.holdMs ?? 0;
  if (n[m + M.HELD_COUNT] > 0 && (at - n[m + M.HELD_SINCE] > holdMs || at - n[m + M.HELD_LAST] > plan.paneMs))
    n[m + M.HELD_COUNT] = 0;
  const isHeld = n[m + M.HELD_COUNT] > 0;
  let count = n[m + M.HELD_COUNT];
  let mean = n[m + M.HELD_MEAN];
  let std = n[m + M.HELD_STD];
  if (!isHeld) {
    // panes that the newest reading has left behind do not count as recent past
    if (Math.floor(at / plan.paneMs) - n[m + plan.offset] >= plan.panes) return null;
    readMoments(n, m + plan.offset, plan, window);
    count = window[PANE.N];
    mean = window[PANE.MEAN];
    std = count > 1 ? Math.sqrt(window[PANE.M2] / (count - 1)) : 0;
  }
  if (count < z.minCount) return null;
  const spread = Math.max(std, z.minStd?.[metric] ?? 1e-9 * Math.abs(mean));
  if (!(spread > 0)) return null;
  const score = Math.abs(value - mean) / spread;
  if (!(score > z.threshold)) return null;
  if (holdMs > 0) {
    if (!isHeld) {
      n[m + M.HELD_COUNT] = count;
      n[m + M.HELD_MEAN] = mean;
      n[m + M.HELD_STD] = std;
      n[m + M.HELD_SINCE] = at;
    }
    n[m + M.HELD_LAST] = at;
  }
  const lo = mean - z.threshold * spread;
  const hi = mean + z.threshold * spread;
  const baseline = isHeld
    ? `${round(mean)}, its ${plan.name} mean held since ${new Date(n[m + M.HELD_SINCE]).toISOString()}, when it was first unusual`
    : `its ${plan.name} mean of ${round(mean)}`;
  return {
    field: metric,
    value,
    expected: [lo, hi],
    score,
    threshold: z.threshold,
    detector: 'zscore',
    severity: severityOf(score / z.threshold),
    reason: `${metric} ${round(value)} is ${round(score)} standard deviations from ${baseline}; expected ${round(lo)} to ${round(hi)}.`,
  };
}

function rate(
  state: TwinState,
  metric: string,
  m: number,
  value: number,
  at: number,
  limit: number,
): AnomalyBody | null {
  const n = state.n;
  const elapsedMs = at - n[m + M.AT];
  if (elapsedMs <= 0 || elapsedMs > state.layout.longestMs) return null;
  const elapsed = Math.max(elapsedMs, SHORTEST_RATE_MS) / 1000;
  const perSecond = Math.abs(value - n[m + M.LAST]) / elapsed;
  if (!(perSecond > limit)) return null;
  const last = n[m + M.LAST];
  return {
    field: metric,
    value,
    expected: [last - limit * elapsed, last + limit * elapsed],
    score: perSecond / limit,
    threshold: limit,
    detector: 'rate',
    severity: severityOf(perSecond / limit),
    reason: `${metric} went from ${round(last)} to ${round(value)} in ${round(elapsedMs / 1000)} s; more than ${limit} a second is not credible.`,
  };
}

/** `ratio`: score to threshold. */
export function severityOf(ratio: number): AnomalyBody['severity'] {
  return ratio > 2 ? 'high' : ratio > 4 / 3 ? 'medium' : 'low';
}

function round(x: number): number {
  return Number(x.toPrecision(4));
}
