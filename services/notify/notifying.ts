import { readFileSync, statSync } from 'node:fs';
import { type Clock, type Random, systemClock, type TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { EventSink } from '../../actors/runtime/host-api.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { SettingsError } from '../../config/settings.ts';
import { openReceiver } from '../notifiers/open-receiver.ts';
import type { Outcome } from './batch.ts';
import { Courier, type CourierState } from './courier.ts';
import { Dispatcher, type Tidings } from './dispatcher.ts';
import type { SecretSources } from './fields.ts';
import { type Notifiers, readNotifiers } from './notifiers-file.ts';
import { giveBackAll } from './queue.ts';
import type { ReceiverSettings } from './receiver-settings.ts';
import { Rounds } from './rounds.ts';

/**
 * Notifications of one node: the file, the sink, a courier for each receiver, the rounds.
 *
 *  1 A file that has changed is read again while it runs; one with faults changes nothing and is told of.
 *  2 A receiver whose settings are as before keeps its courier, and with it its pause.
 */
export interface NotifyingOptions {
  file: string;
  sql: Sql;
  clock?: Clock;
  random?: Random;
  node: string;
  secrets?: SecretSources;
  logger: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  count?(receiver: string, outcome: Outcome, count?: number): void;
  /** For tests: pauses of couriers, and how often rounds are made. */
  firstPauseMs?: number;
  longestMs?: number;
  everyMs?: number;
}

const LOOK_EVERY_MS = 5_000;

export class Notifying {
  readonly #dispatcher: Dispatcher;
  readonly #o: NotifyingOptions & { clock: Clock; random: Random };
  readonly #rounds: Rounds;
  readonly #couriers = new Map<string, { courier: Courier; settings: string }>();
  #notifiers: Notifiers;
  #seen: string;
  #fault: string | null = null;
  #timer: TimerHandle | null = null;

  /** Throws SettingsError. */
  constructor(options: NotifyingOptions) {
    this.#o = { ...options, clock: options.clock ?? systemClock, random: options.random ?? Math.random };
    this.#seen = stampOf(options.file);
    this.#notifiers = this.#read();
    const { sql } = options;
    const { clock } = this.#o;
    const count: NonNullable<NotifyingOptions['count']> = (...told) => this.#o.count?.(...told);
    const notifiers = () => this.#notifiers;
    this.#dispatcher = new Dispatcher({ sql, clock, notifiers, count, onQueued: (receivers) => this.#wake(receivers) });
    this.#rounds = new Rounds({
      sql,
      clock,
      notifiers,
      everyMs: options.everyMs,
      onDue: (receivers) => this.#wake(receivers),
      onError: (error) => options.logger.warn({ part: 'notify', error: messageOf(error) }, 'a round failed'),
    });
  }

  /** What is no event of a twin. Throws what the database throws; the same again adds nothing. */
  tell(tidings: readonly Tidings[]): Promise<void> {
    return this.#dispatcher.tell(tidings);
  }

  /** For a host, once it has started. */
  get sink(): EventSink {
    return this.#dispatcher;
  }

  get notifiers(): Notifiers {
    return this.#notifiers;
  }

  /** Why the file as it is now is not in force; null when it is. */
  get fault(): string | null {
    return this.#fault;
  }

  async start(): Promise<void> {
    await this.#dispatcher.open();
    await giveBackAll(this.#o.sql, this.#o.node);
    this.#open();
    this.#rounds.start();
    this.#look();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await Promise.all([this.#rounds.stop(), ...[...this.#couriers.values()].map(({ courier }) => courier.stop())]);
  }

  /** Throws not_found. */
  stateOf(name: string): CourierState {
    return this.#courier(name).state;
  }

  /** Tells a receiver that it is told. Throws not_found, and an Error whose message says why it was not delivered. */
  async test(name: string, by: string): Promise<void> {
    const courier = this.#courier(name);
    const now = this.#o.clock.now();
    const key = `test~${name}~${now}`;
    await courier.attempt(
      {
        rule: 'test',
        type: 'test',
        action: 'trigger',
        severity: 'info',
        twin: null,
        kind: null,
        timestamp: new Date(now).toISOString(),
        title: 'This is a test of twinmesh',
        text: `Asked for by ${by}. Nothing has happened.`,
        thread: key,
        alert_id: null,
        event: null,
      },
      key,
    );
  }

  /** Reads the file again where it has changed; true when what it says is in force. */
  reload(): boolean {
    const stamp = stampOf(this.#o.file);
    if (stamp === this.#seen) return this.#fault === null;
    this.#seen = stamp;
    try {
      this.#notifiers = this.#read();
    } catch (error) {
      this.#fault = messageOf(error);
      this.#o.logger.warn(
        { part: 'notify', faults: this.#fault.split('\n') },
        'NOTIFIERS_FILE has faults: the one before stays',
      );
      return false;
    }
    this.#fault = null;
    this.#open();
    this.#o.logger.info(
      { part: 'notify', receivers: [...this.#notifiers.receivers.keys()] },
      'NOTIFIERS_FILE was read',
    );
    return true;
  }

  #look(): void {
    this.#timer = this.#o.clock.after(LOOK_EVERY_MS, () => {
      this.reload();
      this.#look();
    });
  }

  #read(): Notifiers {
    let text: string;
    try {
      text = readFileSync(this.#o.file, 'utf8');
    } catch (error) {
      throw new SettingsError([`NOTIFIERS_FILE cannot be read: ${(error as NodeJS.ErrnoException).code}.`]);
    }
    return readNotifiers(text, this.#o.secrets);
  }

  #open(): void {
    const { receivers } = this.#notifiers;
    for (const [name, { courier, settings }] of this.#couriers) {
      const now = receivers.get(name);
      if (now !== undefined && JSON.stringify(now) === settings) continue;
      this.#couriers.delete(name);
      void courier.stop();
    }
    for (const settings of receivers.values()) {
      if (!this.#couriers.has(settings.name)) this.#couriers.set(settings.name, this.#hire(settings));
    }
    this.#wake([...receivers.keys()]);
  }

  #hire(settings: ReceiverSettings) {
    const { sql, clock, random, node, firstPauseMs, longestMs, logger } = this.#o;
    const courier = new Courier({
      settings,
      receiver: openReceiver(settings),
      sql,
      clock,
      random,
      node,
      firstPauseMs,
      longestMs,
      count: (receiver, outcome) => this.#o.count?.(receiver, outcome),
      onError: (receiver, error) =>
        logger.warn(
          { part: 'notify', receiver, error: messageOf(error) },
          'what became of a notification could not be stored yet',
        ),
    });
    return { courier, settings: JSON.stringify(settings) };
  }

  #wake(receivers: readonly string[]): void {
    for (const name of receivers) this.#couriers.get(name)?.courier.wake();
  }

  #courier(name: string): Courier {
    const found = this.#couriers.get(name);
    if (!found) throw new TwinmeshError('not_found', 'There is no notifier of this name.');
    return found.courier;
  }
}

/** Changes with the file, also where a mount puts another one in its place. */
function stampOf(file: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(file);
    return `${mtimeMs} ${size} ${ino}`;
  } catch {
    return 'gone';
  }
}
