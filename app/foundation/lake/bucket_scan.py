"""Reading a bucketed table by its partitions: the files of each bucket, for a task that reads only its own.

The plan is made once from the table's metadata; a task gets the list of its files and reads them straight from the
storage, with the columns and the stretch of time it needs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, parser
from pyiceberg.expressions.visitors import bind
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO, expression_to_pyarrow
from pyiceberg.schema import Schema

from app.errors import FeatureStoreError
from app.foundation.lake.buckets import NOBODY, Buckets
from app.foundation.lake.table_schema import kept_schema

if TYPE_CHECKING:
    from pyiceberg.table import DataScan, Table

BATCH_ROWS = 131_072


@dataclass(frozen=True)
class DataFileRef:
    """One data file, or some of its row groups.

    `num_groups`: of the whole file. `groups`: the first and the one behind the last that is read; `None`: all.
    """

    path: str
    num_rows: int
    num_groups: int = 1
    groups: tuple[int, int] | None = None

    def cut(self, max_rows: int) -> list[DataFileRef]:
        """The file in pieces of about `max_rows` at most, as far as its row groups allow.

        >>> [(f.groups, f.num_rows) for f in DataFileRef("f", 100, num_groups=10).cut(45)]
        [((0, 4), 40), ((4, 8), 40), ((8, 10), 20)]
        """
        if self.num_rows <= max_rows or self.num_groups == 1 or self.groups is not None:
            return [self]
        step = max(max_rows * self.num_groups // self.num_rows, 1)
        ends = [*range(step, self.num_groups, step), self.num_groups]
        rows = [self.num_rows * end // self.num_groups for end in ends]
        return [
            DataFileRef(self.path, r - before, self.num_groups, (first, end))
            for first, end, before, r in zip([0, *ends], ends, [0, *rows], rows, strict=False)
        ]


@dataclass(frozen=True)
class BucketScan:
    """What is to be read of a table, file by file. Picklable; belongs to one snapshot.

    `files`: by bucket; those of a table without buckets are all under `NOBODY`.
    """

    table: str
    snapshot_id: int | None
    buckets: Buckets | None
    files: dict[int, tuple[DataFileRef, ...]]
    schema: pa.Schema
    row_filter: BooleanExpression
    iceberg_schema: Schema
    io: FileIO
    properties: dict[str, str]

    def num_rows(self, buckets: Collection[int] | None = None) -> int:
        """Rows of the files, before the filter."""
        return sum(f.num_rows for files in self._chosen(buckets) for f in files)

    def read(
        self, columns: Sequence[str], buckets: Collection[int] | None = None, stretch: str | None = None
    ) -> pa.Table:
        """Rows of some buckets (default: all) that pass the filter.

        Args:
            columns: which, in this order.
            buckets: which; those without files have no rows.
            stretch: a further condition, e.g. `"event_timestamp > '2013-01-01T00:00:00+00:00'"`.
        """
        scanner = self._scanner(columns, buckets, stretch)
        schema = pa.schema([self.schema.field(name) for name in columns])
        return schema.empty_table() if scanner is None else scanner.to_table().cast(schema)

    def in_pieces(self, max_rows: int) -> list[BucketScan]:
        """The same rows in the same order, apart: each piece of one bucket with about `max_rows` rows at most."""
        pieces = []
        for bucket, files in self.files.items():
            piece: list[DataFileRef] = []
            for file in (part for whole in files for part in whole.cut(max_rows)):
                if piece and sum(f.num_rows for f in piece) + file.num_rows > max_rows:
                    pieces.append(replace(self, files={bucket: tuple(piece)}))
                    piece = []
                piece.append(file)
            pieces.append(replace(self, files={bucket: tuple(piece)}))
        return pieces

    def sample(self, column: str, buckets: Collection[int], every: int) -> pa.ChunkedArray:
        """About one value in `every` of a column; the memory needed does not grow with the files."""
        kept = [pa.array([], self.schema.field(column).type)]
        scanner = self._scanner([column], buckets, None)
        for batch in () if scanner is None else scanner.to_batches():
            values = batch.column(0)
            kept.append(values.take(pa.array(range(0, len(values), every), pa.int64())))
        return pa.chunked_array(kept)

    def _chosen(self, buckets: Collection[int] | None) -> list[tuple[DataFileRef, ...]]:
        return [files for bucket, files in self.files.items() if buckets is None or bucket in buckets]

    def _scanner(self, columns: Sequence[str], buckets: Collection[int] | None, stretch: str | None) -> Any:
        chosen = [file for files in self._chosen(buckets) for file in files]
        if not chosen:
            return None
        assert isinstance(self.io, PyArrowFileIO)
        scheme, netloc, _ = PyArrowFileIO.parse_location(chosen[0].path)
        filesystem = self.io.fs_by_scheme(scheme, netloc)
        parquet = pyarrow.dataset.ParquetFileFormat()
        fragments = [
            parquet.make_fragment(
                PyArrowFileIO.parse_location(file.path)[2], filesystem,
                row_groups=None if file.groups is None else list(range(*file.groups)),
            )
            for file in chosen
        ]
        condition = self.row_filter if stretch is None else self.row_filter & parser.parse(stretch)
        bound = bind(self.iceberg_schema, condition, case_sensitive=True)
        return pyarrow.dataset.FileSystemDataset(fragments, self.schema, parquet, filesystem).scanner(
            columns=list(columns), batch_size=BATCH_ROWS,
            filter=None if isinstance(bound, AlwaysTrue) else expression_to_pyarrow(bound),
        )


def scan_of(table: Table, identifier: str, scan: DataScan, row_filter: BooleanExpression) -> BucketScan:
    """The files of a scan by bucket.

    Raises:
        FeatureStoreError: the table has deleted rows, which only an upsert or delete by others can leave.
    """
    buckets = Buckets.of(table.spec(), table.schema())
    files: dict[int, list[DataFileRef]] = {}
    for task in scan.plan_files():
        if task.delete_files:
            raise FeatureStoreError(
                f"table {identifier} has delete files; it is append-only. Somebody else has changed it: restore the "
                "last snapshot without them.", table=identifier,
            )
        bucket = NOBODY
        if buckets is not None:
            if task.file.spec_id != table.spec().spec_id:
                raise FeatureStoreError(
                    f"table {identifier} has files written under an earlier partition spec. Rewrite them.",
                    table=identifier,
                )
            value = task.file.partition[0]
            bucket = NOBODY if value is None else int(value)
        groups = max(len(task.file.split_offsets or ()), 1)
        files.setdefault(bucket, []).append(DataFileRef(task.file.file_path, task.file.record_count, groups))
    snapshot = scan.snapshot()
    return BucketScan(
        identifier, None if snapshot is None else snapshot.snapshot_id, buckets,
        {bucket: tuple(sorted(found, key=lambda f: f.path)) for bucket, found in files.items()},
        kept_schema(table.schema().as_arrow()), row_filter, table.schema(), table.io,
        dict(table.properties),
    )
