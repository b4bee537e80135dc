/** How readings that were flagged compare with those that people have labelled. */
export interface Counts {
  truePositives: number;
  falsePositives: number;
  falseNegatives: number;
}

export function nothingFound(): Counts {
  return { truePositives: 0, falsePositives: 0, falseNegatives: 0 };
}

export function count(counts: Counts, flagged: boolean, labelled: boolean): void {
  if (flagged && labelled) counts.truePositives++;
  if (flagged && !labelled) counts.falsePositives++;
  if (!flagged && labelled) counts.falseNegatives++;
}

/** 0 where there is nothing to divide by. */
export function ratiosOf({ truePositives: tp, falsePositives: fp, falseNegatives: fn }: Counts) {
  return {
    precision: tp / Math.max(1, tp + fp),
    recall: tp / Math.max(1, tp + fn),
    f1: (2 * tp) / Math.max(1, 2 * tp + fp + fn),
  };
}
