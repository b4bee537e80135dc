import { SEVERITIES, type Severity } from '../../actors/protocol/entry.ts';
import { type Notice, type NotificationPayload, payloadOf } from './notice.ts';
import type { Notifiers } from './notifiers-file.ts';
import { quietUntil } from './quiet-hours.ts';
import type { NotifyRule } from './rule.ts';
import { type Burst, type Decisions, type NewNotification, SAMPLE, type Told } from './store.ts';

/** Why somebody is told, or is not. */
export type Outcome = 'queued' | 'cooldown' | 'grouped' | 'quiet' | 'full' | 'old' | 'sent' | 'failed' | 'dead';

export type Count = (receiver: string, outcome: Outcome, count?: number) => void;

/** What may be told of, the rules that it is of, and what is said of it to programs. */
export interface Wish {
  notice: Notice;
  message(): NotificationPayload['event'];
  rules: NotifyRule[];
}

/** One batch of events being decided, in order, with what the database says and what the batch has added to it. */
export class Batch {
  readonly cooldowns = new Map<string, { untilMs: number; rank: number }>();
  /** Bursts as the database has them; `#bursts`: what this batch adds to them. */
  readonly known = new Map<string, Burst>();
  readonly #count: Count;
  readonly #notifiers: Notifiers;
  readonly #nowMs: number;
  readonly #waiting: Map<string, number>;
  readonly #told = new Map<string, Map<string, Told>>();
  readonly #bursts = new Map<string, Burst>();
  readonly #new = new Map<string, NewNotification>();
  readonly #out: Decisions = { notifications: [], cooldowns: [], bursts: [], escalations: [], drop: [], calm: [] };

  constructor(count: Count, notifiers: Notifiers, nowMs: number, waiting: Map<string, number>, told: readonly Told[]) {
    this.#count = count;
    this.#notifiers = notifiers;
    this.#nowMs = nowMs;
    this.#waiting = waiting;
    for (const one of told) this.#of(one.thread).set(one.receiver, one);
  }

  decisions(): Decisions {
    return { ...this.#out, notifications: [...this.#new.values()], bursts: [...this.#bursts.values()] };
  }

  /** Something begins that a rule is about. */
  begin({ notice, message }: Wish, rule: NotifyRule): void {
    const heldUntil = this.#heldUntil(rule, notice);
    if (typeof heldUntil === 'string') {
      for (const receiver of rule.receivers) this.#count(receiver, heldUntil);
      return;
    }
    const payload = payloadOf(notice, message(), rule.name);
    for (const receiver of rule.receivers) {
      const row = rowOf(receiver, notice, rule.name, payload, heldUntil, this.#nowMs);
      if (this.#add(row)) this.#tell(row);
    }
    const [first] = rule.escalate;
    if (first === undefined || notice.alertId === null) return;
    this.#out.escalations.push({
      rule: rule.name,
      alertId: notice.alertId,
      step: 1,
      dueAtMs: (heldUntil ?? this.#nowMs) + first.afterMs,
      eventId: notice.eventId,
      payload,
    });
  }

  /** It goes on otherwise: whoever was told hears of it. */
  follow({ notice, message }: Wish): void {
    if (notice.alertId !== null) {
      this.#out.calm.push(notice.alertId);
      this.#out.escalations = this.#out.escalations.filter((e) => e.alertId !== notice.alertId);
    }
    for (const told of this.#of(notice.thread).values()) {
      this.#out.drop.push(...told.held);
      told.held = [];
      for (const [key, row] of this.#new) {
        if (row.held && row.thread === notice.thread && row.receiver === told.receiver) this.#new.delete(key);
      }
      if (told.told === 0) continue;
      const rule = this.#notifiers.rules.find((one) => one.name === told.rule);
      const receiver = this.#notifiers.receivers.get(told.receiver);
      if (rule?.followUps === false || receiver === undefined) continue;
      // Where it closes an incident it makes a night quieter, so it does not wait.
      const quiet = rule && receiver.type !== 'pagerduty' ? quietEnd(rule, notice.severity, this.#nowMs) : null;
      if (quiet === 'never') continue;
      const payload = payloadOf(notice, message(), told.rule);
      this.#add(rowOf(told.receiver, notice, told.rule, payload, quiet, this.#nowMs));
    }
    if (notice.action === 'resolve') this.#told.delete(notice.thread);
  }

  /** Until when it waits, null for not at all, or why nobody is told. */
  #heldUntil(rule: NotifyRule, notice: Notice): number | null | Outcome {
    const rank = rankOf(notice.severity);
    const cooldown = this.cooldowns.get(`${rule.name} ${notice.subject}`);
    const cooling = cooldown !== undefined && cooldown.untilMs > this.#nowMs && rank <= cooldown.rank;
    // What stands is told when the cooldown is over, if it still stands then; what only happened is not.
    if (cooling && !STANDING.has(notice.type)) return 'cooldown';
    if (!cooling && rule.cooldownMs > 0) this.#cool(rule.name, notice.subject, this.#nowMs + rule.cooldownMs, rank);
    if (!cooling && this.#isHeldBack(rule, notice, rank)) return 'grouped';
    const from = cooling ? cooldown.untilMs : this.#nowMs;
    const quiet = quietEnd(rule, notice.severity, from);
    if (quiet === 'never') return 'quiet';
    return quiet ?? (cooling ? from : null);
  }

  #cool(rule: string, subject: string, untilMs: number, rank: number): void {
    this.cooldowns.set(`${rule} ${subject}`, { untilMs, rank });
    const { cooldowns } = this.#out;
    const there = cooldowns.find((cooldown) => cooldown.rule === rule && cooldown.subject === subject);
    if (there === undefined) cooldowns.push({ rule, subject, untilMs, rank });
    else Object.assign(there, { untilMs, rank });
  }

  #isHeldBack(rule: NotifyRule, notice: Notice, rank: number): boolean {
    if (rule.group === null) return false;
    const known = this.known.get(rule.name);
    const open = known !== undefined && (known.closesAtMs > this.#nowMs || known.heldBack > 0) ? known : undefined;
    const own = this.#bursts.get(rule.name) ?? {
      rule: rule.name,
      openedAtMs: this.#nowMs,
      closesAtMs: this.#nowMs + rule.group.withinMs,
      told: 0,
      heldBack: 0,
      rank: 0,
      sample: [],
    };
    this.#bursts.set(rule.name, own);
    if ((open?.told ?? 0) + own.told < rule.group.above) {
      own.told++;
      return false;
    }
    own.heldBack++;
    own.rank = Math.max(own.rank, rank);
    if (own.sample.length < SAMPLE) own.sample.push(notice.title);
    return true;
  }

  #tell({ thread, receiver, rule, held }: NewNotification): void {
    const of = this.#of(thread);
    const told = of.get(receiver) ?? { thread, receiver, rule, told: 0, held: [] };
    if (!held) told.told++;
    of.set(receiver, told);
  }

  /** False where the queue of the receiver is full, or has it already from another rule. */
  #add(row: NewNotification): boolean {
    const key = `${row.receiver} ${row.dedupKey}`;
    if (this.#new.has(key)) return false;
    const waiting = this.#waiting.get(row.receiver) ?? 0;
    if (waiting >= (this.#notifiers.receivers.get(row.receiver)?.queue ?? 0)) {
      this.#count(row.receiver, 'full');
      return false;
    }
    this.#waiting.set(row.receiver, waiting + 1);
    this.#new.set(key, row);
    return true;
  }

  #of(thread: string): Map<string, Told> {
    const found = this.#told.get(thread) ?? new Map<string, Told>();
    this.#told.set(thread, found);
    return found;
  }
}

/** Types that something ends: until then they stand. */
const STANDING: ReadonlySet<string> = new Set([
  'alert.raised',
  'twin.offline',
  'health.changed',
  'maintenance.predicted',
  'data.drift',
]);

export const rankOf = (severity: Severity): number => SEVERITIES.indexOf(severity);

/** Null: not quiet now, or it passes; a number: held until then; `never`: not told at all. */
export function quietEnd(rule: NotifyRule, severity: Severity, nowMs: number): number | null | 'never' {
  if (rule.quiet === null || rule.quiet.pass.has(severity)) return null;
  const until = quietUntil(rule.quiet, nowMs);
  return until !== null && !rule.quiet.hold ? 'never' : until;
}

function rowOf(
  receiver: string,
  notice: Notice,
  rule: string,
  payload: NewNotification['payload'],
  quiet: number | null,
  nowMs: number,
): NewNotification {
  const { dedupKey, eventId, thread, action, twinId, kind, severity } = notice;
  const held = quiet !== null;
  return {
    receiver,
    dedupKey,
    eventId,
    rule,
    thread,
    action,
    twinId,
    kind,
    severity,
    held,
    nextAtMs: quiet ?? nowMs,
    payload,
  };
}
