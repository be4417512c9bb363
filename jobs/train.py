"""Trains the first model on the training stretch.

ray job submit --working-dir . -- python jobs/train.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.pipeline.fit import train_first

if __name__ == "__main__":
    run_job("Train the project's first model.", train_first)
