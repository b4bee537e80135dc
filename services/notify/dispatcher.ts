import type { Clock } from '../../actors/protocol/clock.ts';
import type { TwinEvent } from '../../actors/protocol/event.ts';
import type { EventSink } from '../../actors/runtime/host-api.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { messagesOf } from '../events/messages.ts';
import { Batch, type Count, type Wish } from './batch.ts';
import { type Notice, type NotificationPayload, noticeOf } from './notice.ts';
import type { Notifiers } from './notifiers-file.ts';
import { isOfRule } from './rule.ts';
import { beginning, burstsOf, cooldownsOf, type Decisions, toldOf, waitingOf, writeDecisions } from './store.ts';

/**
 * The sink that decides who is told of what: from events to rows of `notifications`. It sends nothing itself.
 *
 *  1 What follows from a batch of events is written in one statement before `deliver` resolves: the cursor of the sink passes
 *    an event only when everything it leads to is in the database.
 *  2 The same events again add nothing: each notification has a key that follows from its event.
 *  3 It waits for the database alone, never for a receiver; events that concern no rule cost no statement.
 *  4 What follows a beginning (acknowledged, cleared) goes to whoever was told of it, and to nobody else.
 */
export interface DispatcherOptions {
  sql: Sql;
  clock: Clock;
  notifiers(): Notifiers;
  /** Something may be due for these receivers. */
  onQueued(receivers: readonly string[]): void;
  count: Count;
}

/** A notice, when it was first heard of (ms), and what programs are told of it. */
export interface Tidings {
  notice: Notice;
  heardAtMs: number;
  message(): NotificationPayload['event'];
}

export class Dispatcher implements EventSink {
  readonly name = 'notify';
  readonly #o: DispatcherOptions;
  #since = Number.POSITIVE_INFINITY;

  constructor(options: DispatcherOptions) {
    this.#o = options;
  }

  /** To be awaited before it is given to a host. The first time on a database it takes note of when that was. */
  async open(): Promise<void> {
    this.#since = await beginning(this.#o.sql, this.#o.clock.now());
  }

  async deliver(events: readonly TwinEvent[]): Promise<void> {
    const wanted: Tidings[] = [];
    for (const event of events) {
      const notice = noticeOf(event);
      if (notice !== null) wanted.push({ notice, heardAtMs: event.receivedAt, message: () => messageOfEvent(event) });
    }
    await this.tell(wanted);
  }

  /** Also what is no event of a twin. The same notices again add nothing. Throws what the database throws. */
  async tell(tidings: readonly Tidings[]): Promise<void> {
    const { sql, clock } = this.#o;
    const notifiers = this.#o.notifiers();
    const nowMs = clock.now();
    const oldest = Math.max(this.#since, nowMs - notifiers.maxAgeMs);
    const wishes: Wish[] = [];
    for (const { notice, heardAtMs, message } of tidings) {
      const rules = notice.action === 'trigger' ? notifiers.rules.filter((rule) => isOfRule(rule, notice)) : [];
      if (notice.action === 'trigger' && rules.length === 0) continue;
      if (heardAtMs < oldest) {
        for (const rule of rules) for (const receiver of rule.receivers) this.#o.count(receiver, 'old');
      } else wishes.push({ notice, message, rules });
    }
    if (wishes.length === 0) return;
    const decisions = await this.#decide(wishes, notifiers, nowMs);
    if (isEmpty(decisions)) return;
    const added = await writeDecisions(sql, decisions, nowMs);
    for (const [receiver, count] of added) this.#o.count(receiver, 'queued', count);
    this.#o.onQueued([...added.keys()]);
  }

  async #decide(wishes: readonly Wish[], notifiers: Notifiers, nowMs: number): Promise<Decisions> {
    const { sql } = this.#o;
    const pairs = wishes.flatMap(({ notice, rules }) =>
      rules.filter((rule) => rule.cooldownMs > 0).map((rule) => ({ rule: rule.name, subject: notice.subject })),
    );
    const grouped = new Set(wishes.flatMap(({ rules }) => rules.filter((rule) => rule.group).map((rule) => rule.name)));
    const follows = wishes.filter(({ notice }) => notice.action !== 'trigger').map(({ notice }) => notice.thread);
    const receivers = [...new Set(wishes.flatMap(({ rules }) => rules.flatMap((rule) => rule.receivers)))];
    const [cooldowns, bursts, told, waiting] = await Promise.all([
      cooldownsOf(sql, pairs),
      burstsOf(sql, [...grouped]),
      toldOf(sql, follows),
      waitingOf(sql, receivers),
    ]);
    const batch = new Batch(this.#o.count, notifiers, nowMs, waiting, told);
    for (const cooldown of cooldowns) batch.cooldowns.set(`${cooldown.rule} ${cooldown.subject}`, cooldown);
    for (const burst of bursts) batch.known.set(burst.rule, burst);
    for (const wish of wishes) {
      if (wish.notice.action === 'trigger') for (const rule of wish.rules) batch.begin(wish, rule);
      else batch.follow(wish);
    }
    return batch.decisions();
  }
}

function messageOfEvent(event: TwinEvent): NotificationPayload['event'] {
  const message = messagesOf(event).at(-1);
  return message === undefined ? null : (JSON.parse(message.payload) as Record<string, unknown>);
}

function isEmpty(d: Decisions): boolean {
  return Object.values(d).every((list) => (list as unknown[]).length === 0);
}
