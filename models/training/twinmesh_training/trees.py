"""Gradient boosted trees as the batteries use them: shallow, regularised, and the same at each training."""

#: One thread, rows in order: the same rows and seed give the same trees.
SAME = {"deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1}


def boosted(make, seed: int, **parameters):
    """A LightGBM model yet to be fitted. make: LGBMClassifier or LGBMRegressor; parameters go over those given here."""
    return make(**{"max_depth": 5, "reg_lambda": 5.0, "seed": seed, **SAME, **parameters})
