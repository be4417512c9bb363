"""Each complete line reaches the table once, wherever the shipper or the writer dies."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.foundation.lake import Retention
from app.foundation.lake.expiry import Needed
from app.foundation.lake.staging import Commit
from app.predictionlog.segment import SegmentWriter, segment_folder
from app.predictionlog.shipper import Shipper
from app.settings import Settings, load_settings

MOMENT = "2026-01-01T00:00:00+00:00"


class CrashError(Exception):
    """The shipper's process died here."""


class FakeLake:
    """Commits in memory; dies before or after the commit when told to."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.commits: list[dict[str, str]] = []
        self.crash: str | None = None

    def ensure_table(self, identifier: str, schema: pa.Schema) -> None:
        assert identifier == "shop.predictions"

    def append(self, identifier: str, data: pa.Table, properties: dict[str, str]) -> int | None:
        crash, self.crash = self.crash, None
        if crash == "before":
            raise CrashError
        self.rows += data.to_pylist()
        self.commits.append(properties)
        if crash == "after":
            raise CrashError
        return len(self.commits)

    def find_commit(self, identifier: str, key: str, value: str) -> int | None:
        return next((i for i, commit in enumerate(self.commits) if commit.get(key) == value), None)

    def expire_snapshots(self, identifier: str, retention: Retention, needed: Needed) -> int:
        """Forgets all that may ever be forgotten."""
        kept = needed([Commit(i, i, properties) for i, properties in enumerate(self.commits)])
        self.commits = [commit for i, commit in enumerate(self.commits) if i in kept]
        return 0


def record(request: int, num_rows: int = 2) -> dict[str, object]:
    rows = [
        {
            "key": f"k{request}-{i}", "score": 0.5, "assigned": "champion", "answered_by": "champion", "version": "1",
            "error": None, "features": {"a": 1.0},
        }
        for i in range(num_rows)
    ]
    return {
        "request_id": f"r{request}", "at": MOMENT, "epoch": 1, "rollout_id": None, "latency_ms": 1.0,
        "logged_timestamp": MOMENT, "rows": rows,
    }


def settings_in(folder: str) -> Settings:
    return load_settings({"MILLRACE_HOME": folder}, in_job=False)


@given(
    events=st.lists(
        st.sampled_from(["write", "other", "torn", "ship", "crash before", "crash after"]), max_size=25
    ),
    batch_bytes=st.sampled_from([1, 500, 10_000]),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_exactly_once(events: list[str], batch_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        settings = settings_in(home)
        folder = segment_folder(settings.segments, "shop", "predictions")
        writers = [SegmentWriter(folder, max_segment_bytes=900), SegmentWriter(folder)]
        lake = FakeLake()
        written = 0
        for event in events:
            if event in ("write", "other"):
                writers[event == "other"].append(record(written))
                written += 1
            elif event == "torn":
                with (folder / f"dead{written}-00000.jsonl").open("w") as file:
                    file.write('{"half":')
            else:
                lake.crash = event.removeprefix("crash ") if event != "ship" else None
                with contextlib.suppress(CrashError):
                    Shipper(lake, settings, "shop", "predictions", batch_bytes).ship()
                lake.crash = None
        Shipper(lake, settings, "shop", "predictions", batch_bytes).ship()
        assert sorted(str(row["key"]) for row in lake.rows) == sorted(
            f"k{request}-{i}" for request in range(written) for i in range(2)
        )
        for writer in writers:
            writer.close()


def test_boot_and_sequence_tell_attempts_apart(settings: Settings) -> None:
    folder = segment_folder(settings.segments, "shop", "predictions")
    first, second = SegmentWriter(folder), SegmentWriter(folder)
    assert [first.append(record(0)), first.append(record(0)), second.append(record(0))] == [0, 1, 0]
    lake = FakeLake()
    assert Shipper(lake, settings, "shop", "predictions").ship() == 6
    assert len({(row["boot_id"], row["sequence"]) for row in lake.rows}) == 3


def test_what_is_not_shipped_is_told(settings: Settings) -> None:
    folder = segment_folder(settings.segments, "shop", "predictions")
    writer = SegmentWriter(folder)
    writer.append(record(0))
    shipper = Shipper(FakeLake(), settings, "shop", "predictions")
    assert shipper.unshipped_bytes() > 0
    shipper.ship()
    assert shipper.unshipped_bytes() == 0


def test_a_line_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(record(0))
    (path,) = tmp_path.glob("*.jsonl")
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("num_rows", [0, 1, 50])
def test_rows_of_a_request(settings: Settings, num_rows: int) -> None:
    SegmentWriter(segment_folder(settings.segments, "shop", "predictions")).append(record(0, num_rows))
    lake = FakeLake()
    assert Shipper(lake, settings, "shop", "predictions").ship() == num_rows


class BusyLake(FakeLake):
    """A request is answered, and logged, during every commit."""

    def __init__(self, writer: SegmentWriter) -> None:
        super().__init__()
        self._writer = writer

    def append(self, identifier: str, data: pa.Table, properties: dict[str, str]) -> int | None:
        assert len(self.commits) < 20, "the shipper chases what is written meanwhile"
        self._writer.append(record(1_000 + len(self.commits)))
        return super().append(identifier, data, properties)


def test_under_steady_load_what_was_there_is_shipped_and_the_call_returns(settings: Settings) -> None:
    writer = SegmentWriter(segment_folder(settings.segments, "shop", "predictions"))
    for request in range(5):
        writer.append(record(request))
    lake = BusyLake(writer)
    assert Shipper(lake, settings, "shop", "predictions").ship() == 10
    assert Shipper(lake, settings, "shop", "predictions").ship() == 2


def test_segments_go_once_they_are_shipped_and_their_writer_has_ended(tmp_path: Path) -> None:
    settings = settings_in(str(tmp_path))
    folder, lake = segment_folder(settings.segments, "shop", "predictions"), FakeLake()
    ended, alive = SegmentWriter(folder), SegmentWriter(folder)
    for writer in (ended, alive):
        writer.append(record(1))
    ended.close()
    shipper = Shipper(lake, settings, "shop", "predictions")
    assert shipper.ship() == 4
    assert [path.name.split("-")[0] for path in folder.glob("*.jsonl")] == [alive.boot_id]
    alive.append(record(2))
    alive.close()
    assert shipper.ship() == 2
    assert list(folder.glob("*.jsonl")) == []
    assert (len(lake.rows), shipper.ship(), shipper.unshipped_bytes()) == (6, 0, 0)


def test_what_is_not_shipped_is_not_removed(tmp_path: Path) -> None:
    settings = settings_in(str(tmp_path))
    folder, lake = segment_folder(settings.segments, "shop", "predictions"), FakeLake()
    writer = SegmentWriter(folder)
    writer.append(record(1))
    writer.close()
    lake.crash = "before"
    shipper = Shipper(lake, settings, "shop", "predictions")
    with pytest.raises(CrashError):
        shipper.ship()
    assert len(list(folder.glob("*.jsonl"))) == 1
    assert shipper.ship() == 2
