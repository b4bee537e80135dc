import { createHash } from 'node:crypto';
import type { Clock } from '../../actors/protocol/clock.ts';

/** Answers that cost something to compute, kept for a while: here in this process, in redis-answers.ts by all nodes. */
export interface Answers {
  /** `question` is what the answer depends on, as JSON can write it; `weigh` tells how many items an answer has. */
  get<Answer>(
    question: unknown,
    compute: () => Promise<Answer>,
    weigh?: (answer: Answer) => number,
  ): Promise<CachedAnswer<Answer>>;
}

/**
 * The answers of this process.
 *
 *  1. Bounded in entries and in weight (items of the answers); the oldest go first.
 *  2. Whoever asks while an answer is being computed gets that one. An answer that failed is not kept.
 *  3. The tag names this computation of this question: the same tag means the same answer.
 */
export interface CachedAnswer<Answer> {
  answer: Answer;
  etag: string;
}

interface Entry {
  madeAt: number;
  etag: string;
  weight: number;
  answer: Promise<unknown>;
}

export const KEEP_MS = 5 * 60_000;
const MAX_ENTRIES = 500;
const MAX_WEIGHT = 100_000;

export class AnswerCache implements Answers {
  readonly #clock: Clock;
  readonly #keepMs: number;
  readonly #maxWeight: number;
  readonly #maxEntries: number;
  readonly #entries = new Map<string, Entry>();
  #weight = 0;
  #made = 0;

  constructor(clock: Clock, bounds: { keepMs?: number; maxWeight?: number; maxEntries?: number } = {}) {
    this.#clock = clock;
    this.#keepMs = bounds.keepMs ?? KEEP_MS;
    this.#maxWeight = bounds.maxWeight ?? MAX_WEIGHT;
    this.#maxEntries = bounds.maxEntries ?? MAX_ENTRIES;
  }

  get size(): number {
    return this.#entries.size;
  }

  async get<Answer>(
    question: unknown,
    compute: () => Promise<Answer>,
    weigh: (answer: Answer) => number = () => 1,
  ): Promise<CachedAnswer<Answer>> {
    const key = JSON.stringify(question);
    const now = this.#clock.monotonic();
    const found = this.#entries.get(key);
    if (found !== undefined && now - found.madeAt < this.#keepMs) {
      return { answer: (await found.answer) as Answer, etag: found.etag };
    }
    this.#drop(key);
    const entry: Entry = { madeAt: now, etag: this.#tag(key), weight: 1, answer: compute() };
    this.#entries.set(key, entry);
    this.#weight += entry.weight;
    this.#trim();
    try {
      const answer = (await entry.answer) as Answer;
      if (this.#entries.get(key) === entry) {
        const weight = Math.max(1, weigh(answer));
        this.#weight += weight - entry.weight;
        entry.weight = weight;
        this.#trim();
      }
      return { answer, etag: entry.etag };
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#drop(key);
      throw error;
    }
  }

  #tag(key: string): string {
    const what = createHash('sha256').update(key).digest('base64url').slice(0, 16);
    return `"agg:${what}.${this.#clock.now().toString(36)}.${(this.#made++).toString(36)}"`;
  }

  #trim(): void {
    for (const [key] of this.#entries) {
      if (this.#weight <= this.#maxWeight && this.#entries.size <= this.#maxEntries) return;
      this.#drop(key);
    }
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#weight -= entry.weight;
  }
}
