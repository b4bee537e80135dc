/** Scores, as twinmesh_training/scores.py has them for training. All throw a RangeError for nothing to score. */
type Numbers = ArrayLike<number>;

function mean(n: number, term: (i: number) => number): number {
  if (n === 0) throw new RangeError('There is nothing to score.');
  let sum = 0;
  for (let i = 0; i < n; i++) sum += term(i);
  return sum / n;
}

export function mae(truth: Numbers, predicted: Numbers): number {
  return mean(truth.length, (i) => Math.abs(truth[i] - predicted[i]));
}

export function rmse(truth: Numbers, predicted: Numbers): number {
  return Math.sqrt(mean(truth.length, (i) => (truth[i] - predicted[i]) ** 2));
}

/** Mean absolute error in percent of the truth. */
export function mape(truth: Numbers, predicted: Numbers): number {
  return 100 * mean(truth.length, (i) => Math.abs(truth[i] - predicted[i]) / Math.abs(truth[i]));
}

export function r2(truth: Numbers, predicted: Numbers): number {
  const middle = mean(truth.length, (i) => truth[i]);
  return (
    1 - mean(truth.length, (i) => (truth[i] - predicted[i]) ** 2) / mean(truth.length, (i) => (truth[i] - middle) ** 2)
  );
}

/** Area under the ROC curve; ties count half. */
export function auc(truth: Numbers, score: Numbers): number {
  const order = Array.from({ length: truth.length }, (_, i) => i).sort((a, b) => score[a] - score[b]);
  let positives = 0;
  let rankSum = 0;
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && score[order[end]] === score[order[start]]) end++;
    for (let i = start; i < end; i++)
      if (truth[order[i]] > 0.5) {
        positives++;
        rankSum += (start + 1 + end) / 2;
      }
    start = end;
  }
  const negatives = truth.length - positives;
  if (positives === 0 || negatives === 0) throw new RangeError('There is one class only.');
  return (rankSum - (positives * (positives + 1)) / 2) / (positives * negatives);
}

/** Share-weighted distance of stated and observed frequency, over bins of equal width (Guo et al. 2017). */
export function expectedCalibrationError(truth: Numbers, probability: Numbers, bins = 10): number {
  const count = new Float64Array(bins);
  const observed = new Float64Array(bins);
  const stated = new Float64Array(bins);
  for (let i = 0; i < truth.length; i++) {
    const bin = Math.min(bins - 1, Math.floor(probability[i] * bins));
    count[bin]++;
    observed[bin] += truth[i];
    stated[bin] += probability[i];
  }
  return mean(bins, (b) => (bins * Math.abs(observed[b] - stated[b])) / truth.length);
}

export function f1(truth: Numbers, flagged: Numbers): number {
  let hits = 0;
  let all = 0;
  for (let i = 0; i < truth.length; i++) {
    if (truth[i] > 0.5 && flagged[i] > 0.5) hits++;
    all += (truth[i] > 0.5 ? 1 : 0) + (flagged[i] > 0.5 ? 1 : 0);
  }
  return (2 * hits) / Math.max(1, all);
}

/** Share of truths inside their interval. */
export function coverage(truth: Numbers, lo: Numbers, hi: Numbers): number {
  return mean(truth.length, (i) => (lo[i] <= truth[i] && truth[i] <= hi[i] ? 1 : 0));
}
