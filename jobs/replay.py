"""Replays the live stretch over HTTP: monitors, retrains, rolls out.

ray job submit --working-dir . -- python jobs/replay.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.pipeline.live import replay_history

if __name__ == "__main__":
    run_job("Replay history against the deployed application.", replay_history)
