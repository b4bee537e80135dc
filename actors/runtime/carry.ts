import { windowSlots } from '../rolling/window.ts';
import { H, HEADER_SLOTS, METRIC_SLOTS, PREDICTION_SLOTS, R, RULE_RAISED, RULE_SLOTS } from './layout.ts';
import type { Fingerprint } from './snapshot.ts';
import { metricsOf, newState, type TwinState } from './state.ts';

/**
 * Carries a state over to a new layout of its kind: the header, rules of the same name, predictions of the same name,
 * metrics of the same name, and of those the windows with the same name, span and panes. What is new starts empty, what
 * is gone is dropped. Pure.
 */
export function carryOver(old: TwinState, was: Fingerprint): TwinState {
  const next = newState(old.kind, old.twinId);
  next.recent = old.recent;
  next.aside = old.aside;
  const names = metricsOf(old);
  if (old.kind.openMetrics) next.n = new Float64Array(next.layout.firstMetric + names.length * next.layout.metricBlock);
  const copy = (from: number, into: number, length: number): void =>
    next.n.set(old.n.subarray(from, from + length), into);

  copy(0, 0, HEADER_SLOTS);
  old.kind.rules.forEach((rule, index) => {
    const before = was.rules.indexOf(rule.name);
    if (before >= 0) copy(HEADER_SLOTS + before * RULE_SLOTS, HEADER_SLOTS + index * RULE_SLOTS, RULE_SLOTS);
  });
  // a rule that is gone takes its standing alert with it
  next.n[H.RAISED] = 0;
  old.kind.rules.forEach((_, index) => {
    if (next.n[HEADER_SLOTS + index * RULE_SLOTS + R.STATE] === RULE_RAISED) next.n[H.RAISED]++;
  });
  const predictionsWas = was.predictions ?? [];
  const firstPredictionWas = HEADER_SLOTS + was.rules.length * RULE_SLOTS;
  for (const { name, offset } of next.layout.predictions) {
    const before = predictionsWas.indexOf(name);
    if (before >= 0) copy(firstPredictionWas + before * PREDICTION_SLOTS, offset, PREDICTION_SLOTS);
  }
  for (const name of predictionsWas)
    if (!old.kind.predictionNames.includes(name)) delete next.aside.predictions?.[name];
  const blockWas = METRIC_SLOTS + was.windows.reduce((sum, [, , panes]) => sum + windowSlots(panes), 0);
  const firstWas = firstPredictionWas + predictionsWas.length * PREDICTION_SLOTS;
  names.forEach((name, index) => {
    const before = was.metrics.indexOf(name);
    if (before < 0) return;
    const from = firstWas + before * blockWas;
    const into = next.layout.firstMetric + index * next.layout.metricBlock;
    copy(from, into, METRIC_SLOTS);
    let offset = METRIC_SLOTS;
    for (const [window, spanMs, panes] of was.windows) {
      const plan = next.layout.windows.find((w) => w.name === window && w.spanMs === spanMs && w.panes === panes);
      if (plan) copy(from + offset, into + plan.offset, windowSlots(panes));
      offset += windowSlots(panes);
    }
  });
  return next;
}
