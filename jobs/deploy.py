"""Deploys the champion as a Serve application with the driver of its rollouts, and leaves both running.

ray job submit --working-dir . -- python jobs/deploy.py --project app.project:PROJECT
"""

from __future__ import annotations

from app.assembly.job import run_job
from app.assembly.loop import deploy_platform

if __name__ == "__main__":
    run_job("Deploy the project's champion.", deploy_platform, begin=False)
