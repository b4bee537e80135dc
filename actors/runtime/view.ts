import type { AlertView, Stale, TwinView, WindowView } from '../protocol/view.ts';
import { viewWindow } from '../rolling/window.ts';
import { H, M, R, RULE_RAISED } from './layout.ts';
import { type FailingModels, predictionsOf, type RefusedPredictions } from './prediction-view.ts';
import { alertBody, alertIdOf, rulesFor } from './rules.ts';
import { metricsOf, type TwinState } from './state.ts';
import { healthOf } from './turn.ts';

/** What the host counts about a twin beside its state: not part of any fold. */
export interface IngestCounts {
  duplicates: number;
  backfilled: number;
}

const iso = (ms: number): string => new Date(ms).toISOString();

/**
 * The twin as an operator sees it: a copy, sharing nothing with the state. `failing`: models that do not answer now, `refused`:
 * predictions whose models have no answer for this twin.
 */
export function viewOf(
  state: TwinState,
  counts: IngestCounts,
  stale: Stale | null,
  failing: FailingModels | null = null,
  refused: RefusedPredictions | null = null,
): TwinView {
  const { n, aside, layout } = state;
  const reported: Record<string, number> = {};
  const rolling: Record<string, Record<string, WindowView>> = {};
  const names = metricsOf(state);
  for (let i = 0; i < names.length; i++) {
    const m = layout.firstMetric + i * layout.metricBlock;
    if (n[m + M.COUNT] === 0) continue;
    reported[names[i]] = n[m + M.LAST];
    const windows: Record<string, WindowView> = {};
    for (const plan of layout.windows) windows[plan.name] = viewWindow(n, m + plan.offset, plan, n[m + M.LAST]);
    rolling[names[i]] = windows;
  }
  const alerts = alertsOf(state);
  const reasons = alerts.map((alert) => alert.message);
  const offline = n[H.ONLINE] === 0 && n[H.RETIRED] === 0 && n[H.ACCEPTED] > 0;
  if (offline) reasons.push(`offline since ${iso(n[H.OFFLINE_SINCE])}, last seen ${iso(n[H.RECEIVED])}`);
  const silent: Stale | null = offline
    ? {
        reason: 'device silent',
        since: iso(n[H.RECEIVED]),
        remedy: 'Check the power and the connection of the device.',
      }
    : null;
  return {
    twinId: state.twinId,
    kind: state.kind.kind,
    revision: n[H.REVISION],
    at: n[H.ACCEPTED] > 0 ? iso(n[H.AT]) : null,
    receivedAt: n[H.ACCEPTED] > 0 ? iso(n[H.RECEIVED]) : null,
    attributes: { ...aside.attributes },
    reported,
    ...(aside.units ? { units: { ...aside.units } } : {}),
    rolling,
    desired: structuredClone(aside.desired),
    delta: deltaOf(state),
    predictions: predictionsOf(state, failing, refused),
    health: { status: healthOf(state), reasons },
    alerts,
    online: n[H.ONLINE] === 1,
    retired: n[H.RETIRED] === 1,
    maintenance: aside.maintenance
      ? { at: iso(aside.maintenance.at), work: aside.maintenance.work, by: aside.maintenance.by }
      : null,
    ingest: {
      accepted: n[H.ACCEPTED],
      late: n[H.LATE],
      duplicate: counts.duplicates,
      backfill: counts.backfilled,
      lagMs: n[H.ACCEPTED] > 0 ? n[H.RECEIVED] - n[H.AT] : null,
    },
    // a silent twin would not be asked about anyhow
    stale: silent !== null && (stale === null || stale.reason === 'inference down') ? silent : stale,
  };
}

function alertsOf(state: TwinState): AlertView[] {
  if (state.n[H.RAISED] === 0) return [];
  const alerts: AlertView[] = [];
  for (const rule of rulesFor(state).all) {
    const r = rule.offset;
    if (state.n[r + R.STATE] !== RULE_RAISED) continue;
    const acknowledged = state.aside.acknowledged?.[rule.name];
    alerts.push({
      alertId: alertIdOf(state, rule),
      rule: rule.name,
      severity: rule.severity,
      message: alertBody(state, rule).message as string,
      state: acknowledged ? 'acknowledged' : 'raised',
      raisedAt: iso(state.n[r + R.RAISED_AT]),
      ...(acknowledged ? { acknowledgedBy: acknowledged.by } : {}),
      ...(state.n[r + R.SILENCED_UNTIL] > 0 ? { silencedUntil: iso(state.n[r + R.SILENCED_UNTIL]) } : {}),
    });
  }
  return alerts;
}

/** What is desired and not reported (yet): the members of `desired` that differ from reported values and attributes. */
export function deltaOf(state: TwinState): Record<string, unknown> {
  const { desired, attributes } = state.aside;
  const delta: Record<string, unknown> = {};
  for (const name of Object.keys(desired)) {
    const is = reported(state, name) ?? (Object.hasOwn(attributes, name) ? attributes[name] : undefined);
    if (is === undefined || JSON.stringify(is) !== JSON.stringify(desired[name]))
      delta[name] = structuredClone(desired[name]);
  }
  return delta;
}

function reported(state: TwinState, name: string): number | undefined {
  const index = metricsOf(state).indexOf(name);
  if (index < 0) return undefined;
  const m = state.layout.firstMetric + index * state.layout.metricBlock;
  return state.n[m + M.COUNT] > 0 ? state.n[m + M.LAST] : undefined;
}
