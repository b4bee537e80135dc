/** Scores of answers that are one of several classes, given by their number. */
type Numbers = ArrayLike<number>;

/** Of each row the class with the highest probability; `probabilities` is rows × classes. */
export function likeliest(probabilities: Numbers, classes: number): number[] {
  return Array.from({ length: probabilities.length / classes }, (_, row) => {
    let best = 0;
    for (let k = 1; k < classes; k++)
      if (probabilities[row * classes + k] > probabilities[row * classes + best]) best = k;
    return best;
  });
}

export interface ClassScore {
  f1: number;
  precision: number;
  recall: number;
}

/** One class against the rest. Precision is 0 where it was never said, recall where it never was. */
export function classScore(truth: Numbers, predicted: Numbers, which: number): ClassScore {
  let hits = 0;
  let said = 0;
  let were = 0;
  for (let i = 0; i < truth.length; i++) {
    if (predicted[i] === which) said++;
    if (truth[i] === which) were++;
    if (predicted[i] === which && truth[i] === which) hits++;
  }
  return {
    f1: (2 * hits) / Math.max(1, said + were),
    precision: hits / Math.max(1, said),
    recall: hits / Math.max(1, were),
  };
}

/** Mean F1 of the classes that are among truth or answers. */
export function macroF1(truth: Numbers, predicted: Numbers): number {
  const classes = new Set([...Array.from(truth), ...Array.from(predicted)]);
  if (classes.size === 0) throw new RangeError('There is nothing to score.');
  let sum = 0;
  for (const which of classes) sum += classScore(truth, predicted, which).f1;
  return sum / classes.size;
}

/** Agreement of two groupings, corrected for chance: 1 the same, 0 chance (Hubert and Arabie 1985). */
export function adjustedRandIndex(a: Numbers, b: Numbers): number {
  const cells = new Map<string, number>();
  const ofA = new Map<number, number>();
  const ofB = new Map<number, number>();
  const count = <K>(map: Map<K, number>, key: K) => void map.set(key, (map.get(key) ?? 0) + 1);
  for (let i = 0; i < a.length; i++) {
    count(cells, `${a[i]}|${b[i]}`);
    count(ofA, a[i]);
    count(ofB, b[i]);
  }
  const pairs = (map: Map<unknown, number>) => [...map.values()].reduce((sum, n) => sum + (n * (n - 1)) / 2, 0);
  const [together, inA, inB] = [pairs(cells), pairs(ofA), pairs(ofB)];
  const chance = (inA * inB) / ((a.length * (a.length - 1)) / 2);
  const most = (inA + inB) / 2;
  return most === chance ? 1 : (together - chance) / (most - chance);
}
