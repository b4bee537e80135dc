import type { CardScore } from '../../models/card.ts';

/** Scores of a candidate beside those of the live version, on the same held-out set. */
export interface ComparedScore {
  name: string;
  data: string;
  split: string;
  candidate: number;
  /** Null where the live version has no such score. */
  live: number | null;
  /** Null where they cannot be compared. */
  better: boolean | null;
}

export interface Comparison {
  scores: ComparedScore[];
  /** Better in the first score that both have, and in none of the others worse by more than TOLERATED; null where they share none. */
  better: boolean | null;
  /** Where the scores of the live version come from. */
  judgedOn: 'the same held-out rows' | 'their cards';
}

/** Scores where less is better; of all others more is. */
const LESS_IS_BETTER = /^(mae|rmse|mape|mse|ece|phm08|expected calibration error|calibration error|error)\b/i;
/** A score may be worse by this share of its value, which is noise, without the candidate being called worse. */
const TOLERATED = 0.02;

export function compareScores(
  candidate: readonly CardScore[],
  live: readonly CardScore[],
  judgedOn: Comparison['judgedOn'],
): Comparison {
  const scores = candidate.map(({ name, data, split, value }): ComparedScore => {
    const same = live.find((score) => score.name === name && score.data === data && score.split === split);
    if (same === undefined) return { name, data, split, candidate: value, live: null, better: null };
    const gain = (LESS_IS_BETTER.test(name) ? -1 : 1) * (value - same.value);
    return { name, data, split, candidate: value, live: same.value, better: gain > 0 };
  });
  const shared = scores.filter((score) => score.live !== null);
  if (shared.length === 0) return { scores, better: null, judgedOn };
  const better = shared[0].better === true && shared.slice(1).every(isNoWorse);
  return { scores, better, judgedOn };
}

function isNoWorse({ name, candidate, live }: ComparedScore): boolean {
  if (live === null) return true;
  const gain = (LESS_IS_BETTER.test(name) ? -1 : 1) * (candidate - live);
  return gain >= -TOLERATED * Math.abs(live);
}
