"""The benchmark's network as a user would serve it by hand: rows of JSON in, scores out, no library of ours.

Reads `transform.json` and `model.onnx` of a model's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class RowModel:
    """Scores rows given as dictionaries."""

    def __init__(self, folder: str) -> None:
        kept = json.loads((Path(folder) / "transform.json").read_text())
        self.numeric, self.categorical = kept["numeric"], kept["categorical"]
        self.mean, self.scale = np.array(kept["mean"]), np.array(kept["scale"])
        self.flagged = [self.numeric.index(name) for name in kept["flagged"]]
        self.codes = [{text: n for n, text in enumerate(v, start=1)} for v in kept["vocabularies"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = str(Path(folder) / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        values = np.array([[row[name] for name in self.numeric] for row in rows], dtype=np.float64)
        codes = np.array(
            [[code.get(row[name], 0) for name, code in zip(self.categorical, self.codes, strict=True)] for row in rows],
            dtype=np.int64,
        )
        missing = np.isnan(values)
        scaled = np.clip((values - self.mean) / self.scale, -6.0, 6.0)
        numeric = np.concatenate([np.where(missing, 0.0, scaled), missing[:, self.flagged]], axis=1)
        found = self.session.run(None, {"numeric": numeric.astype(np.float32), "codes": codes})[0]
        return (1.0 / (1.0 + np.exp(-found.astype(np.float64)))).tolist()
