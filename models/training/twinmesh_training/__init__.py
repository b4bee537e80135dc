"""What the trainers of twinmesh share: rows from the exporter, ONNX graphs, scores, intervals, cards and parity."""

import os

# ONNX Runtime reports to its maker otherwise; also where a trainer is started by hand.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from .conformal import cqr_offset, split_offset
from .export import Export
from .graph import Graph, Tree, sklearn_trees
from .run import Training
from .scores import auc, coverage, f1, expected_calibration_error, mae, mape, r2, rmse
from .trees import boosted

__all__ = [
    "Export",
    "Graph",
    "Training",
    "Tree",
    "auc",
    "boosted",
    "coverage",
    "cqr_offset",
    "expected_calibration_error",
    "f1",
    "mae",
    "mape",
    "r2",
    "rmse",
    "sklearn_trees",
    "split_offset",
]
