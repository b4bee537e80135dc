import { type Clock, sleep, type TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { KafkaLogger } from '../../mixins/kafka.ts';
import type { KafkaMessageOut } from '../../mixins/kafka-publisher.ts';
import { type Letter, lettersAfter } from './letters.ts';

/**
 * Dead letters of the database, whoever wrote them, to the Kafka topic `dead-letters`, as they are stored.
 *
 * Owns: how far the topic has come, and which node writes to it. Both stand in `sink_cursors`, under shards that no twin has.
 *
 * Invariants:
 *  1  Every letter stored since the relay first ran is published at least once; `event_id` is stable.
 *  2  One node at a time publishes: it holds a lease, by the clock of the database, and lets it lapse when it dies.
 *  3  Ids are handed out before their transaction commits. The cursor therefore stays behind every letter that was first
 *     seen less than SETTLED_MS ago; what lies above it is looked at again, and is known to have been sent.
 */
export interface LetterRelayOptions {
  sql: Sql;
  clock: Clock;
  logger: KafkaLogger;
  publish(messages: readonly KafkaMessageOut[]): Promise<void>;
  /** Calls back after letters have been stored here. The return value ends it. */
  onNews?(listener: () => void): () => void;
  pollMs?: number;
  leaseMs?: number;
}

export const LETTERS_TOPIC = 'dead-letters';

const SINK = 'kafka-dead-letters';
const CURSOR_SHARD = -1;
const LEASE_SHARD = -2;
const POLL_MS = 1_000;
const LEASE_MS = 15_000;
/** Longer than any transaction that stores letters may take. */
const SETTLED_MS = 10_000;
const PAGE = 500;
const RETRY_MS = { first: 500, most: 30_000 };

const NOW_MS = `(extract(epoch from clock_timestamp()) * 1000)::int8`;
const BEGIN = `
insert into sink_cursors (sink, shard, seq)
select '${SINK}', ${CURSOR_SHARD}, coalesce((select max(id) from dead_letters), 0)
union all select '${SINK}', ${LEASE_SHARD}, 0
on conflict do nothing`;
/** $1: until when it is ours, as last written; $2: for how long. Answers until when it is ours now. */
const LEASE = `
update sink_cursors set seq = greatest(seq + 1, ${NOW_MS} + $2::int8)
where sink = '${SINK}' and shard = ${LEASE_SHARD} and (seq = $1::int8 or seq < ${NOW_MS})
returning seq`;
const CURSOR = `select seq from sink_cursors where sink = '${SINK}' and shard = ${CURSOR_SHARD}`;
const MOVE = `update sink_cursors set seq = greatest(seq, $1::int8) where sink = '${SINK}' and shard = ${CURSOR_SHARD}`;

export class LetterRelay {
  readonly #options: LetterRelayOptions;
  readonly #leave: () => void;
  #closed = false;
  #lease = -1;
  #cursor = 0;
  /** Letters above the cursor that were published, and when they were first seen. */
  readonly #sent = new Map<number, number>();
  #timer: TimerHandle | null = null;
  #wake: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: LetterRelayOptions) {
    this.#options = options;
    this.#leave = options.onNews?.(() => this.#wake()) ?? (() => undefined);
  }

  open(): void {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#leave();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, logger, pollMs = POLL_MS } = this.#options;
    let begun = false;
    let failing = false;
    let retryMs = RETRY_MS.first;
    while (!this.#closed) {
      try {
        if (!begun) await this.#options.sql.query(BEGIN);
        begun = true;
        await this.#relay();
        failing = false;
        retryMs = RETRY_MS.first;
        await this.#pause(pollMs);
      } catch (error) {
        if (!failing) logger.warn({ reason: messageOf(error) }, 'dead letters do not reach Kafka');
        failing = true;
        if (!this.#closed) await Promise.race([sleep(clock, retryMs), this.#woken()]);
        retryMs = Math.min(retryMs * 2, RETRY_MS.most);
      }
    }
    if (this.#lease >= 0) await this.#giveUp();
  }

  /** One look at what is new, if it is this node's turn. */
  async #relay(): Promise<void> {
    const { sql, clock, publish } = this.#options;
    if (!(await this.#hold())) return;
    let after = this.#cursor;
    for (let page: Letter[] = []; !this.#closed; after = page[page.length - 1].id) {
      page = await lettersAfter(sql, after, PAGE);
      const fresh = page.filter(({ id }) => !this.#sent.has(id));
      await publish(fresh.map(messageOfLetter));
      for (const { id } of fresh) this.#sent.set(id, clock.monotonic());
      if (page.length < PAGE || !(await this.#hold())) break;
    }
    await this.#settle();
  }

  /** Moves the cursor up to the first letter that is too young. */
  async #settle(): Promise<void> {
    const { sql, clock } = this.#options;
    const settled = clock.monotonic() - SETTLED_MS;
    let cursor = this.#cursor;
    for (const id of [...this.#sent.keys()].sort((a, b) => a - b)) {
      if ((this.#sent.get(id) as number) > settled) break;
      cursor = id;
    }
    if (cursor === this.#cursor) return;
    await sql.query(MOVE, [cursor]);
    this.#cursor = cursor;
    for (const id of this.#sent.keys()) if (id <= cursor) this.#sent.delete(id);
  }

  async #hold(): Promise<boolean> {
    const { sql, leaseMs = LEASE_MS } = this.#options;
    const before = this.#lease;
    const [row] = await sql.query<{ seq: number }>(LEASE, [before, leaseMs]);
    if (row === undefined) {
      this.#lease = -1;
      return false;
    }
    this.#lease = row.seq;
    // Another node may have gone on meanwhile.
    if (before < 0) {
      const [cursor] = await sql.query<{ seq: number }>(CURSOR);
      this.#cursor = cursor.seq;
      this.#sent.clear();
    }
    return true;
  }

  async #giveUp(): Promise<void> {
    const text = `update sink_cursors set seq = 0 where sink = '${SINK}' and shard = ${LEASE_SHARD} and seq = $1::int8`;
    await this.#options.sql.query(text, [this.#lease]).catch(() => undefined);
  }

  #pause(ms: number): Promise<void> {
    this.#timer = this.#options.clock.after(ms, () => this.#wake());
    return this.#woken();
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#timer?.cancel();
        resolve();
      };
      if (this.#closed) resolve();
    });
  }
}

function messageOfLetter(letter: Letter): KafkaMessageOut {
  const { id, receivedAt, source, code, message, twinId, payload, truncated } = letter;
  return {
    topic: LETTERS_TOPIC,
    key: twinId ?? source,
    value: JSON.stringify({
      event_id: `dead-letter-${id}`,
      timestamp: receivedAt.toISOString(),
      source,
      code,
      message,
      twin_id: twinId,
      payload,
      truncated,
    }),
  };
}
