"""Benchmarks on the rows of a whole project: arguments, a home, and the rows ingested and backfilled once."""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from typing import NoReturn, Protocol

import torch

from app.assembly.job import execute
from app.pipeline.prepare import backfill_features, ingest_sources
from app.pipeline.session import Session


class Measure(Protocol):
    """What is measured in a session whose features are there. `subject`: of the result files."""

    def __call__(self, session: Session, subject: str, *, quick: bool) -> None: ...


def run_on_rows(description: str | None, subject: str, measure: Measure) -> NoReturn:
    """Measures the flights, or with `--quick` the tiny project, and exits with the code of a job."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--home", help="a home where the project's rows are ingested and backfilled")
    options = parser.parse_args()
    ref = "tests.projects.tiny:PROJECT" if options.quick else "app.project:PROJECT"
    name = f"{subject}-quick" if options.quick else subject
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as fresh:
        os.environ["MILLRACE_HOME"] = options.home or fresh
        code = execute(ref, partial(_measure, measure, name, options.quick))
    raise SystemExit(code)


def _measure(measure: Measure, subject: str, quick: bool, session: Session) -> None:
    if session.run.output("backfill") is None:
        ingest_sources(session)
        backfill_features(session)
    measure(session, subject, quick=quick)
