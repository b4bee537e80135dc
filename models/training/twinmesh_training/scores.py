"""Scores, as models/training/scores.ts has them for evaluation."""

import numpy as np


def _pair(truth, predicted):
    a = np.asarray(truth, dtype=np.float64).ravel()
    b = np.asarray(predicted, dtype=np.float64).ravel()
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"{len(a)} truths and {len(b)} predictions")
    return a, b


def mae(truth, predicted) -> float:
    a, b = _pair(truth, predicted)
    return float(np.mean(np.abs(a - b)))


def rmse(truth, predicted) -> float:
    a, b = _pair(truth, predicted)
    return float(np.sqrt(np.mean((a - b) ** 2)))


def mape(truth, predicted) -> float:
    """Mean absolute error in percent of the truth."""
    a, b = _pair(truth, predicted)
    return float(100 * np.mean(np.abs(a - b) / np.abs(a)))


def r2(truth, predicted) -> float:
    a, b = _pair(truth, predicted)
    return float(1 - np.sum((a - b) ** 2) / np.sum((a - a.mean()) ** 2))


def auc(truth, score) -> float:
    """Area under the ROC curve; ties count half."""
    a, b = _pair(truth, score)
    order = np.argsort(b, kind="stable")
    sorted_b = b[order]
    ranks = np.empty(len(b))
    start = 0
    for end in [*np.flatnonzero(np.diff(sorted_b)) + 1, len(b)]:
        ranks[order[start:end]] = (start + 1 + end) / 2
        start = end
    positive = a > 0.5
    n1, n0 = positive.sum(), (~positive).sum()
    if n1 == 0 or n0 == 0:
        raise ValueError("one class only")
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def expected_calibration_error(truth, probability, bins: int = 10) -> float:
    """Share-weighted distance of stated and observed frequency, over bins of equal width (Guo et al. 2017)."""
    a, b = _pair(truth, probability)
    which = np.minimum((b * bins).astype(int), bins - 1)
    return float(sum(np.mean(which == i) * abs(a[which == i].mean() - b[which == i].mean()) for i in np.unique(which)))


def f1(truth, flagged) -> float:
    a, b = _pair(truth, flagged)
    tp = np.sum((a > 0.5) & (b > 0.5))
    return float(2 * tp / max(1, np.sum(a > 0.5) + np.sum(b > 0.5)))


def coverage(truth, lo, hi) -> float:
    """Share of truths inside their interval."""
    a, low = _pair(truth, lo)
    _, high = _pair(truth, hi)
    return float(np.mean((low <= a) & (a <= high)))
