"""ONNX graphs by hand: few operators, opset 17, ai.onnx.ml 3, one input, NaN for what is missing.

Converters differ between versions of the libraries they convert; a graph written here stays what it is. LightGBM
compares 64-bit thresholds, the graph 32-bit ones: each threshold is rounded down to 32 bits, which decides every 32-bit
input the same way.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
ML_OPSET = 3


@dataclass
class Tree:
    """One binary tree: node 0 is the root; a leaf has feature −1. `x <= threshold` goes left."""

    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    #: Leaf value(s); one float, or a list for several targets.
    value: list
    #: Whether NaN goes left.
    missing_left: list[bool]


def _down(threshold: float) -> float:
    t = np.float32(np.clip(threshold, -3.4e38, 3.4e38))
    return float(np.nextafter(t, np.float32(-np.inf)) if float(t) > threshold else t)


def lightgbm_trees(booster) -> list[Tree]:
    """Trees of a LightGBM booster (numerical splits). Averaged boosting (`rf`) is not meant."""
    trees = []
    for info in booster.dump_model()["tree_info"]:
        tree = Tree([], [], [], [], [], [])

        def add(node) -> int:
            at = len(tree.feature)
            for column in (tree.feature, tree.left, tree.right):
                column.append(-1)
            tree.threshold.append(0.0)
            tree.value.append(0.0)
            tree.missing_left.append(False)
            if "split_feature" not in node:
                tree.value[at] = float(node["leaf_value"])
                return at
            if node["decision_type"] != "<=":
                raise ValueError("categorical splits cannot be exported")
            tree.feature[at] = int(node["split_feature"])
            tree.threshold[at] = _down(float(node["threshold"]))
            kind = node["missing_type"]
            # where training saw no NaN, LightGBM reads one as zero
            tree.missing_left[at] = bool(node["default_left"]) if kind == "NaN" else 0.0 <= float(node["threshold"])
            tree.left[at] = add(node["left_child"])
            tree.right[at] = add(node["right_child"])
            return at

        add(info["tree_structure"])
        trees.append(tree)
    return trees


def sklearn_trees(estimators, value) -> list[Tree]:
    """Trees of scikit-learn (`estimator.tree_`); `value(tree_, node, depth)` gives what a leaf adds. NaN goes left."""
    trees = []
    for estimator in estimators:
        t = estimator.tree_
        depth = np.zeros(t.node_count, dtype=int)
        for node in range(t.node_count):
            for child in (t.children_left[node], t.children_right[node]):
                if child >= 0:
                    depth[child] = depth[node] + 1
        leaf = t.children_left < 0
        trees.append(
            Tree(
                [-1 if leaf[i] else int(t.feature[i]) for i in range(t.node_count)],
                [0.0 if leaf[i] else _down(float(t.threshold[i])) for i in range(t.node_count)],
                [int(i) for i in t.children_left],
                [int(i) for i in t.children_right],
                [value(t, i, int(depth[i])) if leaf[i] else 0.0 for i in range(t.node_count)],
                [True] * t.node_count,
            )
        )
    return trees


class Graph:
    """Builds a model with the input `input` float32 [N, width]. Methods take and give names of tensors."""

    def __init__(self, width: int):
        self.width = width
        self.input = "input"
        self._nodes = []
        self._initializers = []
        self._outputs = []
        self._count = 0

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def const(self, value, dtype=np.float32) -> str:
        name = self._name("c")
        self._initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes):
        """Adds a node of any operator; its output's name, or a list of them."""
        names = [self._name(kind.lower()) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def columns(self, x: str, indices) -> str:
        """[N, len(indices)]"""
        return self.op("Gather", x, self.const(list(indices), np.int64), axis=1)

    def column(self, index: int, x: str | None = None) -> str:
        """[N, 1]"""
        return self.columns(x or self.input, [index])

    def concat(self, *parts: str) -> str:
        return self.op("Concat", *parts, axis=1)

    def impute(self, x: str, values) -> str:
        """NaN becomes the value of its column."""
        values = self.const(np.asarray(values, dtype=np.float32).reshape(1, -1))
        return self.op("Where", self.op("IsNaN", x), values, x)

    def clip(self, x: str, lo, hi) -> str:
        """Bounds are numbers or one a column. NaN passes."""
        low, high = (self.const(np.asarray(v, dtype=np.float32).reshape(1, -1)) for v in (lo, hi))
        return self.op("Min", self.op("Max", x, low), high)

    def scale(self, x: str, mean, std) -> str:
        mean, std = (self.const(np.asarray(v, dtype=np.float32).reshape(1, -1)) for v in (mean, std))
        return self.op("Div", self.op("Sub", x, mean), std)

    def dense(self, x: str, weights, bias, activation: str | None = None) -> str:
        """x·W + b with W [in, out]."""
        y = self.op("Gemm", x, self.const(weights), self.const(np.asarray(bias).ravel()))
        return y if activation is None else self.op(activation, y)

    def trees(self, trees: list[Tree], x: str | None = None, targets: int = 1, base=None) -> str:
        """Sum of the trees' leaves, [N, targets]."""
        a = {key: [] for key in ("tid", "nid", "fid", "mode", "val", "true", "false", "miss", "ttid", "tnid", "tid2", "w")}
        for t, tree in enumerate(trees):
            for i, feature in enumerate(tree.feature):
                a["tid"].append(t)
                a["nid"].append(i)
                leaf = feature < 0
                a["fid"].append(0 if leaf else feature)
                a["mode"].append("LEAF" if leaf else "BRANCH_LEQ")
                a["val"].append(0.0 if leaf else float(tree.threshold[i]))
                a["true"].append(0 if leaf else tree.left[i])
                a["false"].append(0 if leaf else tree.right[i])
                a["miss"].append(0 if leaf else int(tree.missing_left[i]))
                if leaf:
                    for k, v in enumerate(np.atleast_1d(tree.value[i])):
                        a["ttid"].append(t)
                        a["tnid"].append(i)
                        a["tid2"].append(k)
                        a["w"].append(float(v))
        extra = {} if base is None else {"base_values": [float(v) for v in np.atleast_1d(base)]}
        return self.op(
            "TreeEnsembleRegressor",
            x or self.input,
            domain="ai.onnx.ml",
            n_targets=targets,
            nodes_treeids=a["tid"],
            nodes_nodeids=a["nid"],
            nodes_featureids=a["fid"],
            nodes_modes=a["mode"],
            nodes_values=a["val"],
            nodes_truenodeids=a["true"],
            nodes_falsenodeids=a["false"],
            nodes_missing_value_tracks_true=a["miss"],
            target_treeids=a["ttid"],
            target_nodeids=a["tnid"],
            target_ids=a["tid2"],
            target_weights=a["w"],
            **extra,
        )

    def lightgbm(self, model, x: str | None = None) -> str:
        """Raw score [N, 1] of a LightGBM regressor or binary classifier (before the sigmoid)."""
        return self.trees(lightgbm_trees(getattr(model, "booster_", model)), x)

    def output(self, name: str, tensor: str, width: int = 1) -> None:
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]))

    def model(self, name: str) -> onnx.ModelProto:
        source = helper.make_tensor_value_info(self.input, TensorProto.FLOAT, ["N", self.width])
        graph = helper.make_graph(self._nodes, name, [source], self._outputs, self._initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="twinmesh")
        onnx.checker.check_model(model, full_check=True)
        return model
