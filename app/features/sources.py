"""Reads a declared source as a Ray Dataset with the declared columns, types and UTC times."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayTaskError

from app.errors import DataError, MillraceError, SchemaMismatchError
from app.features.arrow_types import arrow_schema, conform
from app.features.file_source import csv_options
from app.features.sql_source import whole_tables
from app.foundation.lake import Lake
from app.spec.features import CsvFiles, DatasetFunction, Field, IcebergTable, ParquetFiles, Source, SqlQuery

SMALL_BYTES = 512 * 1024 * 1024  # up to this size blocks are gathered and written as one table, in one commit


@dataclass(frozen=True)
class _Conform:
    """Brings a batch to the declared columns; runs in Ray's workers."""

    fields: tuple[Field, ...]
    where: str

    def __call__(self, batch: pa.Table) -> pa.Table:
        return conform(batch, self.fields, self.where)


def source_dataset(source: Source, lake: Lake) -> ray.data.Dataset:
    """The source's rows in declared columns and types, lazily.

    What is wrong with the data shows when the dataset runs; run it within `original_errors`.

    Raises:
        DataError: the path of a file reader matches no file.
    """
    where = f"source {source.name!r}"
    batches = _read(source, lake)
    return batches.map_batches(_Conform(source.fields, where), batch_format="pyarrow", batch_size=None)


def _read(source: Source, lake: Lake) -> ray.data.Dataset:
    reader = source.reader
    if isinstance(reader, ParquetFiles):
        return ray.data.read_parquet(_paths(reader.path, source))
    if isinstance(reader, CsvFiles):
        return ray.data.read_csv(_paths(reader.path, source), convert_options=csv_options(source.fields))
    if isinstance(reader, SqlQuery):
        return ray.data.from_arrow(list(whole_tables(source, reader)))
    if isinstance(reader, IcebergTable):
        return lake.dataset(reader.identifier)
    if isinstance(reader, DatasetFunction):
        dataset: ray.data.Dataset = reader.function()
        return dataset
    raise TypeError(f"source {source.name!r} has a reader of unknown kind {type(reader).__name__}")


def _paths(path: str, source: Source) -> str | list[str]:
    if "://" in path:
        return path
    found = sorted(glob.glob(path))
    if not found:
        raise DataError(
            f"source {source.name!r}: no file matches {path!r}. Correct the path; it is relative to the folder the "
            "process runs in.", source=source.name, path=path,
        )
    return found


def settle(dataset: ray.data.Dataset, schema: pa.Schema) -> pa.Table | ray.data.Dataset:
    """Runs a dataset once: gathered as one table when it is small, else kept in the cluster's object store."""
    done = dataset.materialize()
    if done.size_bytes() > SMALL_BYTES:
        return done
    blocks = [block for block in ray.get(done.to_arrow_refs()) if block.num_rows]
    return pa.concat_tables([block.select(schema.names).cast(schema) for block in blocks] or [schema.empty_table()])


def map_settled(
    settled: pa.Table | ray.data.Dataset, function: Callable[[pa.Table], pa.Table]
) -> pa.Table | ray.data.Dataset:
    """Applies a row-wise function of a table, here or in the workers."""
    if isinstance(settled, pa.Table):
        return function(settled)
    return settled.map_batches(function, batch_format="pyarrow", batch_size=None)


@contextmanager
def original_errors() -> Iterator[None]:
    """Turns Ray's wrapping of an error from a worker back into the error that was raised there.

    Datasets must be declared and run inside: whether Ray keeps the original is fixed when a dataset is declared.
    """
    context = ray.data.DataContext.get_current()
    before = context.raise_original_map_exception
    context.raise_original_map_exception = True
    try:
        yield
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, MillraceError):
            raise cause from None
        if isinstance(cause, pa.ArrowInvalid):
            raise SchemaMismatchError(
                f"the data cannot be read as declared: {cause}. Correct the data or the declared types."
            ) from error
        raise
    finally:
        context.raise_original_map_exception = before


def raw_schema(source: Source) -> pa.Schema:
    """Columns of the source's raw table: what is declared, the row's identity and when we wrote it."""
    extra = (Field("row_key", "string"), Field("created_timestamp", "timestamp"))
    return arrow_schema((*source.fields, *extra))


def available_column(source: Source) -> str:
    """The column of the moment the world could first know a row."""
    return source.available_timestamp or source.event_timestamp
