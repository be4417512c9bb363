"""Rows past the project's time go for good; those within it, and what shippers rely on, stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.errors import ProjectError
from app.foundation.lake import Lake, row_deletion
from app.predictionlog.reader import read_labels, read_predictions
from app.predictionlog.retention import forget_old
from app.predictionlog.segment import Kind, SegmentWriter, segment_folder
from app.predictionlog.shipper import Shipper, last_batches
from app.settings import Settings
from app.spec import ServingPolicy
from tests.cluster.serving_project import PROJECT

NOW = datetime.now(UTC) + timedelta(days=400)  # long after the snapshots of this test
DAY = timedelta(days=1)
KEPT = 30 * DAY
KEEPS = replace(PROJECT, serving=ServingPolicy(log_kept=KEPT))


def log(settings: Settings, lake: Lake, *ages_days: float, kind: Kind = "predictions") -> None:
    """Writes a request of each age and ships them: rows of one data file."""
    write(settings, *ages_days, kind=kind)
    Shipper(lake, settings, "shop", kind).ship()


def write(settings: Settings, *ages_days: float, kind: Kind = "predictions") -> None:
    writer = SegmentWriter(segment_folder(settings.segments, "shop", kind))
    for age in ages_days:
        at = (NOW - age * DAY).isoformat()
        if kind == "labels":
            rows = [{"key": f"k{age}", "label": 1.0, "available_timestamp": at}]
            writer.append({"logged_timestamp": at, "rows": rows})
        else:
            row = {
                "key": f"k{age}", "score": 0.5, "assigned": "champion", "answered_by": "champion", "version": "1",
                "error": None, "features": {"secret": f"of-{age}"},
            }
            writer.append({
                "request_id": f"r{age}", "at": at, "epoch": 1, "rollout_id": None, "latency_ms": 1.0,
                "logged_timestamp": at, "rows": [row],
            })
    writer.close()


def keys(lake: Lake) -> set[str]:
    return set(read_predictions(lake, "shop", NOW - 999 * DAY, NOW + DAY)["key"].to_pylist())


def data_files(settings: Settings) -> list[Path]:
    return sorted(Path(settings.warehouse).rglob("*.parquet"))


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.open(settings)


def test_what_is_past_its_time_goes_with_its_files_and_the_rest_stays(settings: Settings, lake: Lake) -> None:
    log(settings, lake, 40, 50)
    log(settings, lake, 31, 29)
    log(settings, lake, 1)
    log(settings, lake, 31, 1, kind="labels")
    before = data_files(settings)
    gone = {g.table: g for g in forget_old(lake, "shop", KEPT, NOW)}
    assert (gone["shop.predictions"].rows, gone["shop.labels"].rows) == (3, 1)
    assert keys(lake) == {"k29", "k1"}
    assert read_labels(lake, "shop")["key"].to_pylist() == ["k1"]
    assert len(set(before) & set(data_files(settings))) == 1, "only the file that held nothing old is left of them"
    assert gone["shop.predictions"].files >= 2 and gone["shop.predictions"].snapshots >= 3
    again = forget_old(lake, "shop", KEPT, NOW)
    assert [g.rows for g in again] == [0, 0]
    assert keys(lake) == {"k29", "k1"}


def test_files_of_a_snapshot_that_may_be_being_read_stay_for_an_hour(settings: Settings, lake: Lake) -> None:
    log(settings, lake, 40, 1)
    read_id = lake.current_snapshot_id("shop.predictions")
    soon = datetime.now(UTC) + timedelta(minutes=59)
    (gone,) = forget_old(lake, "shop", soon - (NOW - KEPT), soon)
    assert (gone.rows, gone.snapshots, gone.files) == (1, 0, 0)
    assert lake.read("shop.predictions", snapshot_id=read_id).num_rows == 2
    assert keys(lake) == {"k1"}


def test_a_shipper_that_died_after_its_commit_ships_nothing_twice(settings: Settings, lake: Lake) -> None:
    log(settings, lake, 50)
    write(settings, 40, 2)
    shipper = Shipper(lake, settings, "shop", "predictions")
    cursor = segment_folder(settings.segments, "shop", "predictions") / "cursor.json"
    planned: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake, "append", lambda *a: (planned.append(cursor.read_bytes()), Lake.append(lake, *a))[1])
        patch.setattr(Shipper, "_sweep", lambda *_: None)  # the segment of a batch that is not noted as shipped stays
        assert shipper.ship() == 2
    cursor.write_bytes(planned[0])  # it died before it could note that the commit was made
    before = {c.snapshot_id for c in lake.commits("shop.predictions")}
    forget_old(lake, "shop", KEPT, NOW)
    after = lake.commits("shop.predictions")
    assert not before & {c.snapshot_id for c in after}, "a snapshot that is kept keeps its rows"
    assert len(last_batches(after)) == 1
    assert Shipper(lake, settings, "shop", "predictions").ship() == 0
    assert lake.read("shop.predictions")["key"].to_pylist() == ["k2"]


def test_what_is_shipped_meanwhile_stays(settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    log(settings, lake, 40, 3)
    looked = row_deletion._num_rows

    def looked_and_overtaken(table: Any) -> int:
        monkeypatch.setattr(row_deletion, "_num_rows", looked)
        log(settings, lake, 2)  # committed between the deletion's look and its commit
        return looked(table)

    monkeypatch.setattr(row_deletion, "_num_rows", looked_and_overtaken)
    assert forget_old(lake, "shop", KEPT, NOW)[0].rows == 1
    assert keys(lake) == {"k3", "k2"}


def test_the_command_follows_the_project(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))
    lake = Lake.open(settings)
    log(settings, lake, 440, 3)  # before NOW, which is 400 days ahead
    command = ["predictions", "maintain", "--project", "tests.unit.predictionlog.test_retention:KEEPS"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "shop.predictions: 1 rows older than 30 days, 0:00:00 deleted" in shown.output
    assert keys(lake) == {"k3"}
    command[-1] = "tests.cluster.serving_project:PROJECT"
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, ProjectError) and "log_kept=" in refused.exception.message


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(ProjectError, match="log_kept is 0:00:00"):
        ServingPolicy(log_kept=timedelta(0))
