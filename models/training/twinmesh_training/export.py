"""Rows of the exporter (models/training/export.ts): features as the runtime reads them, and the truth beside them."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Export:
    #: float32 [rows, width]
    X: np.ndarray
    names: list[str]
    #: Truth columns by name, float64 [rows].
    truth: dict[str, np.ndarray]
    #: Ids of real twins: `truth["twin"]` counts in it.
    twins: list[str]
    #: Scenarios of the kind: `truth["scenario"]` counts in it, −1 is none.
    scenarios: list[str]
    #: { name, unit, min, max } a feature, as the kind declares its metrics; min and max may be None.
    inputs: list[dict]

    def feature(self, name: str) -> np.ndarray:
        return self.X[:, self.names.index(name)]

    def where(self, keep: np.ndarray) -> "Export":
        truth = {name: column[keep] for name, column in self.truth.items()}
        return Export(self.X[keep], self.names, truth, self.twins, self.scenarios, self.inputs)


def run_exporter(spec: dict, data: Path | None) -> Export:
    node = os.environ.get("TWINMESH_NODE", "node")
    script = Path(__file__).parent.parent / "export.ts"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(spec))
        command = [node, str(script), "--spec", str(path), "--out", folder]
        if data is not None:
            command += ["--data", str(data)]
        subprocess.run(command, check=True)
        about = json.loads((Path(folder) / "rows.json").read_text())
        X = np.load(Path(folder) / "features.npy")
        truth = np.load(Path(folder) / "truth.npy")
    columns = {name: truth[:, i].copy() for i, name in enumerate(about["truthNames"])}
    return Export(X, about["names"], columns, about["twins"], about["scenarios"], about["inputs"])
