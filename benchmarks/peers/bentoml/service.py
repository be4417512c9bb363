"""BentoML with the benchmark's network, in the folder that `ROW_MODEL` names."""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bentoml
from row_model import RowModel


@bentoml.service(workers=int(os.environ.get("ROW_WORKERS", "2")))
class Predict:
    def __init__(self) -> None:
        self.model = RowModel(os.environ["ROW_MODEL"])

    @bentoml.api
    def predict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"scores": self.model.predict(rows)}
