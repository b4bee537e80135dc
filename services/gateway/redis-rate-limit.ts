import { createHash } from 'node:crypto';
import type { RedisLink } from '../../mixins/redis.ts';
import type { RateLimiter, RateVerdict } from './rate-limit.ts';

/**
 * Token buckets in Redis, shared by all gateways: the buckets of MemoryRateLimiter, filled by the clock of the Redis server. A
 * bucket is looked at and taken from in one script, which nothing comes between. While Redis is away the own limiter
 * decides: each gateway then grants the whole budget.
 */
const SCRIPT = `
local size = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local tokens = size
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
if bucket[1] then
  tokens = math.min(size, tonumber(bucket[1]) + math.max(0, now - tonumber(bucket[2])) * size / 60000)
end
local allowed = 0
if tokens >= 1 then allowed = 1 end
if ARGV[2] == 'take' then
  tokens = tokens - allowed
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], 60000)
end
return { allowed, string.format('%.6f', tokens) }`;
const SHA = createHash('sha1').update(SCRIPT).digest('hex');
const PREFIX = 'twinmesh:rate:';

export class RedisRateLimiter implements RateLimiter {
  /** Verdicts that the own limiter gave, because Redis was away. */
  alone = 0;
  readonly #redis: RedisLink;
  readonly #perMinute: number;
  readonly #own: RateLimiter;

  constructor(redis: RedisLink, perMinute: number, own: RateLimiter) {
    this.#redis = redis;
    this.#perMinute = perMinute;
    this.#own = own;
  }

  take(who: string): Promise<RateVerdict> {
    return this.#decide(who, 'take');
  }

  peek(who: string): Promise<RateVerdict> {
    return this.#decide(who, 'peek');
  }

  async #decide(who: string, what: 'take' | 'peek'): Promise<RateVerdict> {
    const args: [string, string, string] = [PREFIX + who, String(this.#perMinute), what];
    const said = await this.#redis.run(async (client) => {
      try {
        return await client.evalsha(SHA, 1, ...args);
      } catch (error) {
        if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
        return await client.eval(SCRIPT, 1, ...args);
      }
    });
    const verdict = said === null ? null : this.#verdict(said.answer);
    if (verdict !== null) return verdict;
    this.alone++;
    return this.#own[what](who);
  }

  #verdict(answer: unknown): RateVerdict | null {
    if (!Array.isArray(answer)) return null;
    const tokens = Number(answer[1]);
    if (!Number.isFinite(tokens)) return null;
    if (answer[0] === 1) return { allowed: true, remaining: Math.floor(tokens), retryAfterMs: 0 };
    return { allowed: false, remaining: 0, retryAfterMs: Math.ceil(((1 - tokens) * 60_000) / this.#perMinute) };
  }
}
