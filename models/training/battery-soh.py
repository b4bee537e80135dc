"""State of health of a pack: what its management system says, freed of noise; where that says nothing, from a discharge.

Two branches in one graph, chosen row by row. With a reported state of health, trees correct its mean over the last hour (what was told
last, where that is longer ago). Without,
the charge drawn since the pack was full (counted by `soc`) plus what trees expect to be left in it, by how steeply the voltage
falls with charge, at which load and temperature: the older the cell, the less. That branch speaks of the end of a discharge,
below 3.0 V a cell.
"""

import csv

import lightgbm as lgb
import numpy as np

from sklearn.ensemble import ExtraTreesRegressor
from twinmesh_training import Graph, Training, boosted, coverage, mae, r2, sklearn_trees, split_offset

COVERAGE = 0.9
METRICS = ["soc", "soh", "voltage", "current", "temperature", "cycles", "power"]
WINDOWS = [
    "soh.1m.mean",
    "soh.5m.mean",
    "soh.1h.mean",
    "soh.1h.count",
    "soh.1h.slope",
    "soh.5m.slope",
    "soh.1h.panes",
    "current.1m.mean",
    "current.5m.mean",
    "temperature.1m.mean",
    "voltage.1m.slope",
    "voltage.5m.slope",
]
INPUTS = METRICS + WINDOWS
NAMES = METRICS + [n for name in WINDOWS for n in ([f"{name}[{i}]" for i in range(6)] if name.endswith("panes") else [name])]
AT = {name: i for i, name in enumerate(NAMES)}
#: Volts at which a discharge of 96 cells is at its end, and how long a cycle lasts at least.
END_V, QUIET_MS = 288.0, 10_800_000
CAPACITY_AH = 94.0
#: The second cell of each pair that was aged alike.
HELD_CELLS = ["B0026", "B0030", "B0039", "B0046", "B0050"]
#: Every so many-th reading finds each discharge: they have a hundred and more.
SPARSE = 20
#: Variance that does not average out, as a share of that of one reading.
SLOW = 0.002
#: The management system's state of health is taken as this far off at each reading.
NOISE = {metric: 0.02 for metric in METRICS if metric != "cycles"}


def packs(runs: int, seed: int) -> dict:
    return {
        "kind": "battery",
        "inputs": INPUTS,
        "sample": {"everyMs": 300_000, "fromMs": 10_000},
        "simulator": [
            {
                "runs": runs,
                "seed": seed,
                "durationMs": [60_000, 7_200_000],
                "stepMs": [2_000, 10_000],
                "noise": NOISE,
                "parameters": {"cycles": [0, 1_000]},
                "scenarios": {"names": ["capacity_fade", "overheating", "cell_short"], "share": 0.3, "severity": [0.2, 1], "afterMs": [0, 5_400_000]},
            }
        ],
    }


def discharges(cells: list[str]) -> dict:
    return {
        "kind": "battery",
        "inputs": INPUTS,
        "sample": {"crossing": {"metric": "voltage", "below": END_V, "quietMs": QUIET_MS}},
        "files": [
            {
                "path": f"nasa_battery/{cell}.csv.gz",
                "map": "./nasa-pack.json",
                "chargeCount": {"capacityAh": CAPACITY_AH, "restartOn": "seq"},
                "labels": {"path": "nasa_battery/cycles.csv", "on": {"twin": "cell", "seq": "seq"}, "columns": ["capacity_ah"]},
            }
            for cell in cells
        ],
    }


def measured(rows):
    """Discharges whose capacity was measured; the cells have 2 Ah when new."""
    rows = rows.where(np.isfinite(rows.truth["label.capacity_ah"]) & (rows.feature("current") < 0))
    return rows, rows.truth["label.capacity_ah"] / 2 * 100


def discharge_features(X: np.ndarray) -> np.ndarray:
    """Charge drawn (%), load, temperature, how steeply the voltage of a cell falls a percent of charge, and the inverse. The graph computes the same."""
    load = [np.maximum(-X[:, AT[f"current.{w}.mean"]], np.float32(1)) for w in ("1m", "5m")]
    steep = [np.minimum(X[:, AT[f"voltage.{w}.slope"]] * np.float32(36 * CAPACITY_AH / 96) / a, np.float32(-1e-3)) for w, a in zip(("1m", "5m"), load)]
    return np.column_stack([100 - X[:, AT["soc"]], load[1], X[:, AT["temperature.1m.mean"]], *steep, *[1 / s for s in steep]]).astype(np.float32)


def discharge_graph(g: Graph) -> str:
    op, c, col = g.op, lambda v: g.const([[v]]), lambda name: g.column(AT[name])
    load = [op("Max", op("Neg", col(f"current.{w}.mean")), c(1.0)) for w in ("1m", "5m")]
    steep = [op("Min", op("Div", op("Mul", col(f"voltage.{w}.slope"), c(36 * CAPACITY_AH / 96)), a), c(-1e-3)) for w, a in zip(("1m", "5m"), load)]
    return g.concat(op("Sub", c(100.0), col("soc")), load[1], col("temperature.1m.mean"), *steep, *[op("Div", c(1.0), s) for s in steep])


def discharge_model(F: np.ndarray, left: np.ndarray, seed: int):
    """Many shallow randomised trees: steadier than boosting on cells that training has not seen."""
    return ExtraTreesRegressor(120, max_depth=5, min_samples_leaf=3, random_state=seed, n_jobs=1).fit(F, left)


def by_discharge(rows) -> dict:
    """Number of the last row of each discharge whose capacity was measured."""
    known = np.flatnonzero(np.isfinite(rows.truth["label.capacity_ah"]))
    return {(rows.truth["file"][row], rows.truth["attribute.seq"][row]): row for row in known}


def as_told(t: Training, rows, all_rows, answer, wide: float, split: str) -> None:
    """What twins say: asked whenever the kind lets them, each discharge judged by the last answer in it."""
    last = np.array(list(by_discharge(rows).values()))
    truth, said = rows.truth["label.capacity_ah"][last] / 2 * 100, answer(rows.X[last])
    t.score("SoH R², as twins are told", r2(truth, said), data="nasa_battery", split=split)
    t.score("SoH MAE, as twins are told", mae(truth, said), data="nasa_battery", split=split)
    t.score("coverage of the interval, as twins are told", coverage(truth, said - wide, said + wide), data="nasa_battery", split=split)
    t.score("share of discharges that twins have an answer of", len(last) / len(by_discharge(all_rows)), data="nasa_battery", split=split)


def main() -> None:
    t = Training(
        "battery-soh",
        kind="battery",
        type="regression",
        title="State of health",
        description="Capacity of the pack in percent of the new one: the reported state of health freed of its noise; where none is reported, from the end of a discharge.",
        seed=20260105,
        version="1.1.0",
    )
    folder = t.path("nasa_battery")
    cells = sorted({row["cell"] for row in csv.DictReader((folder / "cycles.csv").open()) if (folder / f"{row['cell']}.csv.gz").exists()})
    learned = [cell for cell in cells if cell not in HELD_CELLS]
    t.progress(0.05, f"replaying {len(cells)} cells")
    real, capacity = measured(t.export(discharges(learned)))
    real_test, capacity_test = measured(t.export(discharges(HELD_CELLS)))
    t.progress(0.3, "simulating packs")
    train, calibration, test = t.export(packs(400, 401)), t.export(packs(200, 402)), t.export(packs(200, 403))

    mean = AT["soh.1h.mean"]
    reported = boosted(lgb.LGBMRegressor, t.seed, n_estimators=150, num_leaves=16, learning_rate=0.05, min_child_samples=60, colsample_bytree=0.7)
    own = [AT[name] for name in NAMES if name.startswith("soh.")] + [AT["soh"]]
    # differences from the mean: the trees need not know the level
    level = lambda X: np.where(np.isnan(X[:, mean]), X[:, AT["soh"]], X[:, mean])
    relative = lambda X: np.column_stack([X[:, own] - level(X)[:, None], X[:, AT["soh.1h.count"]]]).astype(np.float32)
    reported.fit(relative(train.X), train.truth["truth.soh"] - level(train.X))
    t.progress(0.8, f"{len(train.X)} rows of packs, {len(capacity)} discharges")

    fit = lambda X, y: discharge_model(discharge_features(X), y - (100 - X[:, AT["soc"]].astype(np.float64)), t.seed % 2**31)
    drawn = fit(real.X, capacity)
    from_discharge = lambda X, model=drawn: 100 - X[:, AT["soc"]].astype(np.float64) + model.predict(discharge_features(X))
    from_report = lambda X: level(X).astype(np.float64) + reported.predict(relative(X))
    bound = lambda v: np.clip(v, 0, 110)

    # leave-cells-out over all cells, and how far off: the width of the interval without a report
    twin = np.array(real.twins)[real.truth["twin"].astype(int)]
    every, every_capacity = np.concatenate([real.X, real_test.X]), np.concatenate([capacity, capacity_test])
    whose = np.concatenate([twin, np.array(real_test.twins)[real_test.truth["twin"].astype(int)]])
    crossed = np.full(len(every), np.nan)
    for cell in cells:
        crossed[whose == cell] = bound(from_discharge(every[whose == cell], fit(every[whose != cell], every_capacity[whose != cell])))
    inner = np.full(len(real.X), np.nan)
    for cell in learned:
        inner[twin == cell] = bound(from_discharge(real.X[twin == cell], fit(real.X[twin != cell], capacity[twin != cell])))
    wide = split_offset(capacity, inner, COVERAGE)
    # noise averages out with the number of readings, what changes within the hour does not
    root = lambda X: 1 / np.sqrt(1 / np.maximum(X[:, AT["soh.1h.count"]], 1) + SLOW)
    narrow = split_offset(calibration.truth["truth.soh"] * root(calibration.X), from_report(calibration.X) * root(calibration.X), COVERAGE)

    real_split = f"cells {', '.join(HELD_CELLS)} never trained on"
    said = bound(from_discharge(real_test.X))
    counting = ("charge counted", r2(capacity_test, 100 - real_test.feature("soc")))
    t.score("SoH R²", r2(capacity_test, said), data="nasa_battery", split=real_split, floor=counting)
    t.score("SoH MAE", mae(capacity_test, said), data="nasa_battery", split=real_split, floor=("charge counted", mae(capacity_test, 100 - real_test.feature("soc"))))
    t.score("SoH R², each cell left out once", r2(every_capacity, crossed), data="nasa_battery", split=f"leave one of {len(cells)} cells out, trained anew each time", floor=("charge counted", r2(every_capacity, 100 - every[:, AT["soc"]])))
    t.score("coverage of the interval", coverage(capacity_test, said - wide, said + wide), data="nasa_battery", split=real_split)
    as_told(t, t.export({**discharges(HELD_CELLS), "sample": {"due": "soh"}}), t.export({**discharges(HELD_CELLS), "sample": {"everyReadings": SPARSE}}), lambda X: bound(from_discharge(X)), wide, real_split)
    for cell in cells:
        print(f"  {cell}: left out, MAE {mae(every_capacity[whose == cell], crossed[whose == cell]):.2f} over {np.sum(whose == cell)} discharges")
    told, truth = bound(from_report(test.X)), test.truth["truth.soh"]
    sim_split = "200 packs of seed 403"
    t.score("SoH R²", r2(truth, told), data="simulated packs, 2 % noise", split=sim_split, floor=("as reported", r2(truth, test.feature("soh"))))
    t.score("SoH MAE", mae(truth, told), data="simulated packs, 2 % noise", split=sim_split, floor=("as reported", mae(truth, test.feature("soh"))))
    t.score("coverage of the interval", coverage(truth, told - narrow / root(test.X), told + narrow / root(test.X)), data="simulated packs, 2 % noise", split=sim_split)

    g = Graph(len(NAMES))
    silent = g.op("IsNaN", g.column(AT["soh"]))
    centre = g.op("Where", g.op("IsNaN", g.column(mean)), g.column(AT["soh"]), g.column(mean))
    shift = g.op("Sub", g.columns(g.input, own), centre)
    a = g.op("Add", centre, g.lightgbm(reported, g.concat(shift, g.column(AT["soh.1h.count"]))))
    forest = sklearn_trees(drawn.estimators_, lambda tree, node, depth: float(tree.value[node][0][0]) / len(drawn.estimators_))
    # without charge or slope there is no discharge to speak of: then a pack in the middle of what was seen
    filled = g.impute(discharge_graph(g), np.median(discharge_features(real.X), axis=0))
    b = g.op("Add", g.column(0, filled), g.trees(forest, filled))
    value = g.clip(g.op("Where", silent, b, a), 0, 110)
    count = g.op("Max", g.impute(g.column(AT["soh.1h.count"]), [1.0]), g.const([[1.0]]))
    spread = g.op("Sqrt", g.op("Add", g.op("Reciprocal", count), g.const([[SLOW]])))
    half = g.op("Where", silent, g.const([[wide]]), g.op("Mul", g.const([[narrow]]), spread))
    g.output("value", value)
    g.output("lo", g.clip(g.op("Sub", value, half), 0, 110))
    g.output("hi", g.clip(g.op("Add", value, half), 0, 110))

    t.used("nasa_battery", "B. Saha, K. Goebel: NASA Ames PCoE battery data (public domain)", *[folder / f"{cell}.csv.gz" for cell in cells], folder / "cycles.csv")
    t.used("simulated packs", "simulator of the kind battery, seeds 401 to 403")
    reference = np.concatenate([train.X, real.X])
    medians = np.nanmedian(train.X, axis=0)
    groups = {metric: [i for name, i in AT.items() if name.split(".")[0] == metric] for metric in ("soh", "soc", "current", "voltage", "temperature")}
    # health told longer than an hour ago
    stale = np.full((1, len(NAMES)), np.nan, np.float32)
    stale[0, AT["soh"]] = 88
    sample = np.concatenate([test.X[:: max(1, len(test.X) // 7)][:7], real_test.X[::25][:7], stale])
    expected = np.where(np.isnan(sample[:, AT["soh"]]), bound(from_discharge(np.nan_to_num(sample))), bound(from_report(sample)))
    t.write(
        g.model("battery-soh"),
        inputs=[{**entry} for entry in train.inputs],
        reference=reference,
        output={
            "unit": "%",
            "coverage": COVERAGE,
            "range": [0, 110],
            "explain": {"method": "occlusion", "groups": groups, "reference": [float(f"{v:.6g}") for v in medians]},
        },
        split=f"nasa_battery: {real_split}; simulated packs: trained on seed 401, calibrated on 402, scored on 403",
        rows=len(reference),
        limits=[
            "Without a reported state of health it speaks of the end of a discharge only (3.0 V a cell, counted from full by what the new pack held): at other moments its answer means nothing. The kind asks at 2.917 to 3.0 V, with load and with 5 % of that charge or more left.",
            "That branch has seen few 18650 cells at -, 24 and 43 °C and constant load, scaled to a pack of 96 in series and 94 Ah.".replace("-,", "4,"),
            "With a reported state of health it takes its noise away, not its bias. Where none came for an hour it says the last one.",
        ],
        sample=sample,
        expected={"value": expected},
        held_out={"cells": discharges(HELD_CELLS), "packs": packs(200, 403), "trained": learned},
        tolerance={"absolute": 0.01, "relative": 0.001},
    )


main()
