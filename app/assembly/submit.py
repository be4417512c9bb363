"""`millrace submit`: a job as `ray job submit` makes it, with the commit packed along.

Ray leaves `.git` out of a job's package, so what the code was is written to a file that travels with it.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import typer
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from app.errors import SettingsError, UnknownNameError
from app.foundation.lineage.provenance import PACKED, ROOT, packed_state

JOBS = ROOT / "jobs"
EXCLUDED = [".venv", ".peers", ".millrace", "tests/gpu", "benchmarks/results"]


def submit_job(
    verb: str, project_ref: str, address: str, home: str, arguments: Sequence[str] = (), *, allow_dirty: bool = False
) -> int:
    """Submits `jobs/VERB.py` with `arguments` of its own, follows its log to the end; 0 when it succeeded, else 1.

    Raises:
        UnknownNameError: there is no such job.
    """
    if not (JOBS / f"{verb}.py").exists():
        known = ", ".join(sorted(f.stem for f in JOBS.glob("*.py")))
        raise UnknownNameError(f"there is no job {verb!r}; there are: {known}.", job=verb)
    client = connect(address)
    packed = Path(PACKED)
    packed.write_text(json.dumps(packed_state()))
    try:
        job_id = client.submit_job(
            entrypoint=entrypoint(verb, project_ref, arguments, allow_dirty=allow_dirty),
            runtime_env={"working_dir": ".", "excludes": EXCLUDED, "env_vars": {"MILLRACE_HOME": home}},
        )
    finally:
        packed.unlink()
    typer.echo(f"job {job_id}")
    asyncio.run(_follow(client, job_id))
    return 0 if client.get_job_status(job_id) == JobStatus.SUCCEEDED else 1


def entrypoint(verb: str, project_ref: str, arguments: Sequence[str], *, allow_dirty: bool) -> str:
    """The command line that a shell of the cluster runs: each argument is quoted for it."""
    dirty = ["--allow-dirty"] if allow_dirty else []
    return shlex.join(["python", f"jobs/{verb}.py", "--project", project_ref, *dirty, *arguments])


def connect(address: str) -> JobSubmissionClient:
    """A client of the cluster, with this user's Ray token when there is one.

    Raises:
        SettingsError: nothing answers at `address`, or it wants a token that is not here.
    """
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        return JobSubmissionClient(address)
    except ConnectionError as error:
        raise SettingsError(
            f"no Ray dashboard answers at {address}. Start one (`make up`) or give --address."
        ) from error
    except AuthenticationError as error:
        raise SettingsError(
            f"the cluster at {address} wants a token. Save the one that `ray get-auth-token` prints on its head as "
            "~/.ray/auth_token here."
        ) from error


async def _follow(client: JobSubmissionClient, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        typer.echo(lines, nl=False)
