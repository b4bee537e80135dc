"""turbofan-rul: flights left, from windows of 5 to 120 flights of 14 sensors (NASA C-MAPSS FD001 and FD003).

Gradient boosting, five times, each trained without a fifth of the engines; the answer is their mean. What each says of the
engines that it has not seen gives the score of cross-validation and the interval. On those engines it does better than
recurrent networks over the last 30 flights did, because a window of 120 flights tells how an engine began.
"""

import numpy as np
from lightgbm import LGBMRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from twinmesh_training import Graph, Training, coverage, rmse

SENSORS = ["t24", "t30", "t50", "p30", "nf", "nc", "ps30", "phi", "nrf", "nrc", "bpr", "ht_bleed", "w31", "w32"]
STATISTICS = ["5h.mean", "10h.mean", "30h.mean", "30h.slope", "30h.std", "120h.mean", "120h.slope"]
INPUTS = [f"{s}.{statistic}" for s in SENSORS for statistic in STATISTICS] + ["t24.120h.count"]
HOUR = 3_600_000
#: The field counts a younger engine as one with so many flights left (Heimes, PHM 2008).
CAP = 125.0
FOLDS = 5
COVERAGE = 0.9
#: Predictions between which the width of the interval is measured apart.
KNOTS = np.array([0, 25, 50, 75, 100, 125], np.float32)


def spec(file: str, sample: dict) -> dict:
    return {"kind": "turbofan", "inputs": INPUTS, "sample": sample, "files": [{"path": f"cmapss/{file}", "map": "cmapss"}]}


def phm08(truth, predicted) -> float:
    """Saxena et al., PHM 2008: late costs more than early; a sum over engines."""
    late = np.asarray(predicted) - np.asarray(truth)
    return float(np.sum(np.where(late < 0, np.exp(-late / 13), np.exp(late / 10)) - 1))


def fit(x, y, seed):
    model = LGBMRegressor(
        n_estimators=170,
        num_leaves=15,
        learning_rate=0.07,
        min_child_samples=80,
        subsample=0.7,
        subsample_freq=1,
        colsample_bytree=0.4,
        reg_lambda=5,
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        verbose=-1,
    )
    return model.fit(x, y)


def graph_of(width: int, members, half) -> Graph:
    g = Graph(width)
    mean = g.op("ReduceMean", g.concat(*[g.lightgbm(member) for member in members]), axes=[1], keepdims=1)
    value = g.clip(mean, 0, CAP)
    # width of the interval: linear between the knots, as a sum of ramps
    slopes = np.diff(half) / np.diff(KNOTS)
    turns = np.concatenate([slopes[:1], np.diff(slopes)])
    ramps = g.op("Relu", g.op("Sub", value, g.const(KNOTS[:-1].reshape(1, -1))))
    width = g.op("Add", g.op("MatMul", ramps, g.const(turns.reshape(-1, 1))), g.const([[half[0]]]))
    g.output("value", value)
    g.output("lo", g.clip(g.op("Sub", value, width), 0, CAP))
    g.output("hi", g.clip(g.op("Add", value, width), 0, CAP))
    return g


def main():
    t = Training(
        "turbofan-rul",
        kind="turbofan",
        type="regression",
        title="Flights left of a turbofan engine",
        description="Mean of five gradient boosted models over windows of 5 to 120 flights of 14 sensors, with a 90 % interval. Flights are capped at 125, as the field does: 125 means 125 or more.",
        seed=5,
    )
    source = "NASA Ames, Saxena, Goebel, Simon, Eklund, PHM 2008 (public domain)"
    fleets = ["FD001", "FD003"]
    xs, ys, units, names = [], [], [], None
    for i, fleet in enumerate(fleets):
        t.used(f"C-MAPSS train_{fleet}", source, t.path("cmapss", f"train_{fleet}.txt.gz"))
        rows = t.export(spec(f"train_{fleet}.txt.gz", {"everyReadings": 1, "fromMs": 4 * HOUR}))
        at, twin = rows.truth["at"], rows.truth["twin"].astype(int)
        end = np.zeros(twin.max() + 1)
        np.maximum.at(end, twin, at)
        xs.append(rows.X)
        ys.append((end[twin] - at) / HOUR)
        units.append(twin + 1000 * i)
        inputs = rows.inputs
        names = rows.names
    x, y, unit = np.concatenate(xs), np.concatenate(ys), np.concatenate(units)
    capped = np.minimum(y, CAP)
    engines = np.unique(unit)
    fold_of = dict(zip(np.random.default_rng(t.seed).permutation(engines), np.arange(len(engines)) % FOLDS))
    fold = np.array([fold_of[u] for u in unit])
    members, unseen = [], np.zeros(len(x))
    for k in range(FOLDS):
        rest = fold != k
        members.append(fit(x[rest], capped[rest], t.seed + k))
        unseen[~rest] = np.clip(members[k].predict(x[~rest]), 0, CAP)
        t.progress(0.1 + 0.8 * (k + 1) / FOLDS, f"model {k + 1}")
    best = ("DAST", 11.43, "Zhang, Song, Li, IEEE Trans. Instrum. Meas. 71, 2022")
    for i, fleet in enumerate(fleets):
        m = unit // 1000 == i
        t.score("RMSE of flights (capped at 125), every flight", rmse(capped[m], unseen[m]), data=f"C-MAPSS train_{fleet}", split="five folds of whole engines; each judged by the one model that has not seen it")
    # half width by prediction, from engines not seen; one knot takes the rows around it
    residual = np.abs(capped - unseen)
    half = np.array([np.quantile(residual[np.abs(unseen - c) <= 12.5], COVERAGE) for c in KNOTS], np.float32)

    def answer(x):
        value = np.clip(np.mean([member.predict(x) for member in members], axis=0), 0, CAP)
        width = np.interp(value, KNOTS, half)
        return value, np.clip(value - width, 0, CAP), np.clip(value + width, 0, CAP)

    test = t.export(spec("test_FD001.txt.gz", {"last": True}))
    t.used("C-MAPSS test_FD001, for scores only", source, t.path("cmapss", "test_FD001.txt.gz"), t.path("cmapss", "RUL_FD001.txt"))
    truths = np.loadtxt(t.path("cmapss", "RUL_FD001.txt"))
    truth = truths[[int(test.twins[int(i)].split("-")[1]) - 1 for i in test.truth["twin"]]]
    value, lo, hi = answer(test.X)
    split = "the benchmark's own: 100 engines cut off before their end, judged at their last flight"
    data = "C-MAPSS test_FD001"
    flat = StandardScaler().fit(np.nan_to_num(x[unit < 1000]))
    ridge = Ridge(10.0).fit(flat.transform(np.nan_to_num(x[unit < 1000])), capped[unit < 1000])
    plain = np.clip(ridge.predict(flat.transform(np.nan_to_num(test.X))), 0, CAP)
    within = np.minimum(truth, CAP)
    t.score("RMSE of flights (capped at 125)", rmse(within, value), data=data, split=split, floor=("ridge on the same inputs", rmse(within, plain)), best=best)
    t.score("RMSE of flights (truth not capped)", rmse(truth, value), data=data, split=split, floor=("ridge on the same inputs", rmse(truth, plain)))
    t.score("PHM08 score (capped at 125)", phm08(within, value), data=data, split=split, floor=("ridge on the same inputs", phm08(within, plain)), best=("DAST", 203.15, best[2]))
    t.score("PHM08 score (truth not capped)", phm08(truth, value), data=data, split=split, floor=("ridge on the same inputs", phm08(truth, plain)))
    t.score("coverage of the 90 % interval (capped at 125)", coverage(within, lo, hi), data=data, split=split)
    sample = np.concatenate([test.X[::12], x[:3]])
    value, lo, hi = answer(sample)
    sound = np.nanmedian(x[y > CAP], axis=0)
    t.write(
        graph_of(len(names), members, half).model("turbofan-rul"),
        inputs=inputs,
        reference=x,
        output={
            "unit": "flights",
            "coverage": COVERAGE,
            "range": [0, CAP],
            "explain": {
                "method": "occlusion",
                "groups": {s: [k for k, name in enumerate(names) if name.startswith(f"{s}.")] for s in SENSORS},
                "reference": [float(f"{v:.6g}") for v in sound],
            },
        },
        split="training: FD001 and FD003 by whole engines; test: FD001 as published",
        rows=len(x),
        sample=sample,
        expected={"value": value, "lo": lo, "hi": hi},
        held_out={"test": spec("test_FD001.txt.gz", {"last": True})},
        tolerance={"absolute": 0.05, "relative": 0.001},
        limits=[
            "Simulated engines at sea level (FD001, FD003): other flight conditions (FD002, FD004) are outside its training.",
            "125 means 125 flights or more: younger engines are not told apart.",
            "A flight stands as one hour of event time; the count of flights starts with the twin's first reading.",
            "A research benchmark, not for decisions about real engines.",
        ],
    )


if __name__ == "__main__":
    main()
