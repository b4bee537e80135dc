"""One training: its arguments, its progress, and the folder that it leaves.

    python <model>.py --out DIR [--version V] [--data DIR]

writes DIR/{model.onnx, card.json, parity.json, held-out.json}. `npm run train` calls it so.
"""

import argparse
import datetime
import hashlib
import json
import math
import os
import random
import sys
from pathlib import Path

import numpy as np

from .export import Export, run_exporter

MAX_BYTES = 2 * 1024 * 1024
BINS = 10


class Training:
    def __init__(self, name: str, *, kind: str | None, type: str, title: str, description: str, seed: int = 1, version: str = "1.0.0"):
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument("--out", required=True)
        parser.add_argument("--version", default=version)
        parser.add_argument("--data", default=os.environ.get("TWINMESH_DATA"))
        args = parser.parse_args()
        self.name, self.kind, self.type, self.title, self.description = name, kind, type, title, description
        self.version = args.version
        self.out = Path(args.out)
        beside = Path(__file__).resolve().parents[4] / "shared" / "data"
        data = Path(args.data) if args.data else beside
        self.data = data if data.is_dir() else None
        self.seed = seed
        random.seed(seed)
        np.random.seed(seed)
        self._data: list[dict] = []
        self._scores: list[dict] = []

    # ---- progress ----

    def progress(self, fraction: float, text: str) -> None:
        print(f"progress {fraction:.2f} {text}", flush=True)

    # ---- data ----

    def path(self, *parts: str) -> Path:
        """A file or folder of real data. Ends the training with a plain sentence where it is not there."""
        if self.data is None or not self.data.joinpath(*parts).exists():
            sys.exit(f"{self.name} needs {'/'.join(parts)} of the real data: name the folder by --data or TWINMESH_DATA.")
        return self.data.joinpath(*parts)

    def used(self, name: str, source: str, *files: Path) -> None:
        """Notes data for the card, with the checksum over the files in the order given."""
        entry = {"name": name, "source": source}
        if files:
            digest = hashlib.sha256()
            for file in files:
                digest.update(Path(file).read_bytes())
            entry["sha256"] = digest.hexdigest()
        self._data.append(entry)

    def export(self, spec: dict) -> Export:
        """Rows by the exporter; see models/training/spec.ts for what a spec says."""
        return run_exporter(spec, self.data)

    # ---- scores ----

    def score(self, name: str, value: float, *, data: str, split: str, floor: tuple[str, float] | None = None, best: tuple[str, float, str] | None = None) -> None:
        """Notes a score on data that training has not seen. floor: (method, value); best of the field: (method, value, source)."""
        entry = {"name": name, "value": _round(value), "data": data, "split": split}
        if floor is not None:
            entry["floor"] = {"name": floor[0], "value": _round(floor[1])}
        if best is not None:
            entry["best"] = {"name": best[0], "value": best[1], "source": best[2]}
        self._scores.append(entry)
        print(f"score {name} {value:.4f} on {data} ({split})" + (f", {floor[0]} {floor[1]:.4f}" if floor else ""), flush=True)

    # ---- the folder ----

    def write(
        self,
        model,
        *,
        inputs: list[dict],
        reference: np.ndarray,
        output: dict,
        split: str,
        rows: int,
        limits: list[str],
        sample: np.ndarray,
        expected: dict[str, np.ndarray] | None = None,
        held_out: dict | None = None,
        missing: dict[str, str] | None = None,
        tolerance: dict | None = None,
    ) -> None:
        """
        inputs     { name, unit, min, max } in order (Export.inputs); without min and max, those of the reference
        reference  training rows [rows, width]: their distribution is what drift is measured against
        sample     rows for parity, about a dozen; rows with NaN among them
        expected   what the trainer's own library answers to them, by output; checked against the graph before it is written
        held_out   specs by name of set, for evaluations/<model>.ts
        missing    'required' for inputs that must be there; default 'impute'
        """
        import onnxruntime

        content = model.SerializeToString()
        if len(content) > MAX_BYTES:
            sys.exit(f"{self.name}: model.onnx would have {len(content)} bytes, allowed are {MAX_BYTES}.")
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        outputs = [o.name for o in session.get_outputs()]
        sample = np.asarray(sample, dtype=np.float32)
        if sample.ndim != 2 or sample.shape[1] != len(inputs) or reference.shape[1] != len(inputs):
            sys.exit(f"{self.name}: {len(inputs)} inputs, but rows of {sample.shape} and {reference.shape}.")
        answers = dict(zip(outputs, session.run(None, {"input": sample})))
        one = dict(zip(outputs, session.run(None, {"input": sample[:1]})))
        tolerance = tolerance or {"absolute": 1e-4, "relative": 1e-3}
        for name in outputs:
            if not np.all(np.isfinite(answers[name])):
                sys.exit(f"{self.name}: the graph answers {name} with NaN or infinity.")
            if not _close(one[name], answers[name][:1], tolerance):
                sys.exit(f"{self.name}: {name} of a row depends on the rows beside it.")
        told = {name: np.asarray(expected[name], dtype=np.float64).reshape(len(sample), -1) for name in expected or {}}
        for name, values in told.items():
            if not _close(answers[name], values, tolerance):
                worst = float(np.max(np.abs(answers[name] - values)))
                sys.exit(f"{self.name}: the graph's {name} differs from the trainer's by up to {worst}.")
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "model.onnx").write_bytes(content)
        parity = {
            "inputs": [[_number(v) for v in row] for row in sample],
            "outputs": {name: _plain(told.get(name, answers[name])) for name in outputs},
            "tolerance": tolerance,
        }
        _write(self.out / "parity.json", parity)
        card = {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "type": self.type,
            "title": self.title,
            "description": self.description,
            "inputs": [_input(entry, reference[:, i], (missing or {}).get(entry["name"], "impute")) for i, entry in enumerate(inputs)],
            "output": output,
            "training": {
                "data": self._data,
                "split": split,
                "seed": self.seed,
                "command": f"npm run train -- {self.name}",
                "rows": int(rows),
                "trained_at": datetime.date.today().isoformat(),
            },
            "scores": self._scores,
            "limits": limits,
            "sha256": hashlib.sha256(content).hexdigest(),
            "opset": 17,
        }
        _write(self.out / "card.json", card)
        if held_out is not None:
            _write(self.out / "held-out.json", held_out)
        print(f"wrote {len(content)} bytes", flush=True)


def _close(a, b, tolerance) -> bool:
    return bool(np.allclose(a, np.asarray(b).reshape(a.shape), atol=tolerance["absolute"], rtol=tolerance["relative"]))


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _number(value):
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _plain(values: np.ndarray):
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        return [_number(v) for v in values[:, 0]]
    return [[_number(v) for v in row] for row in values]


def _input(entry: dict, column: np.ndarray, missing: str) -> dict:
    finite = np.asarray(column, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        sys.exit(f"input {entry['name']} has no value in training")
    low = entry.get("min") if entry.get("min") is not None else float(finite.min())
    high = entry.get("max") if entry.get("max") is not None else float(finite.max())
    if not low < high:
        low, high = low - 1, high + 1
    # n inner edges cut n + 1 shares; a value on an edge belongs above it
    inner = np.quantile(finite, np.linspace(0, 1, BINS + 1)[1:-1]).astype(np.float32)
    edges = np.unique([_round(float(e)) for e in inner])
    counts = np.bincount(np.searchsorted(edges, finite, side="right"), minlength=len(edges) + 1)
    shares = counts / counts.sum()
    return {
        "name": entry["name"],
        "unit": entry.get("unit", ""),
        "min": _round(low),
        "max": _round(high),
        "missing": missing,
        "reference": {"edges": [_round(e) for e in edges], "shares": [_round(s) for s in shares]},
    }


def _write(path: Path, value: dict) -> None:
    path.write_text(_json(value) + "\n")


def _json(value, indent: int = 0) -> str:
    """JSON as the formatter of the project writes it: one line where it fits in 120 characters."""
    pad = "  " * (indent + 1)
    if isinstance(value, (dict, list)) and value:
        if isinstance(value, dict):
            flat = "{ " + ", ".join(f"{json.dumps(k)}: {_json(v, 99)}" for k, v in value.items()) + " }"
            parts = [f"{pad}{json.dumps(k)}: {_json(v, indent + 1)}" for k, v in value.items()]
            brackets = "{}"
        else:
            flat = json.dumps(value, ensure_ascii=False) if not any(isinstance(v, (dict, list)) for v in value) else None
            parts = [f"{pad}{_json(v, indent + 1)}" for v in value]
            brackets = "[]"
        if indent >= 99:
            return flat or json.dumps(value, ensure_ascii=False)
        if flat is not None and isinstance(value, list) and len(flat) < 100:
            return flat
        return f"{brackets[0]}\n" + ",\n".join(parts) + f"\n{'  ' * indent}{brackets[1]}"
    return json.dumps(value, ensure_ascii=False)
