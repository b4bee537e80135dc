"""Intervals with a stated coverage, from residuals of a set that training has not seen.

Split conformal prediction (Vovk et al. 2005; Lei et al., JASA 2018) and conformalised quantile regression (Romano et
al., NeurIPS 2019). Coverage holds for new rows exchangeable with the calibration set: hold out whole units, not rows.
"""

import numpy as np


def split_offset(truth, predicted, coverage: float, groups=None) -> float:
    """Half width of an interval around a prediction."""
    return _quantile(np.abs(np.asarray(truth) - np.asarray(predicted)), coverage, groups)


def cqr_offset(truth, lo, hi, coverage: float, groups=None) -> float:
    """What to add on both sides of quantile predictions (may be negative)."""
    truth = np.asarray(truth)
    return _quantile(np.maximum(np.asarray(lo) - truth, truth - np.asarray(hi)), coverage, groups)


def _quantile(residuals, coverage: float, groups) -> float:
    residuals = np.asarray(residuals, dtype=np.float64)
    n = len(residuals) if groups is None else len(np.unique(groups))
    level = min(1.0, np.ceil((n + 1) * coverage) / n)
    return float(np.quantile(residuals, level, method="higher"))
