"""Registers the feature views and materialises their history, or what is missing of a stretch of available time.

ray job submit --working-dir . -- python jobs/backfill.py --project app.project:PROJECT
    [--start 2013-01-01] [--end 2013-07-01T00:00:00Z] [--views origin_history plane]
"""

from __future__ import annotations

import argparse
from datetime import datetime

from app.assembly.job import VerbWithOptions, run_job
from app.pipeline.prepare import backfill_features, backfill_range
from app.pipeline.session import Session


def declare(parser: argparse.ArgumentParser) -> VerbWithOptions:
    """The stretch and the views; without any of them the job is the loop's own step."""
    moment = {"type": datetime.fromisoformat, "metavar": "ISO8601"}
    parser.add_argument("--start", **moment, help="exclusive, available time (default: the beginning)")
    parser.add_argument("--end", **moment, help="inclusive (default: now)")
    parser.add_argument("--views", nargs="+", metavar="VIEW", help="(default: all)")
    return backfill


def backfill(session: Session, options: argparse.Namespace) -> None:
    """The loop's step, or a stretch of it."""
    if options.start is None and options.end is None and options.views is None:
        backfill_features(session)
    else:
        backfill_range(session, options.start, options.end, options.views)


if __name__ == "__main__":
    run_job("Backfill the project's feature views.", declare=declare)
