import { describe, expect, it } from 'vitest';
import { adjustedRandIndex, classScore, likeliest, macroF1 } from '../../../models/training/class-scores.ts';

describe('scores of classes', () => {
  it('take the likeliest class, the first of equals', () => {
    expect(likeliest([0.2, 0.5, 0.3, 0.4, 0.4, 0.2], 3)).toEqual([1, 0]);
  });

  it('count one class against the rest', () => {
    const score = classScore([1, 1, 1, 0, 2], [1, 0, 1, 1, 2], 1);
    expect(score).toEqual({ f1: 2 / 3, precision: 2 / 3, recall: 2 / 3 });
    expect(classScore([0, 0], [0, 0], 1)).toEqual({ f1: 0, precision: 0, recall: 0 });
  });

  it('weigh rare classes like frequent ones', () => {
    const truth = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    expect(macroF1(truth, truth)).toBe(1);
    expect(macroF1(truth, new Array(10).fill(0))).toBeCloseTo((18 / 19 + 0) / 2, 12);
    expect(() => macroF1([], [])).toThrow(RangeError);
  });

  it('give 1 for the same groups under other names, about 0 for chance, and the textbook value between', () => {
    expect(adjustedRandIndex([0, 0, 1, 1, 2], [5, 5, 3, 3, 9])).toBe(1);
    expect(adjustedRandIndex([0, 0, 1, 1], [0, 1, 0, 1])).toBeCloseTo(-0.5, 12);
    // Hubert and Arabie's example as in scikit-learn's documentation
    expect(adjustedRandIndex([0, 0, 1, 2], [0, 0, 1, 1])).toBeCloseTo(0.5714, 4);
    expect(adjustedRandIndex([0, 0, 0], [1, 1, 1])).toBe(1);
  });
});
