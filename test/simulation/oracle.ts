import type { Command, Entry, PredictionEntry, RuleOverride } from '../../actors/protocol/entry.ts';
import type { Kind, ModelUse, RuleDefinition } from '../../actors/protocol/kind.ts';
import type { Prediction } from '../../actors/protocol/prediction.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import { type Reading, statisticsOf, type WindowStatistics } from './statistics.ts';

/**
 * What a twin has to be after its journal, worked out the slow and plain way. Shares no code with the runtime: whole lists
 * of readings instead of panes, an object a rule instead of slots, identities as text.
 */
export interface Expected {
  revision: number;
  at: number | null;
  reported: Record<string, number>;
  rolling: Record<string, Record<string, WindowStatistics>>;
  desired: Record<string, unknown>;
  attributes: Record<string, unknown>;
  alerts: { rule: string; alertId: string; acknowledged: boolean }[];
  health: string;
  online: boolean;
  retired: boolean;
  accepted: number;
  late: number;
  maintenance: string | null;
  predictions: Record<string, { at: number; basedOn: number; value?: number; score?: number }>;
}

interface Rule {
  definition: RuleDefinition;
  state: 'idle' | 'pending' | 'raised';
  sinceAt: number;
  sinceReceived: number;
  clearedAt: number | null;
  alertId: string;
  acknowledged: boolean;
}

interface Metric {
  readings: Reading[];
  /** Event time of the newest, in order of arrival where equal. */
  newestAt: number;
  last: number;
  ewma: Map<string, number>;
  lastAnomalyAt: number | null;
  held: { count: number; mean: number; std: number; since: number; last: number } | null;
}

export interface OracleEvent {
  type: string;
  /** What tells it from others of its type: rule, metric, reason. */
  about: string;
}

/** What the oracle knows of a prediction. */
interface Foretold {
  at: number;
  basedOn: number;
  said: Record<string, unknown>;
  lastAnomalyAt: number | null;
  action: Action;
}

type Action = 'none' | 'inspect' | 'schedule_maintenance' | 'stop';

/** Readings older than any window are of no use; no kind of the simulation has a longer one. */
const LONGEST_MS = 120_000;

export class TwinOracle {
  readonly twinId: string;
  kind: Kind;
  revision = 0;
  latenessMs = 600_000;
  floor: number | null = null;
  newestAt: number | null = null;
  newestReceived = 0;
  retired = false;
  online = false;
  accepted = 0;
  late = 0;
  /** When it wants a tick, received time. */
  wakeAt: number | null = null;
  #created = false;
  #health = 'unknown';
  #overrides: Record<string, RuleOverride> = {};
  readonly #metrics = new Map<string, Metric>();
  readonly #rules: Rule[];
  #desired: Record<string, unknown> = {};
  #attributes: Record<string, unknown> = {};
  #maintenance: string | null = null;
  readonly #foretold = new Map<string, Foretold>();

  constructor(twinId: string, kind: Kind) {
    this.twinId = twinId;
    this.kind = kind;
    this.#rules = kind.rules.map((definition) => ({
      definition,
      state: 'idle',
      sinceAt: 0,
      sinceReceived: 0,
      clearedAt: null,
      alertId: '',
      acknowledged: false,
    }));
  }

  /** From here on another version of the kind folds. */
  become(kind: Kind): void {
    this.kind = kind;
    for (const [index, rule] of this.#rules.entries()) rule.definition = kind.rules[index];
  }

  /**
   * Folds one entry; answers the events that it has to emit, in order. Throws what is wrong with the entry. `anew`: it was
   * made by another version of the kind, to which other times were due.
   */
  apply(entry: Entry, anew = false): OracleEvent[] {
    if (entry.revision !== this.revision + 1) {
      throw new Error(`${this.twinId}: revision ${entry.revision} follows ${this.revision}`);
    }
    this.revision = entry.revision;
    const out: OracleEvent[] = [];
    if (!this.#created) out.push({ type: 'twin.created', about: this.kind.kind });
    this.#created = true;
    if (entry.type === 'reading') this.#reading(entry.reading.at, entry.reading.values, entry.receivedAt, out);
    if (entry.type === 'reading') Object.assign(this.#attributes, entry.reading.attributes);
    if (entry.type === 'tick') this.#tick(entry.receivedAt, anew, out);
    if (entry.type === 'command') this.#command(entry.command, entry.receivedAt, anew, out);
    if (entry.type === 'prediction') this.#prediction(entry, out);
    if (entry.type === 'tuning') {
      this.latenessMs = entry.tuning.latenessMs;
      this.#overrides = entry.tuning.rules;
    }
    this.#settle(out);
    return out;
  }

  expected(): Expected {
    const reported: Record<string, number> = {};
    const rolling: Expected['rolling'] = {};
    for (const [name, metric] of this.#metrics) {
      reported[name] = metric.last;
      rolling[name] = {};
      for (const window of this.kind.windowNames) {
        const { spanMs, panes } = this.kind.windows[window];
        rolling[name][window] = {
          ...statisticsOf(inWindow(metric, spanMs, panes), metric.last),
          ewma: metric.ewma.get(window)!,
        };
      }
    }
    const raised = this.#rules.filter((rule) => rule.state === 'raised');
    return {
      revision: this.revision,
      at: this.newestAt,
      reported,
      rolling,
      desired: this.#desired,
      attributes: this.#attributes,
      alerts: raised.map(({ definition, alertId, acknowledged }) => ({ rule: definition.name, alertId, acknowledged })),
      health: this.#health,
      online: this.online,
      retired: this.retired,
      accepted: this.accepted,
      late: this.late,
      maintenance: this.#maintenance,
      predictions: Object.fromEntries(
        [...this.#foretold]
          .filter(([name]) => this.kind.predictionNames.includes(name))
          .map(([name, { at, basedOn, said }]) => [name, { at, basedOn, value: said.value, score: said.score }]),
      ) as Expected['predictions'],
    };
  }

  /** Value of a metric as last reported. */
  reported(metric: string): number | undefined {
    return this.#metrics.get(metric)?.last;
  }

  /** Whether the twin is to be asked about, as the kind says it. */
  isDue(name: string): boolean {
    const use = this.kind.models?.[name];
    if (use === undefined || this.retired || this.newestAt === null) return false;
    if (this.accepted < (use.minReadings ?? 1)) return false;
    for (const metric of this.kind.metricNames) {
      const named = use.inputs.some((input) => input === metric || input.startsWith(`${metric}.`));
      if (named && !this.#metrics.has(metric)) return false;
    }
    const before = this.#foretold.get(name);
    if (before === undefined) return true;
    return this.newestAt - before.at >= use.everyMs;
  }

  #prediction({ name, basedOn, prediction, receivedAt }: PredictionEntry, out: OracleEvent[]): void {
    if (this.retired) throw new Error(`${this.twinId}: a prediction was folded though the twin is retired`);
    const use = this.kind.models?.[name];
    const { lastAnomalyAt = null, action = 'none' } = this.#foretold.get(name) ?? {};
    const at = prediction.at as number;
    const foretold: Foretold = { at, basedOn, said: prediction, lastAnomalyAt, action };
    this.#foretold.set(name, foretold);
    const { value, score, threshold, contributions } = prediction as Partial<Prediction>;
    if (use?.anomaly && score! > threshold!) {
      const cooldownMs = use.anomaly.cooldownMs ?? this.kind.detectors.cooldownMs!;
      if (lastAnomalyAt === null || at - lastAnomalyAt >= cooldownMs) {
        foretold.lastAnomalyAt = at;
        const most = Math.max(...Object.values(contributions!));
        const metrics = Object.keys(contributions!).filter((metric) => contributions![metric] === most);
        out.push({ type: 'anomaly.detected', about: metrics.sort()[0] });
      }
    }
    if (use?.maintenance) {
      foretold.action = actionOf(value!, action, use.maintenance);
      if (foretold.action !== action) out.push({ type: 'maintenance.predicted', about: `${name} ${foretold.action}` });
    }
    const judged = score === undefined ? value! : score / threshold!;
    for (const rule of this.#rules)
      if (rule.definition.metric === `predictions.${name}`) this.#judge(rule, judged, at, receivedAt, out);
  }

  #reading(at: number, values: Record<string, number>, receivedAt: number, out: OracleEvent[]): void {
    if (this.retired) throw new Error(`${this.twinId}: a reading was folded though the twin is retired`);
    if (this.floor !== null && at <= this.floor) {
      throw new Error(`${this.twinId}: a reading of ${at} was folded though all at or below ${this.floor} is too old`);
    }
    const names = this.kind.openMetrics ? Object.keys(values) : this.kind.metricNames;
    for (const name of names) if (values[name] !== undefined) this.#value(name, values[name], at, receivedAt, out);
    this.accepted++;
    if (this.newestAt === null || at >= this.newestAt) this.newestAt = at;
    else this.late++;
    this.newestReceived = Math.max(this.newestReceived, receivedAt);
    const floor = this.newestAt - this.latenessMs;
    if (this.floor === null || floor > this.floor) this.floor = Math.max(0, floor);
    if (!this.online) out.push({ type: 'twin.online', about: '' });
    this.online = true;
  }

  #value(name: string, value: number, at: number, receivedAt: number, out: OracleEvent[]): void {
    let metric = this.#metrics.get(name);
    const first = metric === undefined;
    metric ??= {
      readings: [],
      newestAt: at,
      last: value,
      ewma: new Map(),
      lastAnomalyAt: null,
      held: null,
    };
    this.#metrics.set(name, metric);
    const newest = first || at >= metric.newestAt;
    if (newest && !first && this.#isAnomaly(name, metric, value, at)) {
      const { cooldownMs = 300_000 } = this.kind.detectors;
      if (metric.lastAnomalyAt === null || at - metric.lastAnomalyAt >= cooldownMs) {
        metric.lastAnomalyAt = at;
        out.push({ type: 'anomaly.detected', about: name });
      }
    }
    for (const window of this.kind.windowNames) {
      const { spanMs } = this.kind.windows[window];
      const before = metric.ewma.get(window);
      if (before === undefined) metric.ewma.set(window, value);
      else if (at > metric.newestAt) {
        metric.ewma.set(window, before + (value - before) * (1 - Math.exp((metric.newestAt - at) / spanMs)));
      }
    }
    metric.readings.push({ at, value });
    if (metric.readings.length > 400)
      metric.readings = metric.readings.filter((r) => r.at > metric.newestAt - LONGEST_MS);
    if (!newest) return;
    metric.newestAt = at;
    metric.last = value;
    for (const rule of this.#rules) if (rule.definition.metric === name) this.#judge(rule, value, at, receivedAt, out);
  }

  #isAnomaly(name: string, metric: Metric, value: number, at: number): boolean {
    const z = this.kind.detectors.zscore;
    if (!z || (z.metrics && !z.metrics.includes(name))) return false;
    const { spanMs, panes } = this.kind.windows[z.window];
    const paneMs = spanMs / panes;
    const holdMs = z.holdMs ?? 0;
    if (metric.held && (at - metric.held.since > holdMs || at - metric.held.last > paneMs)) metric.held = null;
    let baseline = metric.held;
    if (!baseline) {
      if (paneOf(at, paneMs) - paneOf(metric.newestAt, paneMs) >= panes) return false;
      const { count, mean, std } = statisticsOf(inWindow(metric, spanMs, panes), metric.last);
      baseline = { count, mean: mean ?? 0, std: std ?? 0, since: at, last: at };
    }
    if (baseline.count < z.minCount) return false;
    const spread = Math.max(baseline.std, z.minStd?.[name] ?? 1e-9 * Math.abs(baseline.mean));
    if (spread <= 0 || Math.abs(value - baseline.mean) / spread <= z.threshold) return false;
    if (holdMs > 0) metric.held = { ...baseline, last: at };
    return true;
  }

  #judge(rule: Rule, value: number, at: number, receivedAt: number, out: OracleEvent[]): void {
    const { above, below, hysteresis, holdMs, cooldownMs, enabled } = this.#inForce(rule);
    const limit = above ?? below!;
    const beyond = enabled && (above !== undefined ? value > limit : value < limit);
    const inside = above !== undefined ? value <= limit - hysteresis : value >= limit + hysteresis;
    if (rule.state === 'raised') {
      if (inside || !enabled) this.#clear(rule, at, 'alert.cleared', out);
    } else if (!beyond) {
      rule.state = 'idle';
    } else {
      if (rule.state === 'idle') {
        if (rule.clearedAt !== null && at < rule.clearedAt + cooldownMs) return;
        rule.state = 'pending';
        rule.sinceAt = at;
        rule.sinceReceived = receivedAt;
      }
      if (at - rule.sinceAt >= holdMs) this.#raise(rule, out);
    }
  }

  #tick(receivedAt: number, anew: boolean, out: OracleEvent[]): void {
    if (!anew && (this.wakeAt === null || receivedAt < this.wakeAt)) {
      throw new Error(`${this.twinId}: a tick at ${receivedAt} though nothing was due before ${this.wakeAt}`);
    }
    for (const rule of this.#rules) {
      if (rule.state === 'pending' && receivedAt - rule.sinceReceived >= this.#inForce(rule).holdMs)
        this.#raise(rule, out);
    }
    if (this.online && receivedAt - this.newestReceived >= this.kind.silentAfterMs) this.#offline(out);
  }

  #command(command: Command, receivedAt: number, anew: boolean, out: OracleEvent[]): void {
    switch (command.name) {
      case 'desired':
        this.#desired = patched(this.#desired, command.patch);
        out.push({ type: 'desired.changed', about: '' });
        break;
      case 'attributes':
        this.#attributes = patched(this.#attributes, command.patch);
        break;
      case 'maintenance':
        this.#maintenance = command.work;
        out.push({ type: 'maintenance.recorded', about: command.work });
        break;
      case 'retire':
        this.retired = true;
        this.online = false;
        out.push({ type: 'twin.retired', about: '' });
        break;
      case 'restore':
        this.retired = false;
        out.push({ type: 'twin.restored', about: '' });
        break;
      case 'offline':
        if (this.online) this.#offline(out);
        break;
      case 'acknowledge':
      case 'resolve':
      case 'silence': {
        const rule = this.#rules.find((r) => r.state === 'raised' && r.alertId === command.alert);
        if (!rule && anew) break;
        if (!rule) throw new Error(`${this.twinId}: ${command.name} of ${command.alert}, which does not stand`);
        if (command.name === 'resolve') this.#clear(rule, receivedAt, 'alert.resolved', out);
        else out.push({ type: `alert.${command.name}d`, about: rule.alertId });
        if (command.name === 'acknowledge') rule.acknowledged = true;
        break;
      }
    }
  }

  #offline(out: OracleEvent[]): void {
    this.online = false;
    out.push({ type: 'twin.offline', about: '' });
  }

  #raise(rule: Rule, out: OracleEvent[]): void {
    rule.state = 'raised';
    rule.alertId = `${this.twinId}~${rule.definition.name}~${this.revision}`;
    rule.acknowledged = false;
    out.push({ type: 'alert.raised', about: rule.alertId });
  }

  #clear(rule: Rule, at: number, type: string, out: OracleEvent[]): void {
    out.push({ type, about: rule.alertId });
    rule.state = 'idle';
    rule.clearedAt = at;
    rule.acknowledged = false;
  }

  #inForce(rule: Rule): RuleDefinition & { enabled: boolean } {
    const override = this.#overrides[rule.definition.name] ?? {};
    return { ...rule.definition, ...override, enabled: override.enabled ?? true };
  }

  /** Health and the next wake, after every entry. */
  #settle(out: OracleEvent[]): void {
    const severities = this.#rules
      .filter((rule) => rule.state === 'raised')
      .map((rule) => this.#inForce(rule).severity);
    const health = !this.online
      ? 'unknown'
      : severities.includes('critical')
        ? 'critical'
        : severities.some((severity) => severity !== 'info')
          ? 'warning'
          : 'ok';
    if (health !== this.#health) out.push({ type: 'health.changed', about: `${this.#health}>${health}` });
    this.#health = health;
    const wakes = this.#rules
      .filter((rule) => rule.state === 'pending')
      .map((rule) => rule.sinceReceived + this.#inForce(rule).holdMs);
    if (this.online) wakes.push(this.newestReceived + this.kind.silentAfterMs);
    this.wakeAt = this.retired || wakes.length === 0 ? null : Math.min(...wakes);
  }
}

/** Where a view differs from what is expected at its revision, in words; null where it does not. */
export function difference(view: TwinView, expected: Expected): string | null {
  const compare: [string, unknown, unknown][] = [
    ['revision', view.revision, expected.revision],
    ['at', view.at === null ? null : Date.parse(view.at), expected.at],
    ['reported', view.reported, expected.reported],
    ['desired', view.desired, expected.desired],
    ['attributes', view.attributes, expected.attributes],
    ['health', view.health.status, expected.health],
    ['online', view.online, expected.online],
    ['retired', view.retired, expected.retired],
    ['accepted', view.ingest.accepted, expected.accepted],
    ['late', view.ingest.late, expected.late],
    ['maintenance', view.maintenance?.work ?? null, expected.maintenance],
    [
      'predictions',
      Object.fromEntries(
        Object.entries(view.predictions).map(([name, { at, basedOn, value, score }]) => [
          name,
          { at: Date.parse(at), basedOn, value, score },
        ]),
      ),
      expected.predictions,
    ],
    [
      'alerts',
      view.alerts.map(({ rule, alertId, state }) => ({ rule, alertId, acknowledged: state === 'acknowledged' })),
      expected.alerts,
    ],
  ];
  for (const [what, is, should] of compare) {
    if (canonical(is) !== canonical(should)) return `${what} is ${canonical(is)}, expected ${canonical(should)}`;
  }
  for (const [metric, windows] of Object.entries(expected.rolling)) {
    for (const [window, should] of Object.entries(windows)) {
      const is = view.rolling[metric]?.[window] as unknown as Record<string, number | null> | undefined;
      for (const [name, value] of Object.entries(should) as [string, number | null | undefined][]) {
        if (value === undefined) continue;
        // times are of the order of 10^12 ms: the running moments of a slope keep about five digits of seconds
        const within = name === 'slope' || name === 'z' ? 1e-3 : 1e-6;
        if (!is || !near(is[name], value, within))
          return `${metric} ${window} ${name} is ${is?.[name]}, expected ${value}`;
      }
    }
  }
  return null;
}

/** Up as soon as a limit is passed; down only to where each limit on the way is 5 % behind. */
function actionOf(hours: number, before: Action, limits: NonNullable<ModelUse['maintenance']>): Action {
  const { inspectBelowH, scheduleBelowH, stopBelowH } = limits;
  const urgent = (slack: number): Action =>
    hours < stopBelowH * slack
      ? 'stop'
      : hours < scheduleBelowH * slack
        ? 'schedule_maintenance'
        : hours < inspectBelowH * slack
          ? 'inspect'
          : 'none';
  const order: Action[] = ['none', 'inspect', 'schedule_maintenance', 'stop'];
  const reached = order.indexOf(urgent(1));
  const held = Math.min(order.indexOf(before), order.indexOf(urgent(1.05)));
  return order[Math.max(reached, held)];
}

function paneOf(at: number, paneMs: number): number {
  return Math.floor(at / paneMs);
}

/** Readings in the panes that end with the newest one's. */
function inWindow(metric: Metric, spanMs: number, panes: number): Reading[] {
  const head = paneOf(metric.newestAt, spanMs / panes);
  return metric.readings.filter(({ at }) => paneOf(at, spanMs / panes) > head - panes);
}

function patched(target: Record<string, unknown>, patch: Record<string, unknown>): Record<string, unknown> {
  const result = { ...target, ...patch };
  for (const name of Object.keys(result)) if (result[name] === null) delete result[name];
  return result;
}

function near(is: number | null | undefined, should: number | null, within: number): boolean {
  if (should === null || is === null || is === undefined) return is === should;
  return Math.abs(is - should) <= within * Math.max(1, Math.abs(should));
}

/** JSON with keys in order: equal values, equal text. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, v) =>
    v !== null && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  );
}
