import { describe, expect, it } from 'vitest';
import type { ModelCard } from '../../../models/card.ts';
import { auc, coverage, expectedCalibrationError, f1, mae, mape, r2, rmse } from '../../../models/training/scores.ts';
import { scoreChanges } from '../../../models/training/train.ts';

describe('scores', () => {
  it('are what their definitions say', () => {
    expect(mae([1, 2, 3], [2, 2, 1])).toBe(1);
    expect(rmse([0, 0], [3, 4])).toBeCloseTo(Math.sqrt(12.5), 12);
    expect(mape([10, 20], [11, 18])).toBeCloseTo(10, 12);
    expect(r2([1, 2, 3], [2, 2, 2])).toBe(0);
    expect(r2([1, 2, 3], [1, 2, 3])).toBe(1);
    expect(f1([1, 1, 0, 0], [1, 0, 1, 0])).toBe(0.5);
    expect(coverage([1, 2, 3, 4], [0, 2.5, 3, 0], [2, 3, 3, 3])).toBe(0.5);
  });

  it('rank by pairs, ties counting half', () => {
    const truth = [1, 0, 1, 0, 0];
    const score = [0.9, 0.9, 0.4, 0.1, 0.4];
    let pairs = 0;
    for (const i of [0, 2])
      for (const j of [1, 3, 4]) pairs += score[i] > score[j] ? 1 : score[i] === score[j] ? 0.5 : 0;
    expect(auc(truth, score)).toBeCloseTo(pairs / 6, 12);
    expect(() => auc([1, 1], [0, 1])).toThrow(RangeError);
  });

  it('hold what was said against what came', () => {
    expect(expectedCalibrationError([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5])).toBe(0);
    expect(expectedCalibrationError([1, 1, 0, 0], [1, 1, 0.25, 0.25])).toBeCloseTo(0.125, 12);
    expect(() => mae([], [])).toThrow(RangeError);
  });
});

describe('a training beside its card', () => {
  const card = (values: Record<string, number>) =>
    ({ scores: Object.entries(values).map(([name, value]) => ({ name, value, data: 'd', split: 's' })) }) as ModelCard;

  it('differs where a score moved, came or went', () => {
    const changes = scoreChanges(card({ a: 10, b: 0.9, gone: 1 }), card({ a: 10.001, b: 0.92, fresh: 3 }));
    expect(changes.map(({ name, isSame }) => [name, isSame])).toEqual([
      ['a', true],
      ['b', false],
      ['fresh', false],
      ['gone', false],
    ]);
  });
});
