"""Small neural networks: trained with jax, written as plain ONNX operators.

Same seed, same rows, same libraries: the same weights. Layers are dicts of arrays, so that the graph can be written from
them operator by operator.
"""

import jax
import jax.numpy as jnp
import numpy as np


def dense(key, inputs: int, outputs: int, gain: float = 2.0) -> dict:
    """He et al., ICCV 2015, for `gain` 2."""
    return {"w": jax.random.normal(key, (inputs, outputs)) * np.sqrt(gain / inputs), "b": jnp.zeros(outputs)}


def apply_dense(layer: dict, x):
    return x @ layer["w"] + layer["b"]


def gru(key, inputs: int, hidden: int) -> dict:
    keys = jax.random.split(key, 2)
    bound = 1 / np.sqrt(hidden)
    uniform = lambda k, shape: jax.random.uniform(k, shape, minval=-bound, maxval=bound)  # noqa: E731
    zeros = jnp.zeros(3 * hidden)
    return {"wx": uniform(keys[0], (inputs, 3 * hidden)), "wh": uniform(keys[1], (hidden, 3 * hidden)), "bx": zeros, "bh": zeros}


def apply_gru(layer: dict, x):
    """x [N, steps, inputs] → last state [N, hidden]. Gates in the order of ONNX: update, reset, new (linear before reset)."""

    def step(h, now):
        zx, rx, nx = jnp.split(now @ layer["wx"] + layer["bx"], 3, axis=1)
        zh, rh, nh = jnp.split(h @ layer["wh"] + layer["bh"], 3, axis=1)
        z = jax.nn.sigmoid(zx + zh)
        new = jnp.tanh(nx + jax.nn.sigmoid(rx + rh) * nh)
        return (1 - z) * new + z * h, None

    start = jnp.zeros((x.shape[0], layer["wh"].shape[0]))
    return jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))[0]


def graph_gru(graph, layer: dict, x: str) -> str:
    """The same in a graph: x [steps, N, inputs] → [N, hidden]."""
    hidden = layer["wh"].shape[0]
    w = graph.const(np.asarray(layer["wx"]).T[None])
    r = graph.const(np.asarray(layer["wh"]).T[None])
    b = graph.const(np.concatenate([np.asarray(layer["bx"]), np.asarray(layer["bh"])])[None])
    _, last = graph.op("GRU", x, w, r, b, outputs=2, hidden_size=hidden, linear_before_reset=1)
    return graph.op("Squeeze", last, graph.const([0], np.int64))


def adam(parameters, loss, arrays, *, epochs: int, batch: int, rate: float, seed: int, decay: float = 0.0, progress=None):
    """Adam with a cosine rate and decoupled weight decay. `loss(parameters, key, *rows)`; `arrays` share their first axis."""
    n = len(arrays[0])
    per_epoch = n // batch
    steps = epochs * per_epoch
    first = second = jax.tree.map(jnp.zeros_like, parameters)
    random = np.random.default_rng(seed)
    key = jax.random.PRNGKey(seed)

    @jax.jit
    def update(parameters, first, second, key, t, *rows):
        lr = rate * 0.5 * (1 + jnp.cos(jnp.pi * t / steps))
        gradient = jax.grad(loss)(parameters, key, *rows)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        a, b = 1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)
        move = lambda p, m, v: p - lr * ((m / a) / (jnp.sqrt(v / b) + 1e-8) + decay * p)  # noqa: E731
        return jax.tree.map(move, parameters, first, second), first, second

    t = 0
    for epoch in range(epochs):
        order = random.permutation(n)
        for i in range(per_epoch):
            rows = order[i * batch : (i + 1) * batch]
            key, now = jax.random.split(key)
            parameters, first, second = update(parameters, first, second, now, t, *(a[rows] for a in arrays))
            t += 1
        if progress is not None:
            progress((epoch + 1) / epochs)
    return jax.tree.map(np.asarray, parameters)


def in_parts(function, x, rows: int = 8192):
    """Applies a function of rows to many, part by part."""
    return np.concatenate([np.asarray(function(x[i : i + rows])) for i in range(0, len(x), rows)])
