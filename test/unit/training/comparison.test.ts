import { describe, expect, it } from 'vitest';
import type { CardScore } from '../../../models/card.ts';
import { compareScores } from '../../../services/training/comparison.ts';
import { nextVersion } from '../../../services/training/training-run.ts';

const score = (name: string, value: number): CardScore => ({ name, value, data: 'd', split: 's' });
const better = (mine: CardScore[], its: CardScore[]) => compareScores(mine, its, 'their cards').better;

describe('a candidate', () => {
  it('is better by the first score, up or down as the score goes', () => {
    expect(better([score('R²', 0.97)], [score('R²', 0.95)])).toBe(true);
    expect(better([score('MAE', 9)], [score('MAE', 11)])).toBe(true);
    expect(better([score('RMSE', 15)], [score('RMSE', 13)])).toBe(false);
    expect(better([score('F1', 0.9)], [score('F1', 0.9)])).toBe(false);
  });

  it('is not better where another score is clearly worse', () => {
    const its = [score('R²', 0.95), score('MAE', 10)];
    expect(better([score('R²', 0.97), score('MAE', 10.1)], its)).toBe(true);
    expect(better([score('R²', 0.97), score('MAE', 12)], its)).toBe(false);
  });

  it('cannot be judged without a score in common', () => {
    const compared = compareScores([score('R²', 0.9)], [score('AUC', 0.9)], 'their cards');
    expect(compared.better).toBeNull();
    expect(compared.scores).toEqual([
      { ...score('R²', 0.9), value: undefined, candidate: 0.9, live: null, better: null },
    ]);
  });

  it('gets the next minor version', () => {
    expect(nextVersion([])).toBe('1.0.0');
    expect(nextVersion(['1.10.3', '1.9.0'])).toBe('1.11.0');
  });
});
