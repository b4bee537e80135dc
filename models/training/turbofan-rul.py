"""turbofan-rul: flights left, from the last 30 flights of 14 sensors (NASA C-MAPSS FD001 and FD003).

Five gated recurrent units, each trained without a fifth of the engines; the answer is their mean. What each says of the
engines that it has not seen gives the score of cross-validation and the interval.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from twinmesh_training import Graph, Training, coverage, rmse
from twinmesh_training.network import adam, apply_dense, apply_gru, dense, graph_gru, gru, in_parts

SENSORS = ["t24", "t30", "t50", "p30", "nf", "nc", "ps30", "phi", "nrf", "nrc", "bpr", "ht_bleed", "w31", "w32"]
INPUTS = [f"{s}.30h.panes" for s in SENSORS]
STEPS = 30
HOUR = 3_600_000
#: The field counts a younger engine as one with so many flights left (Heimes, PHM 2008).
CAP = 125.0
FOLDS, HIDDEN = 5, 48
COVERAGE = 0.9
#: Predictions between which the width of the interval is measured apart.
KNOTS = np.array([0, 25, 50, 75, 100, 125], np.float32)


def spec(file: str, sample: dict) -> dict:
    return {"kind": "turbofan", "inputs": INPUTS, "sample": sample, "files": [{"path": f"cmapss/{file}", "map": "cmapss"}]}


def phm08(truth, predicted) -> float:
    """Saxena et al., PHM 2008: late costs more than early; a sum over engines."""
    late = np.asarray(predicted) - np.asarray(truth)
    return float(np.sum(np.where(late < 0, np.exp(-late / 13), np.exp(late / 10)) - 1))


class Scaling:
    def __init__(self, x):
        newest = x.reshape(-1, len(SENSORS), STEPS)[:, :, -1]
        self.mean, self.std = newest.mean(0), newest.std(0)

    def sequence(self, x):
        """[N, 30, 15]: sensors, and 1 where there was no flight yet"""
        x = x.reshape(-1, len(SENSORS), STEPS).transpose(0, 2, 1)
        missing = np.isnan(x[:, :, :1])
        x = np.clip((x - self.mean) / self.std, -4, 4)
        return np.concatenate([np.where(np.isnan(x), 0, x), missing], axis=2).astype(np.float32)


def predict(layers, x, key=None):
    h = apply_gru(layers["gru"], x)
    if key is not None:
        a, b = jax.random.split(key)
        h = h * jax.random.bernoulli(a, 0.7, h.shape) / 0.7
    h = jax.nn.relu(apply_dense(layers["hidden"], h))
    if key is not None:
        h = h * jax.random.bernoulli(b, 0.7, h.shape) / 0.7
    return apply_dense(layers["out"], h)[:, 0]


def loss(layers, key, x, y):
    noise, drop = jax.random.split(key)
    return jnp.mean((predict(layers, x + 0.1 * jax.random.normal(noise, x.shape), drop) - y) ** 2)


def fit(x, y, seed, progress):
    keys = jax.random.split(jax.random.PRNGKey(seed), 3)
    layers = {"gru": gru(keys[0], len(SENSORS) + 1, HIDDEN), "hidden": dense(keys[1], HIDDEN, 32), "out": dense(keys[2], 32, 1, 0.02)}
    layers["out"]["b"] = jnp.full(1, 0.7)
    return adam(layers, loss, (x, y), epochs=11, batch=384, rate=3e-3, seed=seed, decay=1e-3, progress=progress)


def graph_of(scaling: Scaling, width: int, members, half) -> Graph:
    g = Graph(width)
    x = g.op("Reshape", g.input, g.const([-1, len(SENSORS), STEPS], np.int64))
    x = g.op("Transpose", x, perm=[2, 0, 1])
    missing = g.op("IsNaN", g.op("Gather", x, g.const([0], np.int64), axis=2))
    x = g.op("Div", g.op("Sub", x, g.const(scaling.mean.reshape(1, 1, -1))), g.const(scaling.std.reshape(1, 1, -1)))
    x = g.clip(g.op("Where", g.op("IsNaN", x), g.const(0.0), x), -4, 4)
    x = g.op("Concat", x, g.op("Cast", missing, to=1), axis=2)
    told = []
    for layers in members:
        h = g.dense(graph_gru(g, layers["gru"], x), layers["hidden"]["w"], layers["hidden"]["b"], "Relu")
        told.append(g.dense(h, layers["out"]["w"], layers["out"]["b"]))
    mean = g.op("ReduceMean", g.concat(*told), axes=[1], keepdims=1)
    value = g.clip(g.op("Mul", mean, g.const([[CAP]])), 0, CAP)
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
        description="Mean of five recurrent networks over the last 30 flights of 14 sensors, with a 90 % interval. Flights are capped at 125, as the field does: 125 means 125 or more.",
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
    scaling = Scaling(x)
    seq = scaling.sequence(x)
    target = (np.minimum(y, CAP) / CAP).astype(np.float32)
    engines = np.unique(unit)
    fold_of = dict(zip(np.random.default_rng(t.seed).permutation(engines), np.arange(len(engines)) % FOLDS))
    fold = np.array([fold_of[u] for u in unit])
    ask = jax.jit(predict)
    members, unseen = [], np.zeros(len(x))
    for k in range(FOLDS):
        rest = fold != k
        members.append(fit(seq[rest], target[rest], t.seed + k, lambda share: t.progress(0.1 + 0.8 * (k + share) / FOLDS, f"network {k + 1}")))
        unseen[~rest] = in_parts(lambda s: ask(members[k], s), seq[~rest])
    unseen = np.clip(unseen * CAP, 0, CAP)
    capped = np.minimum(y, CAP)
    best = ("DAST", 11.43, "Zhang, Song, Li, IEEE Trans. Instrum. Meas. 71, 2022")
    for i, fleet in enumerate(fleets):
        m = unit // 1000 == i
        t.score("RMSE of flights (capped at 125), every flight", rmse(capped[m], unseen[m]), data=f"C-MAPSS train_{fleet}", split="five folds of whole engines; each judged by the one network that has not seen it")
    # half width by prediction, from engines not seen; one knot takes the rows around it
    residual = np.abs(capped - unseen)
    half = np.array([np.quantile(residual[np.abs(unseen - c) <= 12.5], COVERAGE) for c in KNOTS], np.float32)

    def answer(x):
        s = scaling.sequence(x)
        value = np.clip(np.mean([in_parts(lambda part: ask(m, part), s) for m in members], axis=0) * CAP, 0, CAP)
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
    newest = np.nanmedian(x[y > CAP].reshape(-1, len(SENSORS), STEPS)[:, :, -1], axis=0)
    t.write(
        graph_of(scaling, len(names), members, half).model("turbofan-rul"),
        inputs=inputs,
        reference=x,
        output={
            "unit": "flights",
            "coverage": COVERAGE,
            "range": [0, CAP],
            "explain": {
                "method": "occlusion",
                "groups": {s: list(range(STEPS * i, STEPS * i + STEPS)) for i, s in enumerate(SENSORS)},
                "reference": [round(float(v), 4) for v in np.repeat(newest, STEPS)],
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
            "A flight stands as one hour of event time; flights left out shift the sequence.",
            "A research benchmark, not for decisions about real engines.",
        ],
    )


if __name__ == "__main__":
    main()
