import { createHash, randomUUID } from 'node:crypto';
import type { RedisLink } from '../../mixins/redis.ts';
import { type AnswerCache, type Answers, type CachedAnswer, KEEP_MS } from './answer-cache.ts';

/**
 * Answers in Redis, so that nodes do not compute what another has computed. They come back as JSON has them: a Date is
 * its text then, as it is for whoever asked over HTTP. While Redis is away each node keeps its own.
 */
export interface RedisAnswersOptions {
  redis: RedisLink;
  /** Keeps the answers while Redis is away. */
  own: AnswerCache;
  /** Keeps the questions of one service apart from those of another. */
  name: string;
  keepMs?: number;
}

/** A longer answer costs more to fetch than most cost to compute. */
const MAX_CHARS = 1_048_576;

export class RedisAnswers implements Answers {
  readonly #options: RedisAnswersOptions;
  readonly #computing = new Map<string, Promise<CachedAnswer<unknown>>>();

  constructor(options: RedisAnswersOptions) {
    this.#options = options;
  }

  async get<Answer>(
    question: unknown,
    compute: () => Promise<Answer>,
    weigh?: (answer: Answer) => number,
  ): Promise<CachedAnswer<Answer>> {
    const asked = JSON.stringify(question);
    const digest = createHash('sha256').update(asked).digest('base64url');
    const key = `twinmesh:answers:1:${this.#options.name}:${digest}`;
    const found = this.#computing.get(key);
    if (found !== undefined) return (await found) as CachedAnswer<Answer>;
    const working = this.#find(key, digest, question, compute, weigh);
    this.#computing.set(key, working);
    try {
      return await working;
    } finally {
      this.#computing.delete(key);
    }
  }

  async #find<Answer>(
    key: string,
    digest: string,
    question: unknown,
    compute: () => Promise<Answer>,
    weigh?: (answer: Answer) => number,
  ): Promise<CachedAnswer<Answer>> {
    const { redis, own, keepMs = KEEP_MS } = this.#options;
    const kept = await redis.run((client) => client.get(key));
    if (kept === null) return own.get(question, compute, weigh);
    const found = kept.answer === null ? null : readKept<Answer>(kept.answer);
    if (found !== null) return found;
    const etag = `"agg:${digest.slice(0, 16)}.${randomUUID().slice(0, 13)}"`;
    const text = JSON.stringify({ etag, answer: await compute() });
    if (text.length <= MAX_CHARS) await redis.run((client) => client.set(key, text, 'PX', keepMs));
    // Whoever computes it gets it as everybody after does.
    return JSON.parse(text) as CachedAnswer<Answer>;
  }
}

/** Null where something else stands there. */
function readKept<Answer>(text: string): CachedAnswer<Answer> | null {
  try {
    const kept = JSON.parse(text) as CachedAnswer<Answer> | null;
    return typeof kept?.etag === 'string' && 'answer' in kept ? kept : null;
  } catch {
    return null;
  }
}
