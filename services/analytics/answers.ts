import type { Parts } from '../parts.ts';
import { AnswerCache, type Answers } from './answer-cache.ts';
import { RedisAnswers } from './redis-answers.ts';

/** The answers of a service: shared over REDIS_URL where that is set, else its own. */
export function openAnswers({ clock, redis }: Pick<Parts, 'clock' | 'redis'>, name: string): Answers {
  const own = new AnswerCache(clock);
  return redis === null ? own : new RedisAnswers({ redis, own, name });
}
