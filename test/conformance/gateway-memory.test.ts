import { describe } from 'vitest';
import { AnswerCache, KEEP_MS } from '../../services/analytics/answer-cache.ts';
import { MemoryRateLimiter } from '../../services/gateway/rate-limit.ts';
import { clockAt } from '../unit/queries/database.ts';
import { answersSuite } from './answers.ts';
import { rateLimitSuite } from './rate-limit.ts';

describe('answers in memory', () => {
  answersSuite(() => {
    let nowMs = 0;
    const pass = (ms: number) => {
      nowMs += ms;
    };
    return { answers: new AnswerCache({ ...clockAt(0), monotonic: () => nowMs }), pass, keepMs: KEEP_MS };
  });
});

describe('rate limits in memory', () => {
  rateLimitSuite((perMinute) => {
    let nowMs = 0;
    const pass = (ms: number) => {
      nowMs += ms;
    };
    return { limiter: new MemoryRateLimiter(perMinute, () => nowMs), pass };
  });
});
