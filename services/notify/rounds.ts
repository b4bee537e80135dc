import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import { SEVERITIES } from '../../actors/protocol/entry.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { quietEnd } from './batch.ts';
import type { Notifiers } from './notifiers-file.ts';
import { dueReceivers } from './queue.ts';
import {
  type Burst,
  closedBursts,
  type DueEscalation,
  endBurst,
  giveUpStrays,
  moveEscalation,
  type NewNotification,
  takeEscalations,
  tidy,
} from './store.ts';

/**
 * What time alone brings about: escalations of alerts that nobody acknowledges, summaries of storms, deliveries that are due
 * again, old rows that go. Every node that hosts twins makes its rounds; what one has taken the others leave.
 *
 *  1 Whether an alert still stands is asked of the table `alerts` when the time has come, not remembered.
 *  2 A round that ends half way is made up for by the next: everything is taken for a while, and has keys of its own.
 */
export interface RoundsOptions {
  sql: Sql;
  clock: Clock;
  notifiers(): Notifiers;
  /** Something is due for these receivers. */
  onDue(receivers: readonly string[]): void;
  onError(error: unknown): void;
  everyMs?: number;
}

const EVERY_MS = 1_000;
const LEASE_MS = 60_000;
const TIDY_EVERY_MS = 600_000;
/** How long an alert that is still quiet, or silenced without an end, waits before it is looked at again. */
const LOOK_AGAIN_MS = 60_000;

export class Rounds {
  readonly #o: RoundsOptions;
  #timer: TimerHandle | null = null;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  #tidiedAt = Number.NEGATIVE_INFINITY;

  constructor(options: RoundsOptions) {
    this.#o = options;
  }

  start(): void {
    this.#timer = this.#o.clock.after(this.#o.everyMs ?? EVERY_MS, () => {
      this.#running = this.make()
        .catch((error) => this.#o.onError(error))
        .then(() => {
          if (!this.#stopped) this.start();
        });
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  /** One round. Throws what the database throws. */
  async make(): Promise<void> {
    const { sql, clock } = this.#o;
    const notifiers = this.#o.notifiers();
    const nowMs = clock.now();
    for (const escalation of await takeEscalations(sql, nowMs, LEASE_MS)) {
      if (this.#stopped) return;
      await this.#escalate(escalation, notifiers, nowMs);
    }
    for (const burst of await closedBursts(sql, nowMs)) {
      await endBurst(sql, burst, summariesOf(burst, notifiers, nowMs), nowMs);
    }
    const due = await dueReceivers(sql, nowMs);
    if (due.length > 0) this.#o.onDue(due);
    if (clock.monotonic() - this.#tidiedAt < TIDY_EVERY_MS) return;
    this.#tidiedAt = clock.monotonic();
    await tidy(sql, notifiers.keepMs, nowMs);
    await giveUpStrays(sql, [...notifiers.receivers.keys()], nowMs - notifiers.maxAgeMs, nowMs);
  }

  async #escalate(due: DueEscalation, notifiers: Notifiers, nowMs: number): Promise<void> {
    const { sql } = this.#o;
    const rule = notifiers.rules.find((one) => one.name === due.rule);
    const step = rule?.escalate[due.step - 1];
    if (due.state !== 'raised' || rule === undefined || step === undefined)
      return moveEscalation(sql, due, null, [], nowMs);
    if (due.silencedUntilMs !== null && due.silencedUntilMs > nowMs)
      return moveEscalation(sql, due, { step: due.step, dueAtMs: due.silencedUntilMs }, [], nowMs);
    const quiet = quietEnd(rule, due.payload.severity, nowMs);
    if (quiet !== null) {
      const dueAtMs = quiet === 'never' ? nowMs + LOOK_AGAIN_MS : quiet;
      return moveEscalation(sql, due, { step: due.step, dueAtMs }, [], nowMs);
    }
    const next = rule.escalate[due.step];
    const title = `${due.payload.title} (nobody has acknowledged it)`;
    await moveEscalation(
      sql,
      due,
      next === undefined ? null : { step: due.step + 1, dueAtMs: nowMs + next.afterMs },
      step.receivers.map((receiver) => ({
        receiver,
        dedupKey: `${due.alertId}~raised~${due.step}`,
        eventId: due.eventId,
        rule: due.rule,
        thread: due.payload.thread,
        action: 'trigger',
        twinId: due.payload.twin,
        kind: due.payload.kind,
        severity: due.payload.severity,
        held: false,
        nextAtMs: nowMs,
        payload: { ...due.payload, title, escalation: due.step },
      })),
      nowMs,
    );
    this.#o.onDue(step.receivers);
  }
}

/** One for each receiver of the rule, in place of all that was held back. */
function summariesOf(burst: Burst, notifiers: Notifiers, nowMs: number): NewNotification[] {
  const rule = notifiers.rules.find((one) => one.name === burst.rule);
  if (rule === undefined) return [];
  const severity = SEVERITIES[burst.rank] ?? 'info';
  const quiet = quietEnd(rule, severity, nowMs);
  if (quiet === 'never') return [];
  const key = `${burst.rule}~summary~${burst.openedAtMs}`;
  const more = burst.heldBack - burst.sample.length;
  const text = [...burst.sample, ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
  const seconds = Math.round((burst.closesAtMs - burst.openedAtMs) / 1_000);
  return rule.receivers.map((receiver) => ({
    receiver,
    dedupKey: key,
    eventId: null,
    rule: burst.rule,
    thread: key,
    action: 'trigger',
    twinId: null,
    kind: null,
    severity,
    held: quiet !== null,
    nextAtMs: quiet ?? nowMs,
    payload: {
      rule: burst.rule,
      type: 'summary',
      action: 'trigger',
      severity,
      twin: null,
      kind: null,
      timestamp: new Date(burst.openedAtMs).toISOString(),
      title: `${burst.heldBack} more of ${burst.rule} within ${seconds} s`,
      text,
      thread: key,
      alert_id: null,
      event: null,
    },
  }));
}
