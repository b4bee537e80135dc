import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import { type Question, Questions } from '../../../actors/runtime/questions.ts';

const question = (number: number, rank: number): Question =>
  ({ shard: {}, activation: {}, plan: {}, number, rank, refusals: 0 }) as unknown as Question;

function drained(questions: Questions): [rank: number, number: number][] {
  const out: [number, number][] = [];
  for (let next = questions.shift(); next !== undefined; next = questions.shift()) out.push([next.rank, next.number]);
  return out;
}

const inOrder = (a: [number, number], b: [number, number]) => a[0] - b[0] || a[1] - b[1];

describe('a line of questions', () => {
  it('goes by rank, then by number, also after some have been dropped', () => {
    const random = seededRandom(3);
    for (const size of [0, 1, 2, 3, 10, 500]) {
      const all = Array.from({ length: size }, (_, i) => question(i, Math.floor(random() * 20)));
      for (const keep of [0, 0.1, 0.5, 0.9, 1]) {
        const line = new Questions();
        for (const one of all) line.push(one);
        const kept = new Set(all.filter(() => random() < keep));
        expect(line.retain((one) => kept.has(one))).toBe(size - kept.size);
        expect(line.size).toBe(kept.size);
        const wanted = [...kept].map(({ rank, number }): [number, number] => [rank, number]).sort(inOrder);
        expect(drained(line)).toEqual(wanted);
      }
    }
  });
});
