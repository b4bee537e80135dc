import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryRateLimiter } from '../../../services/gateway/rate-limit.ts';

describe('MemoryRateLimiter', () => {
  it('lets a full bucket through, then as much as flows back', () => {
    let now = 0;
    const limiter = new MemoryRateLimiter(60, () => now);
    for (let i = 0; i < 60; i++) expect(limiter.take('a')).toMatchObject({ allowed: true, remaining: 59 - i });
    const refused = limiter.take('a');
    expect(refused).toEqual({ allowed: false, remaining: 0, retryAfterMs: 1000 });
    expect(limiter.take('b').allowed).toBe(true);
    now += 999;
    expect(limiter.peek('a').allowed).toBe(false);
    now += 1;
    expect(limiter.peek('a').allowed).toBe(true);
    expect(limiter.take('a').allowed).toBe(true);
    expect(limiter.take('a').allowed).toBe(false);
  });

  it('takes nothing by looking', () => {
    const limiter = new MemoryRateLimiter(1, () => 0);
    expect(limiter.peek('a').allowed).toBe(true);
    expect(limiter.peek('a').allowed).toBe(true);
    expect(limiter.size).toBe(0);
  });

  it('never lets more than a bucket and what flowed back through, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 300 }), (gaps) => {
        let now = 0;
        let allowed = 0;
        const limiter = new MemoryRateLimiter(30, () => now);
        for (const gap of gaps) {
          now += gap;
          if (limiter.take('a').allowed) allowed++;
        }
        expect(allowed).toBeLessThanOrEqual(30 + (now * 30) / 60_000 + 1e-6);
      }),
    );
  });

  it('keeps memory bounded and forgets the idle first', () => {
    let now = 0;
    const limiter = new MemoryRateLimiter(10, () => now, 100);
    for (let i = 0; i < 10; i++) limiter.take('busy');
    for (let i = 0; i < 1000; i++) {
      now += 1;
      limiter.take(`address ${i}`);
      limiter.take('busy');
      expect(limiter.size).toBeLessThanOrEqual(100);
    }
    // Still out of budget: flooding with addresses does not buy a used-up one back while it goes on.
    expect(limiter.take('busy').allowed).toBe(false);
  });
});
