"""Tries the project's search space on time-ordered folds of the training stretch.

ray job submit --working-dir . -- python jobs/sweep.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.pipeline.fit import sweep_parameters

if __name__ == "__main__":
    run_job("Sweep the project's search space.", sweep_parameters)
