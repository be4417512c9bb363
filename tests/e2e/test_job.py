"""The tiny project goes round the whole loop as a job that a laptop submits."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from ray.job_submission import JobStatus

from app.assembly.submit import connect
from app.clock import WallClock
from app.foundation.state import StateDatabase
from app.pipeline.run import LoopRunLog
from tests.e2e.conftest import BINARIES, ROOT, Head

EXCLUDED = [".venv", ".peers", ".millrace", ".git"]


def run_job(head: Head, entrypoint: str) -> tuple[JobStatus, str]:
    """Submits a job as `ray job submit` does, follows its log to the end, gives status and log."""
    client = connect(head.dashboard)
    variables = {k: head.environment[k] for k in ("MILLRACE_HOME", "MILLRACE_HTTP_PORT")}
    job = client.submit_job(
        entrypoint=entrypoint,
        runtime_env={"working_dir": str(ROOT), "excludes": EXCLUDED, "env_vars": variables},
    )

    async def follow() -> str:
        return "".join([lines async for lines in client.tail_job_logs(job)])

    log = asyncio.run(follow())
    return client.get_job_status(job), log


@pytest.mark.timeout(900)
def test_the_whole_loop_as_a_submitted_job(head: Head) -> None:
    status, log = run_job(head, "python jobs/loop.py --project tests.projects.tiny:PROJECT")
    assert status == JobStatus.SUCCEEDED, log[-4_000:]
    assert "the loop beside the frozen first model" in log
    assert "<svg" in (head.settings.home / "report.html").read_text()

    run = LoopRunLog.latest(StateDatabase.open(head.settings.state_url), WallClock(), "tiny")
    windows = [run.output(name) for name, _ in run.durations_s() if name.startswith("window ")]
    assert len(windows) == 12
    rollouts = [r for w in windows if w for r in w["rollouts"]]
    assert [r["phase"] for r in rollouts] == ["Healthy", "Aborted"], (
        "the drift's challenger wins, the bad one is stopped"
    )
    last = windows[-1]
    assert last is not None and last["requests"]["failed"] == 0
    assert all(w and w["profiled_rows"] == w["answered_rows"] for w in windows), "every row served was profiled once"
    assessment = run.output("assess")
    assert assessment is not None and assessment["whole"]["gain"]["low"] > 0, "after the drift the loop must pay"


@pytest.mark.timeout(300)
def test_a_submitted_job_trains_a_registered_version_again_to_the_bit(head: Head) -> None:
    """After the loop above: the version it trained first."""
    command = [str(BINARIES / "millrace"), "submit", "reproduce", "1", "--project", "tests.projects.tiny:PROJECT"]
    done = subprocess.run(
        [*command, "--address", head.dashboard, "--home", str(head.settings.home)], cwd=ROOT,
        env=head.environment, capture_output=True, text=True, timeout=280, check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    assert "equal weights" in done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("project", "message"),
    [("app.nowhere:PROJECT", "no module 'app.nowhere'"), ("app.spec:Project", "expected an app.spec.Project")],
)
def test_a_wrong_project_ends_the_job_with_one_message(head: Head, project: str, message: str) -> None:
    status, log = run_job(head, f"python jobs/ingest.py --project {project}")
    assert status == JobStatus.FAILED
    assert message in log and "Traceback" not in log
