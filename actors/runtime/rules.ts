import type { RuleOverride, Tuning } from '../protocol/entry.ts';
import type { AlertBody, Emitted } from '../protocol/event.ts';
import type { Kind, RuleDefinition } from '../protocol/kind.ts';
import { predictionOf } from '../protocol/model-use.ts';
import { H, HEADER_SLOTS, R, RULE_IDLE, RULE_PENDING, RULE_RAISED, RULE_SLOTS } from './layout.ts';
import { type TwinState, tuningOf } from './state.ts';

/**
 * Threshold rules with hold, hysteresis and cooldown: a small state machine a rule.
 *
 *     idle ──condition──▶ pending ──held for holdMs──▶ raised ──inside by hysteresis──▶ idle (quiet for cooldownMs)
 *       ▲                    │ condition gone
 *       └────────────────────┘
 *
 * Times are event times; a hold that runs out while nothing arrives is ended by a tick, in received time.
 */
export interface EffectiveRule extends RuleDefinition {
  readonly enabled: boolean;
  readonly index: number;
  /** Offset of its slots. */
  readonly offset: number;
}

export interface RuleSet {
  readonly all: readonly EffectiveRule[];
  readonly byMetric: ReadonlyMap<string, readonly EffectiveRule[]>;
  /** Rules on `predictions.<name>`, by that name: no metric of a device can be taken for one. */
  readonly byPrediction: ReadonlyMap<string, readonly EffectiveRule[]>;
}

const sets = new WeakMap<Kind, WeakMap<Tuning, RuleSet>>();

/** The rules of a kind under a tuning. */
export function rulesOf(kind: Kind, tuning: Tuning): RuleSet {
  let byTuning = sets.get(kind);
  if (!byTuning) {
    byTuning = new WeakMap();
    sets.set(kind, byTuning);
  }
  let set = byTuning.get(tuning);
  if (!set) {
    const all = kind.rules.map((rule, index): EffectiveRule => {
      const override: RuleOverride = tuning.rules[rule.name] ?? {};
      return {
        ...rule,
        ...override,
        enabled: override.enabled ?? true,
        index,
        offset: HEADER_SLOTS + index * RULE_SLOTS,
      };
    });
    const byMetric = new Map<string, EffectiveRule[]>();
    const byPrediction = new Map<string, EffectiveRule[]>();
    for (const rule of all) {
      const prediction = predictionOf(rule.metric);
      const [map, name] = prediction === null ? [byMetric, rule.metric] : [byPrediction, prediction];
      map.set(name, [...(map.get(name) ?? []), rule]);
    }
    set = { all, byMetric, byPrediction };
    byTuning.set(tuning, set);
  }
  return set;
}

/** The rules a twin is under: looked up once and kept beside its state until its tuning changes. */
export function rulesFor(state: TwinState): RuleSet {
  const tuning = tuningOf(state);
  const kept = state.rules;
  if (kept !== null && kept.tuning === tuning) return kept.set;
  const set = rulesOf(state.kind, tuning);
  state.rules = { tuning, set };
  return set;
}

/** Judges the newest value of a metric or prediction. */
export function judge(
  state: TwinState,
  rule: EffectiveRule,
  value: number,
  at: number,
  receivedAt: number,
  out: Emitted[],
): void {
  const n = state.n;
  const r = rule.offset;
  const status = n[r + R.STATE];
  const beyond = rule.enabled && (rule.above !== undefined ? value > rule.above : value < rule.below!);
  n[r + R.VALUE] = value;
  if (status === RULE_RAISED) {
    const inside =
      rule.above !== undefined ? value <= rule.above - rule.hysteresis : value >= rule.below! + rule.hysteresis;
    if (inside || !rule.enabled) clear(state, rule, at, out, 'alert.cleared', { message: over(state, rule, value) });
    return;
  }
  if (!beyond) {
    if (status === RULE_PENDING) n[r + R.STATE] = RULE_IDLE;
    return;
  }
  if (status === RULE_IDLE) {
    if (n[r + R.CLEARED_AT] > 0 && at < n[r + R.CLEARED_AT] + rule.cooldownMs) return;
    n[r + R.STATE] = RULE_PENDING;
    n[r + R.SINCE_AT] = at;
    n[r + R.SINCE_RECEIVED] = receivedAt;
  }
  if (at - n[r + R.SINCE_AT] >= rule.holdMs) raise(state, rule, at, out);
}

/** Holds that ran out by received time. */
export function judgeTick(state: TwinState, receivedAt: number, out: Emitted[]): void {
  for (const rule of rulesFor(state).all) {
    const r = rule.offset;
    if (state.n[r + R.STATE] === RULE_PENDING && receivedAt - state.n[r + R.SINCE_RECEIVED] >= rule.holdMs) {
      raise(state, rule, state.n[H.AT], out);
    }
  }
}

/** When the next hold runs out, received time; 0 for none. */
export function nextHold(state: TwinState, rules: readonly EffectiveRule[]): number {
  let next = 0;
  for (const rule of rules) {
    if (state.n[rule.offset + R.STATE] !== RULE_PENDING) continue;
    const due = state.n[rule.offset + R.SINCE_RECEIVED] + rule.holdMs;
    if (next === 0 || due < next) next = due;
  }
  return next;
}

/** `<twinId>~<rule>~<revision that raised it>`. */
export function alertIdOf(state: TwinState, rule: EffectiveRule): string {
  return `${state.twinId}~${rule.name}~${state.n[rule.offset + R.RAISED_REVISION]}`;
}

export function alertBody(state: TwinState, rule: EffectiveRule, extra?: Partial<AlertBody>): Record<string, unknown> {
  const value = state.n[rule.offset + R.VALUE];
  return {
    alertId: alertIdOf(state, rule),
    rule: rule.name,
    severity: rule.severity,
    message: rule.message.replaceAll('{value}', String(rounded(value))),
    value,
    ...extra,
  };
}

/** What is said of an alert that has cleared: its own message speaks of a condition that is gone. */
function over(state: TwinState, rule: EffectiveRule, value: number): string {
  const unit = state.kind.metrics[rule.metric]?.unit ?? state.aside.units?.[rule.metric] ?? '';
  const amount = (x: number) => `${rounded(x)} ${unit}`.trimEnd();
  const now = `${rule.metric} is ${amount(value)}`;
  if (!rule.enabled) return `It is over: the rule has been switched off; ${now}.`;
  return `It is over: ${now}; the limit is ${amount((rule.above ?? rule.below)!)}.`;
}

/** As texts show numbers: four significant digits. */
function rounded(x: number): number {
  return Number(x.toPrecision(4));
}

function raise(state: TwinState, rule: EffectiveRule, at: number, out: Emitted[]): void {
  const n = state.n;
  const r = rule.offset;
  n[r + R.STATE] = RULE_RAISED;
  n[r + R.RAISED_REVISION] = n[H.REVISION];
  n[r + R.RAISED_AT] = at;
  n[r + R.SILENCED_UNTIL] = 0;
  n[H.RAISED]++;
  out.push({ type: 'alert.raised', at, body: alertBody(state, rule) });
}

/** Ends a standing alert: by itself (`alert.cleared`) or by an operator (`alert.resolved`). */
export function clear(
  state: TwinState,
  rule: EffectiveRule,
  at: number,
  out: Emitted[],
  type: 'alert.cleared' | 'alert.resolved',
  extra?: Partial<AlertBody>,
): void {
  const n = state.n;
  const r = rule.offset;
  out.push({ type, at, body: alertBody(state, rule, extra) });
  n[r + R.STATE] = RULE_IDLE;
  n[r + R.CLEARED_AT] = at;
  n[H.RAISED]--;
  if (state.aside.acknowledged?.[rule.name]) delete state.aside.acknowledged[rule.name];
}
