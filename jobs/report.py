"""Writes the report of the project's newest run.

ray job submit --working-dir . -- python jobs/report.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.assembly.report import write_run_report

if __name__ == "__main__":
    run_job("Write the report of the newest run.", write_run_report)
