"""Runs the whole loop: ingest, features, sweep, train, validate, deploy, replay, report.

ray job submit --working-dir . -- python jobs/loop.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.assembly.loop import run_loop

if __name__ == "__main__":
    run_job("Run the whole loop.", run_loop)
