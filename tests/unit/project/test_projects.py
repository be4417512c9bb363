"""The three projects are complete and mean what they say."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta

import pandas as pd
import polars as pl
import pytest

from app.project.features import VIEWS, schedule_shape
from app.spec import Analysis, CsvFiles, DatasetFunction, Pause, Project, Source

REFS = ["app.project", "tests.projects.tiny", "tests.projects.prices"]


def project_of(module: str) -> Project:
    project = importlib.import_module(module).PROJECT
    assert isinstance(project, Project)
    return project


@pytest.mark.parametrize("ref", REFS)
def test_feature_names_differ_from_each_other_and_from_request_fields(ref: str) -> None:
    project = project_of(ref)
    names = [name for _, name in project.expand(project.service)]
    names += [field.name for field in project.cases.request_fields]
    assert len(set(names)) == len(names)
    assert set(project.model.categorical) <= set(names)
    assert set(project.baseline.categorical) <= set(names)


@pytest.mark.parametrize("ref", REFS)
def test_cases_carry_what_a_request_needs(ref: str) -> None:
    project = project_of(ref)
    columns = {field.name for field in project.cases.source.fields}
    assert {project.cases.key, project.cases.prediction_timestamp} <= columns
    assert {field.name for field in project.cases.request_fields} <= columns
    assert {key for view in project.views for key in view.join_keys} <= columns
    assert {project.cases.key, project.label.column} <= {field.name for field in project.label.source.fields}


@pytest.mark.parametrize("ref", REFS)
def test_timeline_runs_forward(ref: str) -> None:
    timeline = project_of(ref).timeline
    assert timeline.train_start < timeline.train_end < timeline.validation_end < timeline.replay_end
    if timeline.bad_candidate_at is not None:
        assert timeline.validation_end < timeline.bad_candidate_at < timeline.replay_end


@pytest.mark.parametrize("ref", REFS)
def test_rollout_is_judged_and_fits_its_deadline(ref: str) -> None:
    rollout = project_of(ref).rollout
    pauses = sum((step.duration for step in rollout.steps if isinstance(step, Pause)), timedelta())
    assert isinstance(rollout.steps[-1], Analysis)
    assert rollout.metrics
    assert pauses < rollout.progress_deadline / 2


@pytest.mark.parametrize("ref", ["app.project", "tests.projects.tiny"])
def test_readers_give_the_declared_columns(ref: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers run as they are; only the hand-over to Ray is replaced."""
    monkeypatch.setattr("ray.data.from_arrow", lambda blocks: blocks)
    for source in project_of(ref).sources:
        assert isinstance(source.reader, DatasetFunction)
        read = source.reader.function()
        for table in read if isinstance(read, list) else [read]:
            _has_declared_columns(table.column_names, source)


def test_csv_has_the_declared_columns() -> None:
    for source in project_of("tests.projects.prices").sources:
        assert isinstance(source.reader, CsvFiles)
        _has_declared_columns(pl.read_csv(source.reader.path).columns, source)


def _has_declared_columns(columns: list[str], source: Source) -> None:
    missing = {field.name for field in source.fields} - set(columns)
    assert not missing, f"source {source.name} declares {missing}"


def test_transforms_add_the_declared_fields_and_keep_the_rest() -> None:
    rows = pd.DataFrame(
        {
            "carrier": ["UA"], "origin": ["EWR"], "dest": ["ORD"], "tailnum": ["N1"], "dep_delay": [3],
            "arr_delay": [16], "late": [1], "built_year": pd.array([2003], dtype="Int64"), "seats": [100],
            "manufacturer": ["BOEING"],
        }
    )
    for view in VIEWS:
        if view.transform is not None:
            result = view.transform(rows)
            assert {*rows.columns, *(field.name for field in view.fields)} <= set(result.columns)
    plane = next(view for view in VIEWS if view.name == "plane")
    assert plane.transform is not None
    assert plane.transform(rows)["plane_age"].tolist() == [10]


def test_on_demand_features_take_nulls() -> None:
    rows = pd.DataFrame(
        {
            "distance": [600, 600], "sched_minutes": [120, 120], "origin_late_mean_4h": [0.5, None],
            "origin_late_mean_1d": [0.25, None],
        },
        dtype="object",
    )
    result = schedule_shape(rows)
    assert result["planned_mph"].tolist() == [300.0, 300.0]
    assert result["origin_late_trend"].iloc[0] == 0.25
    assert pd.isna(result["origin_late_trend"].iloc[1])


def test_tiny_turns_round_in_the_middle_of_its_replay() -> None:
    from tests.projects.tiny.data import DRIFT_AT, checks

    timeline = project_of("tests.projects.tiny").timeline
    assert timeline.bad_candidate_at is not None
    assert timeline.validation_end < DRIFT_AT < timeline.bad_candidate_at
    correlation = pl.corr("load", "stopped")
    before = checks().filter(pl.col("checked_timestamp") < DRIFT_AT).select(correlation).item()
    after = checks().filter(pl.col("checked_timestamp") >= DRIFT_AT).select(correlation).item()
    assert before > 0.3
    assert after < -0.3


def test_flights_are_cut_at_midnight_in_new_york() -> None:
    timeline = project_of("app.project").timeline
    assert timeline.train_end == datetime(2013, 7, 1, 4, tzinfo=UTC)
    assert timeline.replay_end == datetime(2014, 1, 1, 5, tzinfo=UTC)
