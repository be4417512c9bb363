"""A table read in pieces: the rows of a whole read, in its order, no piece larger than its row groups make it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from app.foundation.lake import Lake, clustered_write, parquet_file


@pytest.mark.parametrize("bucketed", [False, True], ids=["whole", "bucketed"])
def test_pieces_hold_every_row_once_and_in_order(
    tmp_path: Path, bucketed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_file, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(clustered_write, "TARGET_BYTES", 2**30)
    lake = Lake(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}")
    lake.ensure_table("a.t", pa.schema([("n", pa.int64())]), ("n",) if bucketed else (), num_buckets=3)
    for first in (0, 200, 205):
        lake.append("a.t", pa.table({"n": range(first, first + (200 if first == 0 else 5))}), {})
    scan = lake.scan_buckets("a.t")
    whole = scan.read(["n"])["n"].to_pylist()
    pieces = scan.in_pieces(25)
    read = [piece.read(["n"])["n"].to_pylist() for piece in pieces]
    assert [n for part in read for n in part] == whole and sorted(whole) == list(range(210))
    assert sum(piece.num_rows() for piece in pieces) == 210
    if bucketed:
        assert len(pieces) > 6 and max(map(len, read)) <= 30
        assert all(len(piece.files) == 1 for piece in pieces)
    else:
        sizes = [len(part) for part in read]  # files come in the order of their names, which are random
        assert sizes in ([200, 10], [10, 200], [5, 200, 5]), "a file of one row group is one piece"
