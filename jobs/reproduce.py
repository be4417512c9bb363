"""Trains a recorded run again from its record and compares the models.

ray job submit --working-dir . -- python jobs/reproduce.py --project app.project:PROJECT RUN
"""

from __future__ import annotations

import argparse

from app.assembly.job import VerbWithOptions, run_job
from app.pipeline.reproduce import reproduce_run


def declare(parser: argparse.ArgumentParser) -> VerbWithOptions:
    """Which run."""
    parser.add_argument("run", help="a model version, or the id of a training run or its MLflow run")
    return lambda session, options: reproduce_run(session, options.run)


if __name__ == "__main__":
    run_job("Reproduce a recorded run.", declare=declare, begin=False)
