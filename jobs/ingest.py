"""Reads every source of a project into versioned tables, failed rows into quarantine.

ray job submit --working-dir . -- python jobs/ingest.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.pipeline.prepare import ingest_sources

if __name__ == "__main__":
    run_job("Ingest the project's sources.", ingest_sources)
