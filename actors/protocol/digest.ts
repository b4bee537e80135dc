import type { TwinView } from './view.ts';

/**
 * The sentences that digests are made of. A number that is missing or not finite drops its part of the sentence, so that
 * a digest never says undefined, NaN or null.
 */

/** `12.3 °C`: at most `digits` decimals, trailing zeros dropped; null where there is no number. */
export function amount(value: number | null | undefined, unit: string, digits = 1): string | null {
  if (typeof value !== 'number' || !Number.isFinite(value)) return null;
  // `+ 0` turns the -0 of a rounded small negative into 0.
  const text = String(Number(value.toFixed(digits)) + 0);
  return unit === '' ? text : `${text} ${unit}`;
}

/** Joins the parts that are there into one sentence after `subject`; null where none is. */
export function sentence(subject: string, parts: readonly (string | null)[]): string | null {
  const there = parts.filter((part) => part !== null);
  if (there.length === 0) return null;
  const last = there.length - 1;
  return `${subject} ${there.length === 1 ? there[0] : `${there.slice(0, last).join(', ')} and ${there[last]}`}.`;
}

/** How a metric went over a window, e.g. `Over the last 5m temperature lay between 21 and 22.5 °C (mean 21.7) and rose by 0.4 °C.` */
export function trend(view: TwinView, metric: string, window: string, unit: string, spanMs: number): string | null {
  const w = view.rolling[metric]?.[window];
  if (!w || w.count < 2) return null;
  const lo = amount(w.min, '');
  const hi = amount(w.max, unit);
  if (lo === null || hi === null) return null;
  const mean = amount(w.mean, '');
  const change = typeof w.slope === 'number' && Number.isFinite(w.slope) ? (w.slope * spanMs) / 1000 : null;
  const moved = amount(change === null ? null : Math.abs(change), unit);
  const going =
    change === null || moved === null || Number.parseFloat(moved) === 0
      ? ' and was steady'
      : `, ${change > 0 ? 'rising' : 'falling'} at ${moved} in ${window}`;
  return `Over the last ${window} ${metric} lay between ${lo} and ${hi}${mean === null ? '' : ` (mean ${mean})`}${going}.`;
}

/** Whether it speaks, how it is, what stands against it, what was last done to it. */
export function standing(view: TwinView): string {
  const out: string[] = [];
  if (view.retired) out.push('It is retired.');
  else if (view.at === null) out.push('It has not reported yet.');
  else if (!view.online) out.push(`It is offline; the last reading is of ${view.at}.`);
  else out.push(`The last reading is of ${view.at}.`);
  const reasons = view.health.reasons.length > 0 ? ` (${view.health.reasons.join('; ')})` : '';
  out.push(`Health is ${view.health.status}${reasons}.`);
  if (view.alerts.length === 0) out.push('No alert stands.');
  for (const alert of view.alerts) {
    out.push(`Alert ${alert.rule} (${alert.severity}, ${alert.state} since ${alert.raisedAt}): ${alert.message}`);
  }
  const wanted = Object.keys(view.delta);
  if (wanted.length > 0) out.push(`Desired but not yet reported: ${wanted.join(', ')}.`);
  if (view.maintenance) {
    out.push(`Last maintenance: ${view.maintenance.work}, ${view.maintenance.at}, by ${view.maintenance.by}.`);
  }
  if (view.stale) out.push(`What is shown may be old: ${view.stale.reason} since ${view.stale.since}.`);
  return out.join(' ');
}

/** The asset id of a view, without the kind. */
export function assetOf(view: TwinView): string {
  return view.twinId.slice(view.kind.length + 1);
}

/** One paragraph of the sentences that are there. */
export function paragraph(sentences: readonly (string | null)[]): string {
  return sentences.filter((text) => text !== null).join(' ');
}
