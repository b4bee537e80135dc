import { type Clock, sleep } from '../protocol/clock.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import type { Sql } from '../store/sql.ts';

/**
 * Dead letters: what was refused, why, and where it came from, kept so that somebody can mend it and send it again.
 *
 * Owns: a bounded queue and its writer. Does not own: the letters of poison, which the host writes in the transaction that
 * moves past the reading.
 *
 * Invariants:
 *  1  `add` never waits and never throws: a flood of garbage costs the good readings nothing but its own refusal.
 *  2  Memory, rate and table are bounded. What is over a bound is counted in `dropped` and not kept; every refusal is
 *     counted by ingress, kept or not.
 *  3  What is stored can be stored: text is made well-formed and free of NUL, payloads are cut and marked `truncated`.
 */
export interface DeadLetter {
  receivedAt: number;
  /** `protocol:address`, e.g. `mqtt:iot/data`. */
  source: string;
  code: ErrorCode;
  message: string;
  twinId: string | null;
  payload: string;
}

export interface DeadLetterLimits {
  /** Letters that wait for the writer. */
  maxQueued: number;
  maxQueuedChars: number;
  /** Characters of a payload that are kept. */
  maxPayloadChars: number;
  /** Letters a second that are kept in the long run, and how many may come at once. */
  perSecond: number;
  burst: number;
  /** Rows of the table; the oldest go. */
  maxRows: number;
}

const DEAD_LETTER_LIMITS: DeadLetterLimits = {
  maxQueued: 20_000,
  maxQueuedChars: 32_000_000,
  maxPayloadChars: 16_384,
  perSecond: 500,
  burst: 20_000,
  maxRows: 200_000,
};

interface Waiting extends DeadLetter {
  truncated: boolean;
}

const BATCH = 500;
const TRIM_EVERY = 1000;
const RETRY_MS = { first: 100, most: 5000 };
const FIXED_CHARS = 256;

const INSERT = `
insert into dead_letters (received_at, source, code, message, twin_id, payload, truncated)
select to_timestamp(r.received_at / 1000.0), r.source, r.code, r.message, r.twin_id, r.payload, r.truncated
from unnest($1::float8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[])
  as r(received_at, source, code, message, twin_id, payload, truncated)
returning id`;

export class DeadLetters {
  /** Letters that could not be kept, since start. */
  dropped = 0;
  stored = 0;
  readonly #sql: Sql;
  readonly #clock: Clock;
  readonly #limits: DeadLetterLimits;
  readonly #listeners = new Set<() => void>();
  #queue: Waiting[] = [];
  #chars = 0;
  #tokens: number;
  #refilledAt: number;
  #writing: Promise<void> | null = null;
  #closed = false;
  #sinceTrim = 0;

  constructor(options: { sql: Sql; clock: Clock; limits?: Partial<DeadLetterLimits> }) {
    this.#sql = options.sql;
    this.#clock = options.clock;
    this.#limits = { ...DEAD_LETTER_LIMITS, ...options.limits };
    this.#tokens = this.#limits.burst;
    this.#refilledAt = options.clock.monotonic();
  }

  add(letter: DeadLetter): void {
    if (this.#closed || !this.#mayKeep(letter)) {
      this.dropped++;
      return;
    }
    const limit = this.#limits.maxPayloadChars;
    const truncated = letter.payload.length > limit;
    const payload = storable(truncated ? letter.payload.slice(0, limit) : letter.payload);
    this.#chars += payload.length + FIXED_CHARS;
    this.#queue.push({
      ...letter,
      source: storable(letter.source.slice(0, 512)),
      message: storable(letter.message.slice(0, 1024)),
      payload,
      truncated,
    });
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
  }

  /** Calls back after letters have been stored. The return value ends it. */
  onStored(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when nothing waits any more. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing;
  }

  /** Writes what waits, for at most `withinMs`. */
  async close(withinMs = 2000): Promise<void> {
    await Promise.race([this.flush(), sleep(this.#clock, withinMs)]);
    this.#closed = true;
  }

  #mayKeep(letter: DeadLetter): boolean {
    const { maxQueued, maxQueuedChars, perSecond, burst } = this.#limits;
    const now = this.#clock.monotonic();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#refilledAt) / 1000) * perSecond);
    this.#refilledAt = now;
    if (this.#tokens < 1 || this.#queue.length >= maxQueued) return false;
    if (this.#chars + Math.min(letter.payload.length, this.#limits.maxPayloadChars) > maxQueuedChars) return false;
    this.#tokens--;
    return true;
  }

  async #write(): Promise<void> {
    // A moment for more to come, so that a batch of garbage is one statement.
    await Promise.resolve();
    let retryMs = RETRY_MS.first;
    while (this.#queue.length > 0 && !this.#closed) {
      const batch = this.#queue.slice(0, BATCH);
      try {
        await this.#insert(batch);
        retryMs = RETRY_MS.first;
      } catch (error) {
        if (isRefused(error)) await this.#oneByOne(batch);
        else {
          await sleep(this.#clock, retryMs);
          retryMs = Math.min(retryMs * 2, RETRY_MS.most);
          continue;
        }
      }
      this.#queue = this.#queue.slice(batch.length);
      for (const { payload } of batch) this.#chars -= payload.length + FIXED_CHARS;
      for (const listener of this.#listeners) listener();
    }
  }

  async #insert(batch: readonly Waiting[]): Promise<void> {
    const rows = await this.#sql.query<{ id: number }>(INSERT, [
      batch.map((l) => l.receivedAt),
      batch.map((l) => l.source),
      batch.map((l) => l.code),
      batch.map((l) => l.message),
      batch.map((l) => l.twinId),
      batch.map((l) => l.payload),
      batch.map((l) => l.truncated),
    ]);
    this.stored += rows.length;
    this.#sinceTrim += rows.length;
    if (this.#sinceTrim < TRIM_EVERY || rows.length === 0) return;
    this.#sinceTrim = 0;
    const newest = Math.max(...rows.map((row) => row.id));
    await this.#sql.query('delete from dead_letters where id <= $1', [newest - this.#limits.maxRows]);
  }

  /** The server refused a batch: the letter at fault must not take the others with it. */
  async #oneByOne(batch: readonly Waiting[]): Promise<void> {
    for (const letter of batch) {
      try {
        await this.#insert([letter]);
      } catch {
        this.dropped++;
      }
    }
  }
}

function isRefused(error: unknown): boolean {
  const { outcome, code } = (error ?? {}) as { outcome?: unknown; code?: unknown };
  return outcome === 'refused' && code !== 'store_down';
}

/** Text that PostgreSQL takes: no NUL, no lone surrogates. */
function storable(text: string): string {
  const clean = text.includes('\0') ? text.replaceAll('\0', '\u2400') : text;
  return clean.isWellFormed() ? clean : clean.toWellFormed();
}
