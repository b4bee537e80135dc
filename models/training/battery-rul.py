"""Remaining useful life of a pack in charge cycles, from how it has aged over the last three months.

The answer is bounded at CAP cycles: how long a pack has left before its knee shows cannot be known from its past, and beyond
a few hundred cycles nobody acts on the difference (the piecewise target of Heimes, PHM 2008). Interval by conformalised
quantile regression (Romano et al., NeurIPS 2019), calibrated on packs of their own.
"""

import lightgbm as lgb
import numpy as np

from twinmesh_training import Graph, Training, coverage, cqr_offset, mae, r2

CAP = 300.0
COVERAGE = 0.9
METRICS = ["soc", "soh", "voltage", "current", "temperature", "cycles", "power"]
INPUTS = METRICS + ["soh.90d.mean", "cycles.90d.mean", "fade", "soh.90d.panes", "cycles.90d.panes"]
WIDTH = 10 + 6 + 6
SOH, CYCLES = 10, 16
DAY = 86_400_000
NOISE = {metric: 0.02 for metric in METRICS if metric != "cycles"}

#: Ageing parameters of training, and populations that lie outside them in every one.
TRAIN = {"knee": [500, 1_000], "fade": [0.073, 0.077], "exponent": [0.65, 0.8], "sharpness": [0.095, 0.105], "growth": [0.3, 0.4]}
ABOVE = {"knee": [1_000, 1_150], "fade": [0.077, 0.079], "exponent": [0.8, 0.86], "sharpness": [0.105, 0.11], "growth": [0.4, 0.45]}
BELOW = {"knee": [1_000, 1_150], "fade": [0.071, 0.073], "exponent": [0.6, 0.65], "sharpness": [0.09, 0.095], "growth": [0.25, 0.3]}
#: Packs that wear faster than any of training.
FAST = {**BELOW, "knee": [450, 500]}
#: Keeps the logarithm of the ratio from running away at the end of life.
FLOOR = 0.03


def months(runs: int, seed: int, ageing: dict, start: list, first_day: int = 90) -> dict:
    """Packs followed for nine months, a reading every hour, a row every six days from the given day on."""
    return {
        "kind": "battery",
        "inputs": INPUTS,
        "sample": {"everyMs": 6 * DAY, "fromMs": first_day * DAY},
        "simulator": [{"runs": runs, "seed": seed, "durationMs": 270 * DAY, "stepMs": 3_600_000, "noise": NOISE, "parameters": {**ageing, "cycles": start}}],
    }


def hours(runs: int, seed: int, ageing: dict) -> dict:
    """Packs that a twin has known for minutes to hours."""
    return {
        "kind": "battery",
        "inputs": INPUTS,
        "sample": {"last": True},
        "simulator": [{"runs": runs, "seed": seed, "durationMs": [60_000, 7_200_000], "stepMs": [2_000, 10_000], "noise": NOISE, "parameters": {**ageing, "cycles": [20, 1_000]}}],
    }


def derived(X: np.ndarray) -> np.ndarray:
    """
    What the trees see, all without a scale of cycles: share lost by the trend, by panes, and slopes times cycles over the share
    lost. A pack that ages twice as slowly then looks the same at twice the cycles. The graph computes the same.
    """
    soh, cycles_mean, fade = X[:, 7], X[:, 8], X[:, 9]
    cycles = np.maximum(X[:, 5], np.float32(1))
    P, C = X[:, SOH : SOH + 6], X[:, CYCLES : CYCLES + 6]
    trend = np.where(np.isnan(fade), np.float32(0), fade)
    lost = np.maximum(100 - soh + trend * (X[:, 5] - cycles_mean), np.float32(0.1))
    slope = lambda a, b: (P[:, a] - P[:, b]) / np.maximum(C[:, b] - C[:, a], np.float32(1))
    early, middle, late, latest = slope(0, 2), slope(1, 4), slope(2, 4), slope(3, 5)
    left, scale = 20 - lost, cycles / lost
    small = np.float32(1e-4)
    columns = [
        lost,
        fade * scale,
        late * scale,
        early * scale,
        middle * scale,
        late / np.maximum(early, small),
        left / np.maximum(late, small) / cycles,
        left / np.maximum(fade, small) / cycles,
        (100 - P[:, 0]) / lost,
        (100 - P[:, 4]) / lost,
        100 - P[:, 4],
        latest * scale,
        left / np.maximum(latest, small) / cycles,
        100 - P[:, 5],
    ]
    return np.column_stack(columns).astype(np.float32)


def derived_graph(g: Graph) -> str:
    op, col = g.op, lambda i: g.column(i)
    c = lambda v: g.const([[v]])
    at_least = lambda x, v: op("Max", x, c(v))
    fade, cycles = col(9), at_least(col(5), 1.0)
    trend = op("Where", op("IsNaN", fade), c(0.0), fade)
    lost = at_least(op("Add", op("Sub", c(100.0), col(7)), op("Mul", trend, op("Sub", col(5), col(8)))), 0.1)
    slope = lambda a, b: op("Div", op("Sub", col(SOH + a), col(SOH + b)), at_least(op("Sub", col(CYCLES + b), col(CYCLES + a)), 1.0))
    early, middle, late, latest = slope(0, 2), slope(1, 4), slope(2, 4), slope(3, 5)
    left, scale = op("Sub", c(20.0), lost), op("Div", cycles, lost)
    share = lambda i: op("Sub", c(100.0), col(SOH + i))
    return g.concat(
        lost,
        op("Mul", fade, scale),
        op("Mul", late, scale),
        op("Mul", early, scale),
        op("Mul", middle, scale),
        op("Div", late, at_least(early, 1e-4)),
        op("Div", op("Div", left, at_least(late, 1e-4)), cycles),
        op("Div", op("Div", left, at_least(fade, 1e-4)), cycles),
        op("Div", share(0), lost),
        op("Div", share(4), lost),
        share(4),
        op("Mul", latest, scale),
        op("Div", op("Div", left, at_least(latest, 1e-4)), cycles),
        share(5),
    )


def line(rows) -> np.ndarray:
    """The floor: a straight line through state of health against cycles, over the three months, carried on to 80 %."""
    fade = np.maximum(rows.feature("fade").astype(np.float64), 1e-6)
    now = rows.feature("soh.90d.mean") - fade * (rows.feature("cycles") - rows.feature("cycles.90d.mean"))
    return np.clip((now - 80) / fade, 0, CAP)


def alive(rows):
    """Rows of packs that are not worn out yet and have a whole answer."""
    return rows.where(rows.truth["truth.rul"] > 0)


def main() -> None:
    t = Training(
        "battery-rul",
        kind="battery",
        type="regression",
        title="Remaining useful life",
        description=f"Charge cycles until the pack has 80 % of its capacity, {CAP:.0f} at most: {CAP:.0f} means this or more. Gradient boosting over three months of health against cycles, with an interval that holds {COVERAGE:.0%} of the truth.",
        seed=20260102,
    )
    t.progress(0.02, "simulating packs over months")
    long_train = alive(t.export(months(110, 201, TRAIN, [0, 800], 6)))
    t.progress(0.4, "simulating packs for calibration")
    long_cal = alive(t.export(months(36, 202, TRAIN, [0, 800], 6)))
    t.progress(0.5, "simulating packs outside the parameters of training")
    outside_specs = [months(40, 213, ABOVE, [0, 900]), months(40, 214, BELOW, [0, 900])]
    inside_spec, fast_spec, hours_spec = months(20, 205, TRAIN, [0, 700]), months(16, 209, FAST, [0, 300]), hours(150, 208, TRAIN)
    outside = [alive(t.export(spec)) for spec in outside_specs]
    inside, fast = alive(t.export(inside_spec)), alive(t.export(fast_spec))
    t.progress(0.8, "simulating packs known for hours")
    short_train, short_cal, short_test = alive(t.export(hours(400, 206, TRAIN))), alive(t.export(hours(150, 207, TRAIN))), alive(t.export(hours_spec))

    X = np.concatenate([long_train.X, short_train.X])
    left = np.concatenate([long_train.truth["truth.rul"], short_train.truth["truth.rul"]])
    ratio = lambda left, X: np.log(left / np.maximum(X[:, 5].astype(np.float64), 1) + FLOOR)
    y = ratio(left, X)

    def fit(objective: str, **more):
        model = lgb.LGBMRegressor(
            objective=objective,
            n_estimators=200,
            max_depth=5,
            num_leaves=12,
            learning_rate=0.05,
            min_child_samples=20,
            colsample_bytree=0.7,
            subsample=0.8,
            subsample_freq=1,
            reg_lambda=2.0,
            deterministic=True,
            force_row_wise=True,
            num_threads=1,
            seed=t.seed,
            verbose=-1,
            **more,
        )
        return model.fit(derived(X), y)

    t.progress(0.9, f"trees over {len(y)} rows")
    value, low, high = fit("l2"), fit("quantile", alpha=0.05), fit("quantile", alpha=0.95)
    cal, cal_left = np.concatenate([long_cal.X, short_cal.X]), np.concatenate([long_cal.truth["truth.rul"], short_cal.truth["truth.rul"]])
    # only what lies below the bound is uncertain
    near = cal_left < CAP
    seen = derived(cal[near])
    offset = cqr_offset(ratio(cal_left[near], cal[near]), low.predict(seen), high.predict(seen), COVERAGE)
    cycles = lambda raw, X: np.clip(np.maximum(X[:, 5], 1) * (np.exp(raw) - FLOOR), 0, CAP)
    predict = lambda model, X: cycles(model.predict(derived(X)), X)
    lo = lambda X: np.minimum(cycles(low.predict(derived(X)) - offset, X), predict(value, X))
    hi = lambda X: np.maximum(cycles(high.predict(derived(X)) + offset, X), predict(value, X))

    g = Graph(WIDTH)
    d = derived_graph(g)
    counted = g.op("Max", g.column(5), g.const([[1.0]]))

    def back(raw: str) -> str:
        return g.clip(g.op("Mul", counted, g.op("Sub", g.op("Exp", raw), g.const([[FLOOR]]))), 0, CAP)

    said = back(g.lightgbm(value, d))
    g.output("value", said)
    g.output("lo", g.op("Min", back(g.op("Sub", g.lightgbm(low, d), g.const([[offset]]))), said))
    g.output("hi", g.op("Max", back(g.op("Add", g.lightgbm(high, d), g.const([[offset]]))), said))

    def judge(rows, data: str, split: str, with_line: bool) -> None:
        truth = np.minimum(rows.truth["truth.rul"], CAP)
        said = predict(value, rows.X)
        floor = line(rows) if with_line else None
        t.score("RUL MAE", mae(truth, said), data=data, split=split, floor=("straight line through SoH", mae(truth, floor)) if with_line else None)
        near = truth < CAP
        t.score("RUL MAE below the bound", mae(truth[near], said[near]), data=data, split=split, floor=("straight line through SoH", mae(truth[near], floor[near])) if with_line else None)
        t.score("RUL R²", r2(truth, said), data=data, split=split, floor=("straight line through SoH", r2(truth, floor)) if with_line else None)
        t.score("coverage of the interval", coverage(truth, lo(rows.X), hi(rows.X)), data=data, split=split)
        print(f"  {len(truth)} rows, {np.mean(truth < CAP):.2f} below the bound, mean width {np.mean(hi(rows.X) - lo(rows.X)):.1f}")

    merged = type(inside)(
        np.concatenate([o.X for o in outside]), inside.names, {k: np.concatenate([o.truth[k] for o in outside]) for k in inside.truth}, [], inside.scenarios, inside.inputs
    )
    judge(merged, "simulated packs, ageing outside training, 2 % noise", "80 packs of seeds 213 and 214, every ageing parameter outside its range in training", True)
    judge(inside, "simulated packs, 2 % noise", "20 packs of seed 205", True)
    judge(fast, "simulated packs that wear faster than any of training, 2 % noise", "16 packs of seed 209", True)
    judge(short_test, "simulated packs known for hours, 2 % noise", "150 packs of seed 208", False)
    t.used("simulated packs", "simulator of the kind battery, seeds 201 to 214")
    medians = np.nanmedian(X, axis=0)
    groups = {"soh": [1, 7, 9, *range(SOH, SOH + 6)], "cycles": [5, 8, *range(CYCLES, CYCLES + 6)]}
    sample = np.concatenate([merged.X[:: max(1, len(merged.X) // 5)][:5], fast.X[:3], short_test.X[:5]])
    t.write(
        g.model("battery-rul"),
        inputs=inside.inputs,
        reference=X,
        output={
            "unit": "cycles",
            "coverage": COVERAGE,
            "range": [0, CAP],
            "explain": {"method": "occlusion", "groups": groups, "reference": [float(f"{v:.6g}") for v in medians]},
        },
        split="whole packs: trained on seeds 201 and 206, calibrated on 202 and 207, scored on 205, 208, 209, 213 and 214",
        rows=len(y),
        limits=[
            f"{CAP:.0f} cycles means {CAP:.0f} or more.",
            "A pack that wears faster than any of training is given too much time: see the score on such packs.",
            "Before a twin has seen eight full cycles there is no trend, and the answer rests on health and cycles alone: its interval is wide.",
            "Learned from simulated packs that wear by film growth and a knee; a pack of another chemistry bends elsewhere.",
            "Wear only: sudden faults are what battery-failure speaks of.",
        ],
        sample=sample,
        expected={"value": predict(value, sample), "lo": lo(sample), "hi": hi(sample)},
        held_out={"outside": outside_specs, "inside": inside_spec, "fast": fast_spec, "hours": hours_spec},
        missing={"cycles": "required", "soh.90d.mean": "required"},
        tolerance={"absolute": 0.01, "relative": 0.001},
    )


main()
