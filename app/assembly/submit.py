"""`millrace submit`: a job as `ray job submit` makes it, with the commit packed along.

Ray leaves `.git` out of a job's package, so what the code was is written to a file that travels with it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import typer
from ray.job_submission import JobStatus, JobSubmissionClient

from app.errors import UnknownNameError
from app.foundation.lineage.provenance import PACKED, ROOT, code_state

JOBS = ROOT / "jobs"
EXCLUDED = [".venv", ".millrace", "tests/gpu", "benchmarks/results"]


def submit_job(verb: str, project_ref: str, address: str, home: str) -> int:
    """Submits `jobs/VERB.py`, follows its log to the end and gives 0 when it succeeded, else 1.

    Raises:
        UnknownNameError: there is no such job.
    """
    if not (JOBS / f"{verb}.py").exists():
        known = ", ".join(sorted(f.stem for f in JOBS.glob("*.py")))
        raise UnknownNameError(f"there is no job {verb!r}; there are: {known}.", job=verb)
    client = JobSubmissionClient(address)
    packed = Path(PACKED)
    packed.write_text(json.dumps(code_state()))
    try:
        job_id = client.submit_job(
            entrypoint=f"python jobs/{verb}.py --project {project_ref}",
            runtime_env={"working_dir": ".", "excludes": EXCLUDED, "env_vars": {"MILLRACE_HOME": home}},
        )
    finally:
        packed.unlink()
    typer.echo(f"job {job_id}")
    asyncio.run(_follow(client, job_id))
    return 0 if client.get_job_status(job_id) == JobStatus.SUCCEEDED else 1


async def _follow(client: JobSubmissionClient, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        typer.echo(lines, nl=False)
