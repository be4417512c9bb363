"""A training set that is kept as an Iceberg table, for rows that no process should hold all of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import ray.data

from app.errors import MissingColumnError
from app.features.training_set import TrainingSet
from app.foundation.lake import Lake
from app.training.arrays import LABEL


@dataclass(frozen=True)
class TrainingTable:
    """Labelled rows of one snapshot of a table: `feature_names` and `label`, whatever else it has.

    `computed`: functions of a block of rows that add a column to it, applied whenever the rows are read.
    """

    lake: Lake
    table: str
    snapshot_id: int
    feature_names: tuple[str, ...]
    manifest: dict[str, Any] = field(default_factory=dict)
    computed: tuple[Callable[[pd.DataFrame], pd.DataFrame], ...] = ()

    @classmethod
    def write(
        cls, lake: Lake, table: str, rows: TrainingSet | ray.data.Dataset, feature_names: Sequence[str], run_id: str
    ) -> TrainingTable:
        """Adds the rows to a table, made where there is none, in one commit; a set in memory brings its manifest.

        Raises:
            MissingColumnError: the rows lack a feature or the label.
        """
        manifest: dict[str, Any] = {}
        data: pa.Table | ray.data.Dataset
        if isinstance(rows, TrainingSet):
            data, manifest = pa.Table.from_pandas(rows.frame, preserve_index=False), rows.manifest
            schema = data.schema
        else:
            data = rows
            schema = pa.schema(list(zip(data.schema().names, data.schema().types, strict=True)))
        lacking = [name for name in (*feature_names, LABEL) if name not in schema.names]
        if lacking:
            raise MissingColumnError(
                f"the training rows lack {', '.join(lacking)}; they have {', '.join(schema.names)}.", column=lacking[0]
            )
        lake.ensure_table(table, schema)
        snapshot_id = lake.append(table, data, {"run_id": run_id})
        return cls(lake, table, snapshot_id or 0, tuple(feature_names), manifest)

    @property
    def columns(self) -> list[str]:
        return [*self.feature_names, LABEL]

    def num_rows(self) -> int:
        return self.lake.max_rows(self.table, snapshot_id=self.snapshot_id) if self.snapshot_id else 0

    def blocks(self) -> ray.data.Dataset:
        """The rows as Ray Data reads them, a block for each file or part of one."""
        if not self.snapshot_id:
            return ray.data.from_arrow(pa.table({name: pa.nulls(0) for name in self.columns}))
        rows = self.lake.dataset(self.table, columns=self.columns, snapshot_id=self.snapshot_id)
        rows.context.enable_progress_bars = False
        for function in self.computed:
            rows = rows.map_batches(
                function,  # type: ignore[arg-type]
                batch_size=None, batch_format="pandas"
            )
        return rows

    def sample(self, num_rows: int) -> pd.DataFrame:
        """A few rows, with the types the table keeps."""
        rows: pd.DataFrame = self.blocks().limit(num_rows).to_pandas()
        return rows

    def in_memory(self) -> TrainingSet:
        """All rows, for estimators that cannot learn from a stream."""
        rows = self.lake.read(self.table, columns=self.columns, snapshot_id=self.snapshot_id).to_pandas()
        for function in self.computed:
            rows = function(rows)
        return TrainingSet(rows, self.feature_names, (), self.manifest)
