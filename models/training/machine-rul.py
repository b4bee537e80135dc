"""machine-rul: hours until the bearing fails, from the course of the last twelve hours, hour and minutes.

A gated recurrent unit reads the panes of the windows, oldest and coarsest first; three heads are quantiles of the
logarithm of the hours (pinball loss), made an interval of stated coverage on runs kept apart (Romano et al. 2019).
"""

import jax
import jax.numpy as jnp
import numpy as np

from twinmesh_training import Graph, Training, coverage, cqr_offset, mae
from twinmesh_training.network import adam, apply_dense, apply_gru, dense, graph_gru, gru, in_parts

MINUTE, HOUR = 60_000, 3_600_000
METRICS = ["vibration", "power", "temperature"]
SPANS = ["12h.panes", "1h.panes", "5m.panes", "1m.mean"]
INPUTS = [f"{m}.{s}" for s in SPANS for m in METRICS]
#: Beyond it hours are not told apart: a sound machine is at the cap.
CAP_H, LEAST_H = 500.0, 0.02
HIDDEN, COVERAGE = 40, 0.9
LIFE = {"log10_life_h": [-0.15, 2.85], "used": [0, 1]}
QUANTILES = jnp.array([0.05, 0.5, 0.95])


def specs(seed: int, size: float) -> dict[str, dict]:
    """Sound and wearing machines over hours, such that were just taken into service, and the fast wear of the demo."""

    def spec(every, *populations):
        kinds = [{**p, "seed": seed + i, "runs": round(size * p["runs"]), "index": [0, 199]} for i, p in enumerate(populations)]
        return {"kind": "machine", "inputs": INPUTS, "sample": {"everyMs": every, "fromMs": 20_000}, "simulator": kinds}

    long = {"durationMs": [0.1 * HOUR, 14 * HOUR], "stepMs": [2_000, 30_000]}
    short = {"durationMs": [1 * MINUTE, 25 * MINUTE], "stepMs": [1_000, 5_000]}
    scenario = {"names": ["bearing_wear"], "share": 1, "severity": [0.1, 1], "afterMs": [2 * MINUTE, 80 * MINUTE]}
    fast = {"durationMs": 110 * MINUTE, "stepMs": [2_000, 5_000], "scenarios": scenario}
    return {
        "hours": spec(17 * MINUTE, {**long, "runs": 700}, {**long, "runs": 1200, "parameters": LIFE}),
        "start": spec(53_000, {**short, "runs": 700}, {**short, "runs": 700, "parameters": LIFE}),
        "fast": spec(53_000, {**fast, "runs": 250}),
    }


class Layout:
    """Inputs as steps × metrics, each step with the span it is of."""

    def __init__(self, names):
        by_metric = [[i for i, n in enumerate(names) if n.startswith(f"{m}.")] for m in METRICS]
        self.steps = len(by_metric[0])
        self.order = np.array(by_metric).T  # [steps, metrics]
        spans = [next(k for k, s in enumerate(SPANS) if f".{s}" in names[i]) for i in self.order[:, 0]]
        self.span = np.eye(4, dtype=np.float32)[spans]

    def sequence(self, x):
        """[N, steps, 8]: vibration (log), power, temperature, missing, span"""
        x = x[:, self.order.ravel()].reshape(-1, self.steps, 3)
        missing = np.isnan(x[:, :, :1])
        x = np.where(np.isnan(x), CENTER, x)
        vibration = (np.log(np.clip(x[:, :, :1], 0.05, 50)) - np.log(CENTER[0])) * 1.5
        others = np.clip((x[:, :, 1:] - CENTER[1:]) / SCALE[1:], -3, 4)
        span = np.broadcast_to(self.span, (len(x), self.steps, 4))
        return np.concatenate([vibration, others, missing, span], axis=2).astype(np.float32)


CENTER = np.array([0.9, 180, 50], np.float32)
SCALE = np.array([1, 70, 12], np.float32)


def predict(layers, x):
    h = apply_gru(layers["gru"], x)
    h = jax.nn.relu(apply_dense(layers["hidden"], h))
    return apply_dense(layers["out"], h) + jnp.log(CAP_H) / 2


def pinball(layers, _key, x, y, weight):
    error = y[:, None] - predict(layers, x)
    return jnp.mean(weight[:, None] * jnp.maximum(QUANTILES * error, (QUANTILES - 1) * error))


def graph_of(layout: Layout, width: int, layers, offset: float) -> Graph:
    g = Graph(width)
    shape = g.const([-1, layout.steps, 3], np.int64)
    x = g.op("Reshape", g.columns(g.input, layout.order.ravel()), shape)
    missing = g.op("Cast", g.op("IsNaN", g.op("Gather", x, g.const([0], np.int64), axis=2)), to=1)
    x = g.op("Where", g.op("IsNaN", x), g.const(CENTER.reshape(1, 1, 3)), x)
    vibration = g.clip(g.op("Gather", x, g.const([0], np.int64), axis=2), 0.05, 50)
    vibration = g.op("Mul", g.op("Sub", g.op("Log", vibration), g.const(np.log(CENTER[0]))), g.const(1.5))
    others = g.op("Gather", x, g.const([1, 2], np.int64), axis=2)
    others = g.clip(g.op("Div", g.op("Sub", others, g.const(CENTER[1:].reshape(1, 1, 2))), g.const(SCALE[1:].reshape(1, 1, 2))), -3, 4)
    like = g.op("Concat", missing, missing, missing, missing, axis=2)
    span = g.op("Add", g.op("Mul", like, g.const(0.0)), g.const(layout.span[None]))
    x = g.op("Transpose", g.op("Concat", vibration, others, missing, span, axis=2), perm=[1, 0, 2])
    h = graph_gru(g, layers["gru"], x)
    h = g.dense(h, layers["hidden"]["w"], layers["hidden"]["b"], "Relu")
    out = g.dense(h, layers["out"]["w"], layers["out"]["b"] + np.log(CAP_H) / 2)
    log_lo, log_cap = np.log(LEAST_H), np.log(CAP_H)
    capped = g.op("Exp", g.clip(g.column(1, out), log_lo, log_cap))
    # the cap itself, not what is left of it after a logarithm and back
    in_hours = lambda x: g.clip(g.op("Exp", x), 0, CAP_H)  # noqa: E731
    lo = in_hours(g.clip(g.op("Sub", g.column(0, out), g.const([[offset]])), -9, log_cap))
    hi = in_hours(g.clip(g.op("Add", g.column(2, out), g.const([[offset]])), log_lo, log_cap + 0.01))
    g.output("value", capped)
    g.output("lo", g.op("Min", lo, capped))
    g.output("hi", g.op("Max", hi, capped))
    return g


def main():
    t = Training(
        "machine-rul",
        kind="machine",
        type="regression",
        title="Hours until the bearing of a machine fails",
        description="Recurrent network over the panes of twelve hours, one hour and five minutes of vibration, power and temperature, with a 90 % interval. Hours are at the mean load, capped at 500: a sound machine is at the cap.",
        seed=3,
    )
    t.used("simulator", "actors/kinds/machine.ts: ordinary work, wear over hours to weeks, and bearing_wear")

    def gather(seed, size):
        sets = [t.export(spec) for spec in specs(seed, size).values()]
        x = np.concatenate([rows.X for rows in sets])
        hours = np.concatenate([rows.truth["truth.hoursToFailure"] for rows in sets])
        run = np.concatenate([rows.truth["run"] + 100_000 * i for i, rows in enumerate(sets)])
        kind = np.concatenate([10 * i + rows.truth["population"] for i, rows in enumerate(sets)])
        return sets[0], x, np.clip(hours, LEAST_H, CAP_H), run, kind

    first, x, hours, _, kind = gather(31_001, 1)
    _, cx, c_hours, c_run, _ = gather(32_001, 0.3)
    t.progress(0.3, f"{len(x)} rows")
    layout = Layout(first.names)
    # most machines are sound most of the time; what the windows remember after the fast wear is many rows and says little
    weight = np.where(hours < CAP_H, 1, np.where(kind == 20, 0.5, 2.5)).astype(np.float32)
    keys = jax.random.split(jax.random.PRNGKey(t.seed), 3)
    layers = {"gru": gru(keys[0], 8, HIDDEN), "hidden": dense(keys[1], HIDDEN, 32), "out": dense(keys[2], 32, 3, 0.02)}
    layers["out"]["b"] = jnp.array([-1.0, 1.0, 3.0])
    rows = (layout.sequence(x), np.log(hours).astype(np.float32), weight)
    layers = adam(layers, pinball, rows, epochs=22, batch=512, rate=4e-3, seed=t.seed, progress=lambda s: t.progress(0.3 + 0.5 * s, "fit"))
    ask = jax.jit(lambda s: predict(layers, s))
    raw = in_parts(ask, layout.sequence(cx))
    wearing = c_hours < CAP_H
    y = np.log(c_hours)
    offset = cqr_offset(y[wearing], raw[wearing, 0], raw[wearing, 2], COVERAGE, c_run[wearing])

    def answer(x):
        raw = in_parts(ask, layout.sequence(x))
        capped = np.exp(np.clip(raw[:, 1], np.log(LEAST_H), np.log(CAP_H)))
        lo = np.exp(np.clip(raw[:, 0] - offset, -9, np.log(CAP_H)))
        hi = np.minimum(np.exp(np.clip(raw[:, 2] + offset, np.log(LEAST_H), np.log(CAP_H) + 0.01)), CAP_H)
        return capped, np.minimum(lo, capped), np.maximum(hi, capped)

    t.progress(0.9, "scores")
    held_out = specs(39_001, 0.4)
    _, ex, e_hours, _, e_kind = gather(39_001, 0.4)
    capped, lo, hi = answer(ex)
    split = "simulated machines of seeds that training and calibration have not seen"
    wearing = e_hours < CAP_H
    truth = e_hours[wearing]
    t.score("coverage of the 90 % interval, wearing machines", coverage(truth, lo[wearing], hi[wearing]), data="simulator", split=split)
    t.score("coverage of the 90 % interval, all machines", coverage(e_hours, lo, hi), data="simulator", split=split)
    constant = np.exp(np.median(np.log(hours[hours < CAP_H])))
    error = mae(np.log(truth), np.log(capped[wearing]))
    t.score("mean error of ln hours, wearing machines", error, data="simulator", split=split, floor=("always the median", mae(np.log(truth), np.full(len(truth), np.log(constant)))))
    near = (e_hours < 20) & wearing
    off = lambda told: float(np.median(np.abs(told - e_hours[near])))  # noqa: E731
    t.score("median error of hours where fewer than 20 are left", off(capped[near]), data="simulator", split=split, floor=("always the median", off(np.median(e_hours[near]))))
    sound = np.isin(e_kind, [0, 10])
    t.score("share of sound machines told 200 h or more", float(np.mean(capped[sound] >= 200)), data="simulator", split=split)
    for k in np.unique(e_kind):
        m = (e_kind == k) & wearing
        print(f"  {k}: rows {np.sum(e_kind == k)}", f"coverage {coverage(e_hours[e_kind == k], lo[e_kind == k], hi[e_kind == k]):.3f}", f"wearing {coverage(e_hours[m], lo[m], hi[m]):.3f}" if m.any() else "", f"lowest {np.quantile(capped[e_kind == k], [0, 0.01, 0.05])}")
    for a, b in [(0, 0.3), (0.3, 1), (1, 5), (5, 20), (20, 50), (50, 100), (100, 200), (200, 500)]:
        m = (e_hours >= a) & (e_hours < b)
        print(f"  {a}-{b} h: {m.sum()} rows, told {np.quantile(capped[m], [0.1, 0.5, 0.9]).round(1)}, coverage {coverage(e_hours[m], lo[m], hi[m]):.3f}")
    sample = np.concatenate([ex[np.flatnonzero(e_kind == k)[[0, 7]]] for k in np.unique(e_kind)] + [ex[wearing][:3]])
    capped, lo, hi = answer(sample)
    groups = {m: [i for i, n in enumerate(first.names) if n.startswith(f"{m}.")] for m in METRICS}
    t.write(
        graph_of(layout, len(first.names), layers, offset).model("machine-rul"),
        inputs=first.inputs,
        reference=x,
        output={
            "unit": "h",
            "coverage": COVERAGE,
            "range": [LEAST_H, CAP_H],
            "explain": {"method": "occlusion", "groups": groups, "reference": [round(float(v), 4) for v in np.nanmedian(x[hours >= CAP_H], axis=0)]},
        },
        split=split,
        rows=len(x),
        sample=sample,
        expected={"value": capped, "lo": lo, "hi": hi},
        held_out=held_out,
        tolerance={"absolute": 0.02, "relative": 0.005},
        limits=[
            "Trained on the simulated wear of this kind; a real bearing needs its own runs to failure.",
            "Hours at the mean load of the simulated shifts: idle machines last longer, full ones shorter.",
            "500 h means 500 or more. Early wear cannot be told from a sound machine: the interval says so.",
            "Knows bearings only: a leak or an overheating does not shorten what it says.",
        ],
    )


if __name__ == "__main__":
    main()
