"""Sources that are read whole: what is new or changed is written, once; refused rows are kept, once."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from app.features import ingest as module
from app.features.arrow_types import conform
from app.features.ingest import ingest, read_source
from app.features.quarantine import read_quarantine
from app.features.raw_tables import IngestResult
from app.foundation.lake import Lake
from app.settings import Settings
from app.spec import CsvFiles, Expectation, Field, Source

SOURCE = Source(
    "states", CsvFiles("none"), (Field("k", "int64"), Field("at", "timestamp"), Field("v", "int64")), ("k",), "at",
    expectations=(Expectation("v", minimum=0),),
)


@pytest.fixture
def take(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ingests `{key: value}` as the source's whole content; the rows come without Ray."""
    lake = Lake.open(settings)

    def ingested(content: dict[int, int]) -> IngestResult:
        frame = pd.DataFrame({"k": list(content), "at": pd.Timestamp("2013-01-01"), "v": list(content.values())})
        table = conform(pa.Table.from_pandas(frame, preserve_index=False), SOURCE.fields, "test")
        monkeypatch.setattr(module, "source_dataset", lambda *_: table)
        monkeypatch.setattr(module, "settle", lambda dataset, _: dataset)
        return ingest(SOURCE, "shop", lake, "run")

    ingested.lake = lake  # type: ignore[attr-defined]
    return ingested


def state(lake: Lake) -> dict[int, int]:
    rows = read_source(lake, "shop", SOURCE)
    return dict(zip(rows["k"], rows["v"], strict=True))


def test_a_value_may_go_back_to_an_earlier_one(take: Any) -> None:
    for value in (1, 2, 1):
        result = take({0: value, 1: 7})
        assert (result.already_there, state(take.lake)) == (False, {0: value, 1: 7})
    assert result.new_rows == 1
    again = take({0: 1, 1: 7})
    assert (again.already_there, again.new_rows, again.snapshot_id) == (True, 0, result.snapshot_id)


def test_an_old_content_with_nothing_new_writes_nothing(take: Any) -> None:
    first, both = take({0: 1}), take({0: 1, 1: 1})
    fewer = take({0: 1})
    assert (fewer.already_there, fewer.snapshot_id) == (True, both.snapshot_id)
    assert first.snapshot_id != both.snapshot_id


def test_refused_rows_are_kept_once_however_the_rest_changes(take: Any) -> None:
    for value in (1, 2, 3):
        assert take({0: value, 1: -1}).quarantined == 1
    assert read_quarantine(take.lake, "shop", "states").num_rows == 1
    refused_only = take({0: 3, 1: -2})
    assert (refused_only.already_there, refused_only.new_rows) == (False, 0)
    assert read_quarantine(take.lake, "shop", "states").num_rows == 2


def test_killed_after_the_quarantine_commit_both_are_there_once(take: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    append = Lake.append

    def killed(self: Lake, identifier: str, *args: Any) -> int:
        if identifier != "shop.quarantine":
            raise KeyboardInterrupt
        return append(self, identifier, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            take({0: 1, 1: -1})
    assert take({0: 1, 1: -1}).new_rows == 1
    assert read_quarantine(take.lake, "shop", "states").num_rows == 1
    assert state(take.lake) == {0: 1}
