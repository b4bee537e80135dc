import { expect, it } from 'vitest';
import type { RateLimiter } from '../../services/gateway/rate-limit.ts';

export interface LimiterUnderTest {
  limiter: RateLimiter;
  /** Lets so much time pass. */
  pass(ms: number): Promise<void> | void;
}

/** What every rate limiter does. `open` makes one with that many requests a minute. */
export function rateLimitSuite(open: (perMinute: number) => LimiterUnderTest | Promise<LimiterUnderTest>): void {
  it('lets a full bucket through, then as much as flows back', async () => {
    // One token in 200 ms.
    const { limiter, pass } = await open(300);
    for (let i = 0; i < 300; i++) expect((await limiter.take('a')).allowed).toBe(true);
    let refused = await limiter.take('a');
    // A slow machine has given a few back meanwhile.
    for (let i = 0; i < 50 && refused.allowed; i++) refused = await limiter.take('a');
    expect(refused.allowed).toBe(false);
    expect(refused.remaining).toBe(0);
    expect(refused.retryAfterMs).toBeGreaterThan(0);
    expect(refused.retryAfterMs).toBeLessThanOrEqual(200);
    await pass(refused.retryAfterMs + 10);
    expect((await limiter.peek('a')).allowed).toBe(true);
    expect((await limiter.take('a')).allowed).toBe(true);
  });

  it('counts each for itself, and says what is left', async () => {
    const { limiter } = await open(3);
    expect(await limiter.take('a')).toEqual({ allowed: true, remaining: 2, retryAfterMs: 0 });
    expect(await limiter.take('b')).toEqual({ allowed: true, remaining: 2, retryAfterMs: 0 });
    expect(await limiter.take('a')).toEqual({ allowed: true, remaining: 1, retryAfterMs: 0 });
    expect(await limiter.take('a')).toEqual({ allowed: true, remaining: 0, retryAfterMs: 0 });
    const refused = await limiter.take('a');
    expect(refused).toMatchObject({ allowed: false, remaining: 0 });
    expect(refused.retryAfterMs).toBeGreaterThan(10_000);
    expect(refused.retryAfterMs).toBeLessThanOrEqual(20_000);
  });

  it('takes nothing by looking', async () => {
    const { limiter } = await open(1);
    for (let i = 0; i < 3; i++) expect((await limiter.peek('a')).allowed).toBe(true);
    expect((await limiter.take('a')).allowed).toBe(true);
    expect((await limiter.peek('a')).allowed).toBe(false);
  });

  it('grants a bucket once, however many ask at once', async () => {
    const { limiter } = await open(20);
    const verdicts = await Promise.all(Array.from({ length: 100 }, () => limiter.take('a')));
    expect(verdicts.filter(({ allowed }) => allowed)).toHaveLength(20);
  });
}
