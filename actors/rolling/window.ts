import type { WindowView } from '../protocol/view.ts';
import { addToPane, clearPane, mergePane, PANE, PANE_SLOTS } from './pane.ts';

/**
 * A sliding event-time window over one metric: a ring of panes, in a stretch of the twin's Float64Array.
 *
 *     [ head pane index | EWMA | closed: 8 | pane 0: 8 | … | pane P−1: 8 ]
 *
 * `closed` is the merge of all panes but the head one, remade whenever one of those changes, so that a reading costs the
 * same whatever the number of panes. The window covers the head pane and the P−1 before it: between span − span/P and
 * span of event time.
 *
 * Invariants:
 *  1  `closed` is always the merge of the panes before the head, oldest first: a pure function of them, bit for bit.
 *  2  A reading older than the oldest pane changes nothing.
 */
export interface WindowPlan {
  readonly name: string;
  readonly spanMs: number;
  readonly paneMs: number;
  readonly panes: number;
  /** Where the window starts within the block of its metric. */
  readonly offset: number;
  /** The EWMA weight computed last, and for which gap: a cache, no state. */
  elapsedMs: number;
  weight: number;
}

const HEAD = 0;
const EWMA = 1;
const CLOSED = 2;
const PANES = CLOSED + PANE_SLOTS;

export function windowSlots(panes: number): number {
  return PANES + panes * PANE_SLOTS;
}

const scratch = new Float64Array(PANE_SLOTS);

/**
 * Adds a reading to the window at `w` (absolute offset). `previousAt` is the event time of the metric's reading before,
 * or NaN for the first: the EWMA weighs by elapsed event time and skips readings that come late.
 */
export function addToWindow(
  a: Float64Array,
  w: number,
  plan: WindowPlan,
  x: number,
  at: number,
  previousAt: number,
): void {
  const pane = Math.floor(at / plan.paneMs);
  const head = a[w + HEAD];
  if (Number.isNaN(previousAt)) {
    a[w + HEAD] = pane;
    a[w + EWMA] = x;
    addToPane(a, w + PANES + (pane % plan.panes) * PANE_SLOTS, x, at);
    return;
  }
  if (at > previousAt) {
    // time constant = the span: a reading that comes a whole span later weighs 1 − 1/e
    const elapsedMs = at - previousAt;
    // the metrics of one reading, and readings at a steady pace, ask for the same weight again and again
    if (elapsedMs !== plan.elapsedMs) {
      plan.elapsedMs = elapsedMs;
      plan.weight = 1 - Math.exp(-elapsedMs / plan.spanMs);
    }
    a[w + EWMA] += (x - a[w + EWMA]) * plan.weight;
  }
  if (pane === head) {
    addToPane(a, w + PANES + (pane % plan.panes) * PANE_SLOTS, x, at);
    return;
  }
  if (pane > head) {
    const first = pane - head >= plan.panes ? pane - plan.panes + 1 : head + 1;
    for (let p = first; p <= pane; p++) clearPane(a, w + PANES + (p % plan.panes) * PANE_SLOTS);
    a[w + HEAD] = pane;
    addToPane(a, w + PANES + (pane % plan.panes) * PANE_SLOTS, x, at);
    close(a, w, plan, pane);
  } else if (pane > head - plan.panes) {
    addToPane(a, w + PANES + (pane % plan.panes) * PANE_SLOTS, x, at);
    close(a, w, plan, head);
  }
}

function close(a: Float64Array, w: number, plan: WindowPlan, head: number): void {
  clearPane(a, w + CLOSED);
  for (let p = Math.max(0, head - plan.panes + 1); p < head; p++) {
    mergePane(a, w + CLOSED, a, w + PANES + (p % plan.panes) * PANE_SLOTS);
  }
}

/** Merges the whole window into `out` (eight slots, layout of pane.ts). */
export function readWindow(a: Float64Array, w: number, plan: WindowPlan, out: Float64Array): void {
  for (let i = 0; i < PANE_SLOTS; i++) out[i] = a[w + CLOSED + i];
  mergePane(out, 0, a, w + PANES + (a[w + HEAD] % plan.panes) * PANE_SLOTS);
}

/**
 * Count, mean and M2 of the whole window into `out`, as `readWindow` has them, bit for bit; the rest of `out` is left as it
 * was. For detectors, which ask at every reading.
 */
export function readMoments(a: Float64Array, w: number, plan: WindowPlan, out: Float64Array): void {
  const closed = w + CLOSED;
  const head = w + PANES + (a[w + HEAD] % plan.panes) * PANE_SLOTS;
  const na = a[closed];
  const nb = a[head];
  if (na === 0 || nb === 0) {
    const only = nb === 0 ? closed : head;
    out[PANE.N] = a[only];
    out[PANE.MEAN] = a[only + PANE.MEAN];
    out[PANE.M2] = a[only + PANE.M2];
    return;
  }
  const n = na + nb;
  const dx = a[head + PANE.MEAN] - a[closed + PANE.MEAN];
  const share = nb / n;
  const weight = na * share;
  out[PANE.N] = n;
  out[PANE.MEAN] = a[closed + PANE.MEAN] + dx * share;
  out[PANE.M2] = a[closed + PANE.M2] + (a[head + PANE.M2] + dx * dx * weight);
}

/** Mean of the i-th pane of the window, 0 the oldest; NaN where nothing fell into it. */
export function paneMean(a: Float64Array, w: number, plan: WindowPlan, i: number): number {
  const pane = a[w + HEAD] - plan.panes + 1 + i;
  if (pane < 0) return Number.NaN;
  const p = w + PANES + (pane % plan.panes) * PANE_SLOTS;
  return a[p + PANE.N] > 0 ? a[p + PANE.MEAN] : Number.NaN;
}

/** The exponentially weighted mean; without meaning before the first reading. */
export function readEwma(a: Float64Array, w: number): number {
  return a[w + EWMA];
}

/** The window for people. `last` is the newest value of the metric. */
export function viewWindow(a: Float64Array, w: number, plan: WindowPlan, last: number): WindowView {
  readWindow(a, w, plan, scratch);
  const n = scratch[PANE.N];
  if (n === 0)
    return { count: 0, mean: null, std: null, min: null, max: null, last: null, slope: null, ewma: null, z: null };
  const mean = scratch[PANE.MEAN];
  const m2 = scratch[PANE.M2];
  // the newest taken out again: it must not be measured against itself
  const before = n > 1 ? mean - (last - mean) / (n - 1) : 0;
  const m2Before = m2 - (last - mean) * (last - before);
  const stdBefore = n > 2 && m2Before > 0 ? Math.sqrt(m2Before / (n - 2)) : 0;
  return {
    count: n,
    mean,
    std: n > 1 ? Math.sqrt(m2 / (n - 1)) : null,
    min: scratch[PANE.MIN],
    max: scratch[PANE.MAX],
    last,
    slope: n > 1 && scratch[PANE.M2_T] > 0 ? (scratch[PANE.C_XT] / scratch[PANE.M2_T]) * 1000 : null,
    ewma: a[w + EWMA],
    z: stdBefore > 0 ? (last - before) / stdBefore : null,
  };
}
