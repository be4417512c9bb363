"""The backfill job: the loop's step without arguments, else a stretch that is no step of the loop."""

from __future__ import annotations

import argparse
import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from app.foundation.telemetry.progress import Progress
from app.pipeline.session import Session, open_session
from app.settings import Settings
from jobs.backfill import declare
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

PROJECT_REF = "tests.unit.features.shop:PROJECT"


@pytest.fixture
def session(settings: Settings) -> Session:
    session = open_session(PROJECT_REF, settings=settings, progress=Progress(Console(file=io.StringIO())))
    put_raw(session.lake, shop.SALES, shop.sales_frame())
    put_raw(session.lake, shop.PRICES, shop.prices_frame())
    return session


def run(session: Session, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    verb = declare(parser)
    verb(session, parser.parse_args(list(arguments)))


def rows(session: Session, view: str) -> int:
    table = f"shop.fv_{view}_v1"
    return session.lake.read(table).num_rows if session.lake.exists(table) else 0


def test_without_arguments_it_is_the_loops_step(session: Session) -> None:
    run(session)
    assert session.run.output("backfill") is not None
    until = shop.PROJECT.timeline.validation_end
    assert rows(session, "price") == sum(at <= until for at in shop.prices_frame()["since"])


def test_a_stretch_of_some_views(session: Session) -> None:
    day = (shop.BASE + timedelta(days=3)).date().isoformat()
    run(session, "--start", "2013-01-01T12:00:00Z", "--end", day, "--views", "price")
    start, end = datetime(2013, 1, 1, 12, tzinfo=UTC), shop.BASE + timedelta(days=3)
    assert rows(session, "price") == sum(start < at <= end for at in shop.prices_frame()["since"])
    assert rows(session, "last_sale") == 0
    assert session.run.output("backfill") is None
    run(session, "--start", "2013-01-01T12:00:00Z", "--end", day, "--views", "price")
    told = session.progress.console.file
    assert isinstance(told, io.StringIO)
    assert "price v1: nothing was missing" in told.getvalue()


def test_a_moment_that_cannot_be_read_ends_with_a_message(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(session, "--end", "soon")
    assert ended.value.code == 2
    assert "--end" in capsys.readouterr().err
