"""Reading only what is new of a source, in bounded batches, each with the cursor behind it.

A cursor is JSON. It is recorded with the very commit that holds the batch's rows, so a batch is there exactly once:
killed before the commit, it is read again; after it, never. Each reader says what its cursor means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from app.spec.features import CsvFiles, KafkaTopic, ParquetFiles, Source, SqlQuery

CURSOR = "cursor"
Cursor = dict[str, Any]


@dataclass(frozen=True)
class SourceBatch:
    """Rows in declared columns and types, what could not be brought to them, and the cursor behind both.

    `refused`: reason and text of each row that is not as declared; only a stream has such rows, since it cannot be
    corrected at its source and must not stop.
    """

    rows: pa.Table
    cursor: Cursor
    refused: Sequence[tuple[str, str]] = ()


class CursorReader(Protocol):
    """One kind of source, opened for one ingest."""

    def next_batch(self, committed: Sequence[Cursor], again: Cursor | None) -> SourceBatch | None:
        """The batch behind what was committed, `None` when there is nothing new.

        Args:
            committed: cursors of all commits, oldest first.
            again: the cursor of a batch that was interrupted: exactly that batch is read.
        """


def cursor_reader(source: Source) -> CursorReader | None:
    """The reader of a source that can say what is new; `None` for one that is read whole."""
    reader = source.reader
    if isinstance(reader, SqlQuery) and reader.cursor is not None:
        from app.features.sql_source import SqlReader

        return SqlReader(source, reader)
    if isinstance(reader, KafkaTopic):
        from app.features.kafka_source import KafkaReader

        return KafkaReader(source, reader)
    if isinstance(reader, (ParquetFiles, CsvFiles)) and reader.new_files_only:
        from app.features.file_source import FileReader

        return FileReader(source, reader)
    return None
