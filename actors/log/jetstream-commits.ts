import type { Msg, NatsConnection, Subscription } from 'nats';
import { nuid } from 'nats';
import type { Clock, TimerHandle } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { Outcome } from '../protocol/reading.ts';
import type { NatsLogger } from './jetstream-connection.ts';
import type { LogCounters } from './jetstream-status.ts';
import type { CommittedPosition } from './jetstream-stream.ts';
import type { Appended, LogMark } from './port.ts';

/**
 * Those who wait for the commit of what they appended.
 *
 * The message carries the token of this process; the host that commits it publishes a note with the outcomes to
 * `<prefix>.note.<token>`. A note may be lost: whoever waits long asks the database which position is committed.
 *
 * Invariants:
 *  1  Nobody is told "committed" of a message that may not be: a position in the database counts only while the message
 *     that it names stands there in the log.
 *  2  After a lost connection, whoever waits goes on only if the own message still stands where it stood; otherwise the
 *     append is refused and may be tried again under the same id.
 */
export interface CommitsOptions {
  clock: Clock;
  counters: LogCounters;
  logger: NatsLogger | undefined;
  prefix: string;
  /** What the database says; without it, only notes tell. */
  positions: (() => Promise<Iterable<CommittedPosition>>) | undefined;
  /** A note that has not come so long after the append is asked for in the database, later less and less often. */
  askAfterMs: number;
  at(shard: number, position: number): Promise<LogMark | null>;
}

const MAX_ASK_MS = 15_000;
const SWEEPS = 4;
const OUTCOMES: readonly Outcome[] = [
  'accepted',
  'backfill',
  'duplicate',
  'conflicting_duplicate',
  'retired',
  'too_many_metrics',
  'poison',
];
const TOKEN = /^[A-Za-z0-9]{1,64}$/;

interface Waiting {
  shard: number;
  id: string;
  readings: number;
  /** Null until the stream has acknowledged it. */
  position: number | null;
  /** The connection was lost since. */
  doubtful: boolean;
  askAt: number;
  askMs: number;
  resolve(appended: Appended): void;
  reject(error: TwinmeshError): void;
}

export class Commits {
  readonly token = nuid.next();
  readonly #connection: NatsConnection;
  readonly #options: CommitsOptions;
  readonly #subscription: Subscription;
  readonly #waiting = new Map<string, Set<Waiting>>();
  #timer: TimerHandle | null = null;
  #asking = false;
  #closed = false;

  constructor(connection: NatsConnection, options: CommitsOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#subscription = connection.subscribe(`${options.prefix}.note.${this.token}`, {
      callback: (_, message) => this.#noted(message),
    });
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** `publish` appends the message; what it rejects with, the wait rejects with. */
  wait(shard: number, id: string, readings: number, publish: () => Promise<{ position: number }>): Promise<Appended> {
    return new Promise((resolve, reject) => {
      const { clock } = this.#options;
      const waiting: Waiting = {
        shard,
        id,
        readings,
        position: null,
        doubtful: false,
        askAt: Number.POSITIVE_INFINITY,
        askMs: this.#options.askAfterMs,
        resolve: (appended) => {
          this.#remove(waiting);
          resolve(appended);
        },
        reject: (error) => {
          this.#remove(waiting);
          reject(error);
        },
      };
      const same = this.#waiting.get(id);
      if (same) same.add(waiting);
      else this.#waiting.set(id, new Set([waiting]));
      publish().then(({ position }) => {
        waiting.position = position;
        waiting.askAt = clock.monotonic() + waiting.askMs;
        this.#arm();
      }, waiting.reject);
    });
  }

  /** Tells whoever appended a message that it is committed. The token is part of a subject: it is checked. */
  tell(token: string, id: string, position: number, outcomes: readonly Outcome[] | undefined): void {
    if (!TOKEN.test(token) || this.#connection.isClosed()) return;
    const codes = outcomes?.map((outcome) => OUTCOMES.indexOf(outcome));
    this.#connection.publish(
      `${this.#options.prefix}.note.${token}`,
      JSON.stringify({ id, position, outcomes: codes }),
    );
  }

  disconnected(): void {
    for (const set of this.#waiting.values()) for (const waiting of set) waiting.doubtful = true;
  }

  reconnected(): void {
    const now = this.#options.clock.monotonic();
    for (const set of this.#waiting.values())
      for (const waiting of set) if (waiting.position !== null) waiting.askAt = now;
    this.#arm();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#subscription.unsubscribe();
    const error = new TwinmeshError('unavailable', 'The node stopped before the commit of this reading was known.');
    for (const set of [...this.#waiting.values()]) for (const waiting of [...set]) waiting.reject(error);
  }

  #remove(waiting: Waiting): void {
    const set = this.#waiting.get(waiting.id);
    set?.delete(waiting);
    if (set?.size === 0) this.#waiting.delete(waiting.id);
  }

  #noted(message: Msg): void {
    let note: { id?: unknown; position?: unknown; outcomes?: unknown };
    try {
      note = message.json();
    } catch {
      return;
    }
    if (note === null || typeof note.id !== 'string' || !Number.isSafeInteger(note.position)) return;
    for (const waiting of [...(this.#waiting.get(note.id) ?? [])]) {
      const outcomes = Array.isArray(note.outcomes) ? note.outcomes.map((code) => OUTCOMES[code]) : undefined;
      const whole = outcomes?.length === waiting.readings && !outcomes.includes(undefined as never);
      waiting.resolve({ position: note.position as number, ...(whole ? { outcomes } : {}) });
    }
  }

  #arm(): void {
    if (this.#closed || this.#timer !== null || this.#waiting.size === 0) return;
    this.#timer = this.#options.clock.after(this.#options.askAfterMs / SWEEPS, () => {
      this.#timer = null;
      void this.#ask().finally(() => this.#arm());
    });
  }

  async #ask(): Promise<void> {
    const { clock, positions, logger } = this.#options;
    if (this.#asking) return;
    const now = clock.monotonic();
    const due: Waiting[] = [];
    for (const set of this.#waiting.values()) for (const waiting of set) if (waiting.askAt <= now) due.push(waiting);
    if (due.length === 0) return;
    for (const waiting of due) {
      waiting.askMs = Math.min(waiting.askMs * 2, MAX_ASK_MS);
      waiting.askAt = now + waiting.askMs;
    }
    this.#asking = true;
    try {
      await this.#standWhereTheyStood(due.filter(({ doubtful }) => doubtful));
      if (positions) await this.#compare(due, await positions());
    } catch (error) {
      logger?.warn(
        { error: messageOf(error), waiting: due.length },
        'whether appends are committed could not be asked',
      );
    } finally {
      this.#asking = false;
    }
  }

  /** Invariant 2. */
  async #standWhereTheyStood(doubtful: readonly Waiting[]): Promise<void> {
    for (const waiting of doubtful) {
      waiting.doubtful = false;
      let mark: LogMark | null;
      try {
        mark = await this.#options.at(waiting.shard, waiting.position!);
      } catch (error) {
        waiting.doubtful = true;
        throw error;
      }
      if (mark?.id !== waiting.id)
        waiting.reject(
          new TwinmeshError(
            'unavailable',
            'The connection to the log was lost before the commit of this batch was known.',
          ),
        );
    }
  }

  /** Invariant 1. */
  async #compare(due: readonly Waiting[], rows: Iterable<CommittedPosition>): Promise<void> {
    const byShard = new Map<number, CommittedPosition>();
    for (const row of rows) byShard.set(row.shard, row);
    const stands = new Map<number, boolean>();
    for (const waiting of due) {
      const row = byShard.get(waiting.shard);
      if (!row || waiting.doubtful || row.position < waiting.position!) continue;
      let standing = stands.get(row.shard);
      if (standing === undefined) {
        const mark = await this.#options.at(row.shard, row.position);
        standing = mark !== null && mark.id === row.positionId && mark.appendedAt === row.positionAt;
        stands.set(row.shard, standing);
      }
      if (!standing || waiting.doubtful) continue;
      this.#options.counters.lostNotes++;
      waiting.resolve({ position: waiting.position! });
    }
  }
}
