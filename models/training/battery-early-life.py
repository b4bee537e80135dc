"""Cycle life of a lithium iron phosphate cell from its first hundred cycles (Severson et al., Nature Energy 4, 383, 2019).

Features of the discharge curves Q(V) of cycles 10 and 100 and of the capacity by cycle, as in the paper; ridge regression on
the logarithm of the cycle life. The features are computed inside the graph from the curves as they are.
"""

import csv
import gzip

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, LeaveOneOut

from twinmesh_training import Graph, Training, coverage, mape, split_offset

POINTS = 100
CYCLES = np.arange(2, 101)
WIDTH = 2 * POINTS + len(CYCLES)
COVERAGE = 0.9
TAIL = 10


def features(X: np.ndarray) -> np.ndarray:
    """The graph computes the same."""
    dq = X[:, POINTS : 2 * POINTS] - X[:, :POINTS]
    mean = dq.mean(axis=1, keepdims=True)
    off = dq - mean
    var = (off**2).mean(axis=1)
    q2 = X[:, 2 * POINTS]
    # a capacity that jumps by a tenth is a fault of the record
    capacity = X[:, 2 * POINTS :]
    capacity = np.where(np.abs(capacity - q2[:, None]) < 0.1, capacity, q2[:, None])
    x = np.arange(TAIL) - (TAIL - 1) / 2
    slope = capacity[:, -TAIL:] @ (x / np.sum(x**2))
    return np.column_stack(
        [
            np.log10(var),
            np.log10(np.abs(mean[:, 0])),
            np.log10(np.abs(dq.min(axis=1))),
            np.log10((off**4).mean(axis=1) / var**2),
            slope * 1000,
            q2,
            capacity.max(axis=1) - q2,
        ]
    )


def features_graph(g: Graph) -> str:
    op, c = g.op, lambda v: g.const([[v]])
    log10 = lambda x: op("Mul", op("Log", x), c(1 / np.log(10)))
    average = lambda x: op("ReduceMean", x, axes=[1], keepdims=1)
    dq = op("Sub", g.columns(g.input, range(POINTS, 2 * POINTS)), g.columns(g.input, range(POINTS)))
    mean = average(dq)
    square = op("Mul", op("Sub", dq, mean), op("Sub", dq, mean))
    var = average(square)
    q2 = g.column(2 * POINTS)
    raw = g.columns(g.input, range(2 * POINTS, WIDTH))
    sound = op("Less", op("Abs", op("Sub", raw, q2)), c(0.1))
    capacity = op("Where", sound, raw, q2)
    x = np.arange(TAIL) - (TAIL - 1) / 2
    weights = (1000 * x / np.sum(x**2)).reshape(-1, 1)
    slope = g.dense(g.columns(capacity, range(len(CYCLES) - TAIL, len(CYCLES))), weights, [0.0])
    return g.concat(
        log10(var),
        log10(op("Abs", mean)),
        log10(op("Abs", op("ReduceMin", dq, axes=[1], keepdims=1))),
        log10(op("Div", average(op("Mul", square, square)), op("Mul", var, var))),
        slope,
        q2,
        op("Sub", op("ReduceMax", capacity, axes=[1], keepdims=1), q2),
    )


def fit(F: np.ndarray, life: np.ndarray):
    """Weights on the features as they are, and the intercept."""
    mean, std = F.mean(axis=0), F.std(axis=0)
    model = RidgeCV(np.logspace(-3, 3, 20)).fit((F - mean) / std, np.log10(life))
    weights = model.coef_ / std
    return weights, float(model.intercept_ - np.sum(weights * mean))


def main() -> None:
    t = Training(
        "battery-early-life",
        kind="battery",
        type="regression",
        title="Cycle life of a cell from its first hundred cycles",
        description="Cycles to 80 % of capacity of an LFP cell under fast charging, from the curves Q(V) of cycles 10 and 100 (100 points from 3.5 V down to 2.0 V) and the capacity of cycles 2 to 100, all in Ah. Not asked by twins: for cells on a test bench.",
        seed=20260103,
    )
    folder = t.path("severson_cycle_life")
    files = [folder / "q_of_v_cycle10_100.csv.gz", folder / "capacity_by_cycle.csv.gz"]
    capacity = {row["cell"]: row for row in csv.DictReader(gzip.open(files[1], "rt"))}
    curve = {(row["cell"], int(float(row["cycle"]))): row for row in csv.DictReader(gzip.open(files[0], "rt"))}
    cells = sorted(capacity, key=lambda cell: int(cell.split("_")[1]))
    points = [f"p{i}" for i in range(0, 1000, 10)]
    X = np.array(
        [
            [float(curve[cell, n][p]) for n in (10, 100) for p in points] + [float(capacity[cell][f"q{i}"] or "nan") for i in CYCLES]
            for cell in cells
        ],
        dtype=np.float32,
    )
    life = np.array([float(capacity[cell]["cycle_life"]) for cell in cells])
    F = features(X.astype(np.float64))
    number = np.array([int(cell.split("_")[1]) for cell in cells])
    held = number % 4 == 0
    t.progress(0.3, f"{len(cells)} cells, {held.sum()} held out")

    def predict(F, fitted):
        return 10 ** (F @ fitted[0] + fitted[1])

    crossed, floor = [], []
    for repeat in range(10):
        for train, test in KFold(5, shuffle=True, random_state=t.seed % 1000 + repeat).split(F):
            crossed.append((life[test], predict(F[test], fit(F[train], life[train]))))
            floor.append((life[test], np.full(len(test), 10 ** np.mean(np.log10(life[train])))))
    best = ("elastic net on the full feature set", 9.1, "Severson et al. 2019, primary test set")
    joined = [np.concatenate(part) for part in zip(*crossed)]
    middle = [np.concatenate(part) for part in zip(*floor)]
    own = fit(F[~held], life[~held])
    split = f"cells whose number is a multiple of 4 ({held.sum()} of {len(cells)}) never trained on"
    base = np.full(held.sum(), 10 ** np.mean(np.log10(life[~held])))
    t.score("cycle life MAPE", mape(life[held], predict(F[held], own)), data="severson_cycle_life", split=split, floor=("mean life", mape(life[held], base)), best=best)
    t.score("cycle life MAPE, crossed", mape(*joined), data="severson_cycle_life", split="five folds of whole cells, ten times", floor=("mean life", mape(*middle)), best=best)

    # jackknife: how far each cell of training lies from what the others say of it
    G, L = F[~held], life[~held]
    apart = np.concatenate([[np.log10(L[test]) - np.log10(predict(G[test], fit(G[train], L[train])))] for train, test in LeaveOneOut().split(G)]).ravel()
    offset = split_offset(apart, np.zeros(len(apart)), COVERAGE)
    said = predict(F[held], own)
    t.score("coverage of the interval", coverage(life[held], said * 10**-offset, said * 10**offset), data="severson_cycle_life", split=split)

    g = Graph(WIDTH)
    log_life = g.dense(features_graph(g), own[0].reshape(-1, 1), [own[1]])
    power = lambda x: g.op("Exp", g.op("Mul", x, g.const([[np.log(10)]])))
    g.output("value", power(log_life))
    g.output("lo", power(g.op("Sub", log_life, g.const([[offset]]))))
    g.output("hi", power(g.op("Add", log_life, g.const([[offset]]))))
    t.used("severson_cycle_life", "Severson et al. 2019, data.matr.io (CC BY 4.0), via petermattia/revisit-severson-et-al (MIT)", *files)
    names = [f"q_of_v_cycle{n}[{i}]" for n in (10, 100) for i in range(POINTS)] + [f"capacity_cycle{i}" for i in CYCLES]
    sample = X[held]
    told = predict(features(sample.astype(np.float64)), own)
    t.write(
        g.model("battery-early-life"),
        inputs=[{"name": name, "unit": "Ah"} for name in names],
        reference=X[~held],
        output={"unit": "cycles", "coverage": COVERAGE, "range": [1, 20_000]},
        split=split,
        rows=int((~held).sum()),
        limits=[
            "LFP/graphite 18650 cells of one make under fast charging only: the curves of other cells mean nothing to it.",
            "All 299 inputs must be there: a curve with holes gives no answer.",
            f"{(~held).sum()} cells: the interval is as wide as so few allow.",
        ],
        sample=sample,
        expected={"value": told},
        missing={name: "required" for name in names},
        held_out={"cells": [cell for cell, out in zip(cells, held) if out], "trained": [cell for cell, out in zip(cells, held) if not out]},
        tolerance={"absolute": 0.1, "relative": 0.01},
    )


main()
