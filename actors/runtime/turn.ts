import type { Entry, ReadingEntry, Severity } from '../protocol/entry.ts';
import type { Emitted } from '../protocol/event.ts';
import type { Health } from '../protocol/view.ts';
import { addToWindow } from '../rolling/window.ts';
import { foldCommand } from './commands.ts';
import { detect } from './detectors.ts';
import { foldPrediction } from './foretelling.ts';
import { identityHash, valuesHash } from './identity.ts';
import { COOLDOWN_MS, H, M, R, RULE_RAISED } from './layout.ts';
import { type EffectiveRule, judge, judgeTick, nextHold, rulesFor } from './rules.ts';
import { MAX_ATTRIBUTES, openMetricOffset, type TwinState, tuningOf } from './state.ts';
import { deltaOf } from './view.ts';

/**
 * The turn: folds one journal entry into the state of one twin.
 *
 * Owns what an entry means. Does not own whether a reading is new, who may command, what is stored: the host does.
 *
 * Invariants:
 *  1  Pure and synchronous: state and entry in, changed state and events out; no clock, no chance, no I/O.
 *  2  Same entries, same kind version, same state, bit for bit; live and replay take this one path (replay drops `out`).
 *  3  Revisions follow one another; an entry out of turn throws.
 *  4  A late reading (inside the lateness window, but not newest) changes statistics and counts, never reported values,
 *     rules or detectors: those speak of now.
 */
export function fold(state: TwinState, entry: Entry, out: Emitted[]): void {
  const n = state.n;
  if (entry.revision !== n[H.REVISION] + 1) {
    throw new Error(`entry ${entry.revision} does not follow revision ${n[H.REVISION]} of ${state.twinId}`);
  }
  n[H.REVISION] = entry.revision;
  if (n[H.CREATED] === 0) {
    n[H.CREATED] = entry.receivedAt;
    out.push({ type: 'twin.created', at: entry.receivedAt, body: { kind: state.kind.kind } });
  }
  switch (entry.type) {
    case 'reading':
      foldReading(state, entry, out);
      break;
    case 'tick':
      judgeTick(state, entry.receivedAt, out);
      if (n[H.ONLINE] === 1 && entry.receivedAt - n[H.RECEIVED] >= state.kind.silentAfterMs) {
        goOffline(
          state,
          entry.receivedAt,
          `no data for ${Math.round((entry.receivedAt - n[H.RECEIVED]) / 1000)} s`,
          out,
        );
      }
      break;
    case 'command':
      foldCommand(state, entry.command, entry, out);
      break;
    case 'tuning':
      state.aside.tuning = entry.tuning;
      break;
    case 'prediction':
      foldPrediction(state, entry, out);
      break;
  }
  // tuning may have been replaced by the entry: the rules are looked up after it
  const rules = rulesFor(state).all;
  settleHealth(state, rules, entry.receivedAt, out);
  // a new open metric makes the array anew: `n` may be the one before
  state.n[H.WAKE] = wakeAt(state, rules);
}

function foldReading(state: TwinState, entry: ReadingEntry, out: Emitted[]): void {
  const { reading, receivedAt } = entry;
  const { kind, layout } = state;
  const at = reading.at;
  const tuning = tuningOf(state);
  const rules = rulesFor(state).byMetric;
  const newest = at >= state.n[H.AT];
  let flagged = 0;
  const values = reading.values;
  // in an order that storage cannot change: replay would lay out the metrics of an open kind otherwise
  const names = kind.openMetrics ? Object.keys(values).sort() : kind.metricNames;
  for (let i = 0; i < names.length; i++) {
    const name = names[i];
    const value = values[name];
    if (value === undefined) continue;
    const m = kind.openMetrics ? openMetricOffset(state, name) : layout.firstMetric + i * layout.metricBlock;
    const n = state.n;
    const first = n[m + M.COUNT] === 0;
    const previousAt = first ? Number.NaN : n[m + M.AT];
    const newestOfMetric = first || at >= previousAt;
    if (newestOfMetric) {
      const anomaly = detect(state, name, m, value, at);
      if (anomaly !== null) {
        if (i < 52) flagged += 2 ** i;
        const cooldownMs = kind.detectors.cooldownMs ?? COOLDOWN_MS;
        if (n[m + M.ANOMALY_AT] === 0 || at - n[m + M.ANOMALY_AT] >= cooldownMs) {
          n[m + M.ANOMALY_AT] = at;
          n[H.ANOMALIES]++;
          n[H.LAST_ANOMALY] = at;
          out.push({ type: 'anomaly.detected', at, body: { ...anomaly } });
        }
      }
    }
    for (let w = 0; w < layout.windows.length; w++) {
      const plan = layout.windows[w];
      addToWindow(n, m + plan.offset, plan, value, at, previousAt);
    }
    n[m + M.COUNT]++;
    if (newestOfMetric) {
      n[m + M.LAST] = value;
      n[m + M.AT] = at;
      n[m + M.RECEIVED] = receivedAt;
      const judged = rules.get(name);
      if (judged !== undefined)
        for (let r = 0; r < judged.length; r++) judge(state, judged[r], value, at, receivedAt, out);
    }
  }
  const n = state.n;
  n[H.ACCEPTED]++;
  if (newest) {
    n[H.AT] = at;
    n[H.FLAGGED] = flagged;
  } else {
    n[H.LATE]++;
  }
  if (receivedAt > n[H.RECEIVED]) n[H.RECEIVED] = receivedAt;
  if (n[H.ONLINE] === 0) {
    n[H.ONLINE] = 1;
    const silentSince = n[H.OFFLINE_SINCE];
    n[H.OFFLINE_SINCE] = 0;
    out.push({ type: 'twin.online', at, body: silentSince > 0 ? { offlineSince: silentSince } : {} });
  }
  if (reading.attributes !== undefined) takeAttributes(state, reading.attributes);
  tellDelta(state, at, out);
  if (reading.unit !== undefined && kind.openMetrics) {
    state.aside.units ??= {};
    for (const name of names) state.aside.units[name] = reading.unit;
  }
  const floor = n[H.AT] - tuning.latenessMs;
  if (floor > n[H.FLOOR]) n[H.FLOOR] = floor;
  state.recent.add(at, identityHash(kind, reading), valuesHash(kind, reading));
  state.recent.forget(n[H.FLOOR]);
}

/** The device may have come to what is desired of it, or gone from it: then the delta that it is told changes. */
function tellDelta(state: TwinState, at: number, out: Emitted[]): void {
  const { aside } = state;
  if (aside.told === undefined) return;
  const delta = deltaOf(state);
  const told = Object.keys(delta).sort().join(',');
  if (told === aside.told) return;
  aside.told = told;
  out.push({ type: 'desired.changed', at, body: { desired: aside.desired, delta, by: state.twinId } });
}

/** Names beyond the bound are not taken: devices that make up names must not make their twin grow for ever. */
function takeAttributes(state: TwinState, attributes: Record<string, string | number | boolean>): void {
  const kept = state.aside.attributes;
  let room = MAX_ATTRIBUTES - Object.keys(kept).length;
  for (const name of Object.keys(attributes)) {
    if (!Object.hasOwn(kept, name) && room-- <= 0) continue;
    kept[name] = attributes[name];
  }
}

export function goOffline(state: TwinState, receivedAt: number, reason: string, out: Emitted[]): void {
  if (state.n[H.ONLINE] === 0) return;
  state.n[H.ONLINE] = 0;
  state.n[H.OFFLINE_SINCE] = receivedAt;
  out.push({ type: 'twin.offline', at: receivedAt, body: { reason, lastSeen: state.n[H.RECEIVED] } });
}

const HEALTHS: readonly Health[] = ['unknown', 'ok', 'warning', 'critical'];

export function healthOf(state: TwinState): Health {
  return HEALTHS[state.n[H.HEALTH]];
}

/** Worst severity of the standing alerts, or null. */
export function worstAlert(state: TwinState, rules: readonly EffectiveRule[]): Severity | null {
  if (state.n[H.RAISED] === 0) return null;
  let worst: Severity | null = null;
  for (const rule of rules) {
    if (state.n[rule.offset + R.STATE] !== RULE_RAISED) continue;
    if (worst === null || RANK[rule.severity] > RANK[worst]) worst = rule.severity;
  }
  return worst;
}

const RANK: Record<Severity, number> = { info: 0, warning: 1, high: 2, critical: 3 };

function settleHealth(state: TwinState, rules: readonly EffectiveRule[], at: number, out: Emitted[]): void {
  const n = state.n;
  let health = 0;
  if (n[H.ONLINE] === 1) {
    const worst = worstAlert(state, rules);
    health = worst === null || worst === 'info' ? 1 : worst === 'critical' ? 3 : 2;
  }
  if (health === n[H.HEALTH]) return;
  out.push({ type: 'health.changed', at, body: { from: HEALTHS[n[H.HEALTH]], to: HEALTHS[health] } });
  n[H.HEALTH] = health;
}

/** When the twin next wants to be told the time: a hold that runs out, or its silence. 0: never. */
function wakeAt(state: TwinState, rules: readonly EffectiveRule[]): number {
  const n = state.n;
  if (n[H.RETIRED] === 1) return 0;
  const hold = nextHold(state, rules);
  const silence = n[H.ONLINE] === 1 ? n[H.RECEIVED] + state.kind.silentAfterMs : 0;
  if (hold === 0) return silence;
  return silence === 0 ? hold : Math.min(hold, silence);
}
