"""Registers the feature views and materialises their history.

ray job submit --working-dir . -- python jobs/backfill.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.pipeline.prepare import backfill_features

if __name__ == "__main__":
    run_job("Backfill the project's feature views.", backfill_features)
