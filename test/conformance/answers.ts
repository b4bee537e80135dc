import { expect, it } from 'vitest';
import type { Answers } from '../../services/analytics/answer-cache.ts';

export interface AnswersUnderTest {
  answers: Answers;
  /** Lets so much time pass. */
  pass(ms: number): Promise<void> | void;
  /** How long an answer is kept, ms. */
  keepMs: number;
}

/** What every cache of answers does. */
export function answersSuite(open: () => AnswersUnderTest | Promise<AnswersUnderTest>): void {
  async function setUp() {
    const { answers, pass, keepMs } = await open();
    let computed = 0;
    const ask = (question: unknown) =>
      answers.get(question, async () => {
        computed++;
        return { items: [1, null, 'ä'], question };
      });
    return { answers, ask, pass, keepMs, computed: () => computed };
  }

  it('computes a question once in the time that it keeps answers, and anew after it', async () => {
    const { ask, pass, keepMs, computed } = await setUp();
    const first = await ask(['a', 1]);
    expect(first.answer).toEqual({ items: [1, null, 'ä'], question: ['a', 1] });
    expect(await ask(['a', 1])).toEqual(first);
    expect(computed()).toBe(1);
    await pass(keepMs + 50);
    expect((await ask(['a', 1])).etag).not.toBe(first.etag);
    expect(computed()).toBe(2);
  });

  it('keeps questions apart', async () => {
    const { ask, computed } = await setUp();
    const [one, other] = [await ask(['a', 1]), await ask(['a', '1'])];
    expect(one.etag).not.toBe(other.etag);
    expect(other.answer.question).toEqual(['a', '1']);
    expect(computed()).toBe(2);
  });

  it('lets those who ask meanwhile wait for the same answer', async () => {
    const { ask, computed } = await setUp();
    const answers = await Promise.all([ask('q'), ask('q'), ask('q')]);
    expect(computed()).toBe(1);
    expect(new Set(answers.map(({ etag }) => etag)).size).toBe(1);
  });

  it('does not keep what failed', async () => {
    const { answers } = await setUp();
    await expect(answers.get('q', () => Promise.reject(new Error('down')))).rejects.toThrow('down');
    expect((await answers.get('q', async () => 'up')).answer).toBe('up');
  });
}
