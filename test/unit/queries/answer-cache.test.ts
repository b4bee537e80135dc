import { describe, expect, it } from 'vitest';
import { AnswerCache, KEEP_MS } from '../../../services/analytics/answer-cache.ts';
import { clockAt } from './database.ts';

function setUp(bounds?: { maxWeight?: number; maxEntries?: number }) {
  let nowMs = 0;
  let computed = 0;
  const cache = new AnswerCache({ ...clockAt(0), monotonic: () => nowMs }, bounds);
  const ask = (question: unknown, weight = 1) =>
    cache.get(
      question,
      async () => {
        computed++;
        return weight;
      },
      (answer) => answer,
    );
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { cache, ask, pass, computed: () => computed };
}

describe('the cache of answers', () => {
  it('computes a question once in five minutes', async () => {
    const { ask, pass, computed } = setUp();
    const first = await ask(['a', 1]);
    pass(KEEP_MS - 1);
    expect(await ask(['a', 1])).toEqual(first);
    expect(computed()).toBe(1);
    pass(1);
    expect((await ask(['a', 1])).etag).not.toBe(first.etag);
    expect(computed()).toBe(2);
    await ask(['a', 2]);
    expect(computed()).toBe(3);
  });

  it('lets those who ask meanwhile wait for the same answer', async () => {
    const { ask, computed } = setUp();
    const answers = await Promise.all([ask('q'), ask('q'), ask('q')]);
    expect(computed()).toBe(1);
    expect(new Set(answers.map((a) => a.etag)).size).toBe(1);
  });

  it('does not keep what failed', async () => {
    const { cache } = setUp();
    await expect(cache.get('q', () => Promise.reject(new Error('down')))).rejects.toThrow('down');
    expect((await cache.get('q', async () => 'up')).answer).toBe('up');
  });

  it('is bounded in entries and in weight, the oldest going first', async () => {
    const few = setUp({ maxEntries: 3 });
    for (const q of ['a', 'b', 'c', 'd']) await few.ask(q);
    expect(few.cache.size).toBe(3);
    await few.ask('a');
    expect(few.computed()).toBe(5);
    const heavy = setUp({ maxWeight: 10 });
    await heavy.ask('a', 4);
    await heavy.ask('b', 4);
    await heavy.ask('c', 4);
    expect(heavy.cache.size).toBe(2);
    await heavy.ask('huge', 50);
    expect(heavy.cache.size).toBe(0);
    await heavy.ask('a', 4);
    await heavy.ask('b', 4);
    expect(heavy.cache.size).toBe(2);
  });
});
