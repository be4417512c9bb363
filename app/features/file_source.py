"""Files of a folder or object store that were not read before. Any file system that pyarrow knows."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from app.errors import DataError
from app.features.arrow_types import ARROW_TYPES, conform
from app.features.cursors import Cursor, SourceBatch
from app.spec.features import CsvFiles, Field, ParquetFiles, Source

BATCH_BYTES = 256 * 2**20  # of files in one commit; a larger file is a batch of its own


class FileReader:
    """Cursor `{"files": {path: "size-mtime"}}`: the files of that commit. New is what no commit has in this state."""

    def __init__(self, source: Source, reader: ParquetFiles | CsvFiles) -> None:
        self._source = source
        self._reader = reader

    def next_batch(self, committed: Sequence[Cursor], again: Cursor | None) -> SourceBatch | None:
        """See `CursorReader`."""
        files, found = listed(self._reader.path, self._source)
        state = {info.path: f"{info.size}-{info.mtime_ns}" for info in found}
        if again is not None:
            gone = [path for path, known in again["files"].items() if state.get(path) != known]
            if gone:
                raise DataError(
                    f"source {self._source.name!r}: {len(gone)} file(s) changed while they were ingested, e.g. "
                    f"{gone[0]!r}. With new_files_only files are added and never rewritten; restore it.",
                    source=self._source.name,
                )
            chosen = list(again["files"])
        else:
            seen = {(path, known) for cursor in committed for path, known in cursor["files"].items()}
            new = [info for info in found if (info.path, state[info.path]) not in seen]
            chosen = _first([(info.path, info.size) for info in new])
        if not chosen:
            return None
        rows = pa.concat_tables([self._read(files, path) for path in chosen])
        return SourceBatch(rows, {"files": {path: state[path] for path in chosen}})

    def _read(self, files: pyarrow.fs.FileSystem, path: str) -> pa.Table:
        where = f"file {path!r} of source {self._source.name!r}"
        try:
            with files.open_input_file(path) as opened:
                if isinstance(self._reader, ParquetFiles):
                    table = pyarrow.parquet.read_table(opened)
                else:
                    table = pyarrow.csv.read_csv(opened, convert_options=csv_options(self._source.fields))
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{where} cannot be read: {error}.", source=self._source.name, path=path) from error
        return conform(table, self._source.fields, where)


def csv_options(fields: Sequence[Field]) -> pyarrow.csv.ConvertOptions:
    """Columns as declared; a timestamp is read as text, since only we know all of its forms."""
    types = {f.name: pa.string() if f.dtype == "timestamp" else ARROW_TYPES[f.dtype] for f in fields}
    return pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)


def listed(path: str, source: Source) -> tuple[pyarrow.fs.FileSystem, list[pyarrow.fs.FileInfo]]:
    """The files a path, glob, folder or URL names, in the order of their names.

    Raises:
        DataError: there is none, or the store cannot be reached.
    """
    try:
        files, root = _file_system(path)
        names = root.split("/")
        fixed = "/".join(names[: next((i for i, n in enumerate(names) if glob.has_magic(n)), len(names))])
        info = files.get_file_info(fixed)
        found = [info] if info.type == pyarrow.fs.FileType.File else []
        if info.type == pyarrow.fs.FileType.Directory:
            found = files.get_file_info(pyarrow.fs.FileSelector(fixed, recursive=True))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"source {source.name!r}: {_shown(path)!r} cannot be listed: {error}. Correct the path or the "
            "access to it.", source=source.name, path=_shown(path),
        ) from error
    whole = root if fixed != root else f"{root.rstrip('/')}/**"
    chosen = [
        f for f in found
        if f.type == pyarrow.fs.FileType.File and (f.path == root or _matches(f.path, whole))
        and not f.path.rsplit("/", 1)[-1].startswith(("_", "."))
    ]
    if not chosen:
        raise DataError(
            f"source {source.name!r}: no file matches {_shown(path)!r}. Correct the path; it is relative to the folder "
            "the process runs in.", source=source.name, path=_shown(path),
        )
    return files, sorted(chosen, key=lambda f: f.path)


def _shown(path: str) -> str:
    """The path or URL without the keys that some URLs carry.

    >>> _shown("s3://key:secret@rows/a/*.csv")
    's3://***@rows/a/*.csv'
    """
    return re.sub(r"(?<=://)[^/@]*@", "***@", path)


def _matches(path: str, pattern: str) -> bool:
    """Whether a path matches a glob: `*` stays within a folder, `**` stands for any number of folders.

    >>> [_matches(path, "d/*.csv") for path in ("d/a.csv", "d/e/a.csv")]
    [True, False]
    >>> [_matches(path, "d/**/*.csv") for path in ("d/a.csv", "d/e/f/a.csv")]
    [True, True]
    """
    return _match(path.split("/"), pattern.split("/"))


def _match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not names
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        return any(_match(names[n:], rest) for n in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], first) and _match(names[1:], rest)


def _file_system(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    if "://" not in path:
        return pyarrow.fs.LocalFileSystem(), path
    path, mark, options = path.partition("?")  # e.g. endpoint_override=host:9000, as pyarrow's URLs have them
    folder = path.partition("*")[0].rsplit("/", 1)[0] if "*" in path else path
    files, fixed = pyarrow.fs.FileSystem.from_uri(f"{folder}{mark}{options}")
    return files, fixed if "*" not in path else f"{fixed.rstrip('/')}/{path[len(folder) + 1:]}"


def _first(files: Sequence[tuple[str, int]]) -> list[str]:
    """The first files that make up one batch."""
    chosen: list[str] = []
    total = 0
    for path, size in files:
        if chosen and total + size > BATCH_BYTES:
            break
        chosen.append(path)
        total += size
    return chosen
