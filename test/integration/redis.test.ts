import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../actors/protocol/clock.ts';
import { RedisLink } from '../../mixins/redis.ts';
import { AnswerCache } from '../../services/analytics/answer-cache.ts';
import { RedisAnswers } from '../../services/analytics/redis-answers.ts';
import { MemoryRateLimiter } from '../../services/gateway/rate-limit.ts';
import { RedisRateLimiter } from '../../services/gateway/redis-rate-limit.ts';
import { answersSuite } from '../conformance/answers.ts';
import { rateLimitSuite } from '../conformance/rate-limit.ts';
import { findRedis } from '../servers/redis.ts';

/** One server that speaks TLS and asks for a password: what works on it works on a plain one. */
const server = await findRedis({ own: true, tls: true, password: 'p/w @:1' });
const NO_TLS = { tlsCaFile: null, tlsCertFile: null, tlsKeyFile: null };
const links: RedisLink[] = [];
const pass = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function link(url = server!.url, tls = { ...NO_TLS, tlsCaFile: server!.caFile }) {
  const told: string[] = [];
  const logger = {
    info: (_: object, text: string) => void told.push(text),
    warn: (facts: object, text: string) => void told.push(`${text} ${JSON.stringify(facts)}`),
  };
  const redis = new RedisLink({ url, tls, clock: systemClock, logger, backoffMs: { first: 20, most: 100 } });
  links.push(redis);
  return { redis, told };
}

async function connected(): Promise<RedisLink> {
  const { redis } = link();
  await expect.poll(() => redis.status().connected, { timeout: 5_000, interval: 5 }).toBe(true);
  return redis;
}

describe.skipIf(server === null)('on Redis', () => {
  let admin: Redis;
  beforeAll(() => {
    admin = new Redis(server!.url, { tls: { rejectUnauthorized: false }, maxRetriesPerRequest: null });
    admin.on('error', () => undefined);
  });
  afterEach(() => {
    for (const redis of links.splice(0)) redis.close();
  });
  afterAll(async () => {
    admin.disconnect();
    await server?.stop();
  });
  const empty = () => admin.flushall();

  describe('rate limits', () => {
    rateLimitSuite(async (perMinute) => {
      await empty();
      const own = {
        take: () => Promise.reject(new Error('asked alone')),
        peek: () => Promise.reject(new Error('asked')),
      };
      return { limiter: new RedisRateLimiter(await connected(), perMinute, own), pass };
    });

    it('are counted over all gateways', async () => {
      await empty();
      const own = () => new MemoryRateLimiter(30, () => performance.now());
      const gateways = [await connected(), await connected(), await connected()].map(
        (redis) => new RedisRateLimiter(redis, 30, own()),
      );
      const verdicts = await Promise.all(Array.from({ length: 90 }, (_, i) => gateways[i % 3].take('key:k1')));
      expect(verdicts.filter(({ allowed }) => allowed)).toHaveLength(30);
    });
  });

  describe('answers', () => {
    const KEPT_MS = 300;
    const shared = (redis: RedisLink, name = 'test') =>
      new RedisAnswers({ redis, own: new AnswerCache(systemClock), name, keepMs: KEPT_MS });

    answersSuite(async () => {
      await empty();
      return { answers: shared(await connected()), pass, keepMs: KEPT_MS };
    });

    it('of one node are those of the others, within one service', async () => {
      await empty();
      const [one, other, elsewhere] = [
        shared(await connected()),
        shared(await connected()),
        shared(await connected(), 'another'),
      ];
      const first = await one.get(['q'], async () => ({ from: 'one' }));
      expect(await other.get(['q'], async () => ({ from: 'other' }))).toEqual(first);
      expect((await elsewhere.get(['q'], async () => ({ from: 'elsewhere' }))).answer.from).toBe('elsewhere');
    });

    it('that somebody has spoilt are computed anew', async () => {
      await empty();
      const answers = shared(await connected());
      await answers.get(['q'], async () => 1);
      const [key] = await admin.keys('*');
      await admin.set(key, 'no JSON');
      expect((await answers.get(['q'], async () => 2)).answer).toBe(2);
    });
  });

  it('a wrong password and an unknown authority are told, and nothing waits for them', async () => {
    const wrong = link(server!.url.replace(/:[^:@/]+@/, ':wrong@'));
    const unknown = link(server!.url, NO_TLS);
    await expect.poll(() => wrong.told.join('\n'), { timeout: 30_000, interval: 5 }).toMatch(/WRONGPASS|NOAUTH/);
    await expect.poll(() => unknown.told.join('\n'), { timeout: 30_000, interval: 5 }).toMatch(/certificate/);
    expect(`${wrong.told}`).not.toContain('wrong@');
    for (const { redis } of [wrong, unknown]) {
      expect(redis.status().connected).toBe(false);
      expect(await redis.run((client) => client.get('x'))).toBeNull();
    }
  });

  it('is done without while it is away or stands still, and used again once it is back', async () => {
    await empty();
    const { redis, told } = link();
    await expect.poll(() => redis.status().connected, { timeout: 5_000, interval: 5 }).toBe(true);
    const limiter = new RedisRateLimiter(redis, 5, new MemoryRateLimiter(5, () => performance.now()));
    const answers = new RedisAnswers({ redis, own: new AnswerCache(systemClock), name: 'away' });
    expect((await limiter.take('a')).remaining).toBe(4);

    process.kill(server!.pid!, 'SIGSTOP');
    // The first waits for an answer that does not come, those after it do not.
    expect((await limiter.take('a')).remaining).toBe(4);
    expect((await limiter.take('a')).remaining).toBe(3);
    expect(redis.status().reason).toMatch(/timed out/i);
    expect((await answers.get(['q'], async () => 1)).answer).toBe(1);
    process.kill(server!.pid!, 'SIGCONT');

    await server!.kill();
    await expect.poll(() => redis.status().connected, { interval: 5 }).toBe(false);
    expect((await limiter.take('a')).remaining).toBe(2);
    expect((await answers.get(['q'], async () => 2)).answer).toBe(1);
    expect(limiter.alone).toBeGreaterThanOrEqual(3);

    await server!.restart();
    await expect.poll(() => redis.status().connected, { timeout: 10_000, interval: 10 }).toBe(true);
    // A Redis that has forgotten everything: a full bucket.
    await expect.poll(async () => (await limiter.peek('a')).remaining, { timeout: 5_000, interval: 20 }).toBe(5);
    expect(told.filter((line) => line.includes('away'))).toHaveLength(1);
  });
});
