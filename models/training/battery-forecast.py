"""Temperature and state of charge of a pack five minutes ahead: gradient boosting on the change from now.

Learned from drives of a BMW i3 and from simulated packs; scored on drives left out, against "it stays as it is".
"""

import csv

import lightgbm as lgb
import numpy as np

from twinmesh_training import Graph, Training, rmse

HORIZON_MS = 300_000
TARGETS = ["temperature", "soc"]
REPORTED = ["soc", "voltage", "current", "temperature", "power"]
INPUTS = REPORTED + [
    f"{metric}.{window}.{statistic}"
    for metric, statistics in {
        "current": ("mean", "std"),
        "power": ("mean", "std"),
        "temperature": ("mean", "slope"),
        "soc": ("mean", "slope"),
        "voltage": ("mean", "slope"),
    }.items()
    for window in ("1m", "5m", "1h")
    for statistic in statistics
] + ["temperature.1h.min", "temperature.1h.max", "power.1m.min", "power.5m.min"]


def drives(trips: list[str]) -> dict:
    return {
        "kind": "battery",
        "inputs": INPUTS,
        "sample": {"everyMs": 10_000, "fromMs": 60_000},
        "ahead": {"horizonMs": HORIZON_MS, "metrics": TARGETS},
        "files": [{"path": f"bmw_i3_trips/{trip}.csv.gz", "map": "bmw-i3"} for trip in trips],
    }


def packs(runs: int, seed: int) -> dict:
    return {
        "kind": "battery",
        "inputs": INPUTS,
        "sample": {"everyMs": 30_000, "fromMs": 60_000},
        "ahead": {"horizonMs": HORIZON_MS, "metrics": TARGETS},
        "simulator": [{"runs": runs, "seed": seed, "index": [0, 7], "durationMs": [1_800_000, 5_400_000], "stepMs": [2_000, 5_000]}],
    }


def known(rows):
    return rows.where(np.all([np.isfinite(rows.truth[f"ahead.{m}"]) & np.isfinite(rows.feature(m)) for m in TARGETS], axis=0))


def main() -> None:
    t = Training(
        "battery-forecast",
        kind="battery",
        type="forecast",
        title="Temperature and charge in five minutes",
        description="Pack temperature (°C) and state of charge (%) five minutes after the newest reading, as the change that gradient boosting expects from the load and the trends of the last minutes.",
        seed=20260104,
    )
    index = t.path("bmw_i3_trips", "index.csv")
    trips = sorted(row["trip"] for row in csv.DictReader(index.open()) if (index.parent / f"{row['trip']}.csv.gz").exists())
    held = [trip for trip in trips if int(trip[-2:]) % 4 == 2]
    learned = [trip for trip in trips if trip not in held]
    t.progress(0.05, f"replaying {len(trips)} drives")
    train, test = known(t.export(drives(learned))), known(t.export(drives(held)))
    t.progress(0.3, "simulating packs")
    sim_train, sim_test = known(t.export(packs(120, 301))), known(t.export(packs(40, 302)))
    X = np.concatenate([train.X, sim_train.X])
    weight = np.concatenate([np.ones(len(train.X)), np.full(len(sim_train.X), 0.5)])
    models = []
    for i, metric in enumerate(TARGETS):
        t.progress(0.5 + 0.2 * i, f"trees for {metric}, {len(X)} rows")
        change = np.concatenate([rows.truth[f"ahead.{metric}"] - rows.feature(metric) for rows in (train, sim_train)])
        model = lgb.LGBMRegressor(
            n_estimators=150,
            max_depth=5,
            num_leaves=16,
            learning_rate=0.05,
            min_child_samples=100,
            colsample_bytree=0.5,
            subsample=0.7,
            subsample_freq=1,
            reg_lambda=10.0,
            deterministic=True,
            force_row_wise=True,
            num_threads=1,
            seed=t.seed,
            verbose=-1,
        )
        models.append(model.fit(X, change, sample_weight=weight))

    def predict(X):
        return np.column_stack([X[:, INPUTS.index(m)] + model.predict(X) for m, model in zip(TARGETS, models)])

    split = f"drives whose number leaves 2 when divided by 4 ({len(held)} of {len(trips)}) never trained on"
    for rows, data, where in ((test, "bmw_i3_trips", split), (sim_test, "simulated packs", "40 packs of seed 302")):
        said = predict(rows.X)
        for i, metric in enumerate(TARGETS):
            truth = rows.truth[f"ahead.{metric}"]
            t.score(f"{metric} RMSE", rmse(truth, said[:, i]), data=data, split=where, floor=("persistence", rmse(truth, rows.feature(metric))))

    g = Graph(len(INPUTS))
    columns = [g.op("Add", g.column(INPUTS.index(m)), g.lightgbm(model)) for m, model in zip(TARGETS, models)]
    g.output("forecast", g.concat(*columns), len(TARGETS))
    files = [index.parent / f"{trip}.csv.gz" for trip in trips]
    t.used("bmw_i3_trips", "Steinstraeter, Buberger, Trifonov, IEEE DataPort 10.21227/6jr9-5235 (CC BY 4.0)", *files)
    t.used("simulated packs", "simulator of the kind battery, seeds 301 and 302")
    sample = np.concatenate([test.X[:: max(1, len(test.X) // 8)][:8], sim_test.X[::200][:5]])
    t.write(
        g.model("battery-forecast"),
        inputs=train.inputs,
        reference=X,
        output={"metrics": TARGETS, "horizonMs": HORIZON_MS},
        split=split,
        rows=len(X),
        limits=[
            "Assumes that the pack goes on being used as in the last minutes: a drive that ends or a charge that begins is a surprise.",
            "Learned from one car of 60 Ah at 1 Hz and from simulated packs of 94 Ah.",
        ],
        sample=sample,
        expected={"forecast": predict(sample)},
        missing={"temperature": "required", "soc": "required"},
        held_out={"drives": drives(held), "packs": packs(40, 302), "trained": learned},
    )


main()
