"""After a demo the platform comes up on what it left, answers whoever has a token, and goes down again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import BINARIES, ROOT, environment_of
from tests.e2e.test_kill import COMMAND

REF = COMMAND[-1]


def millrace(environment: dict[str, str], *arguments: str, timeout_s: float = 300.0) -> str:
    done = subprocess.run(
        [str(BINARIES / "millrace"), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    return done.stdout


@pytest.mark.full
@pytest.mark.timeout(900)
def test_up_after_a_demo_answers_with_the_champion_that_the_loop_left(tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    millrace(environment, "demo", "--project", REF, timeout_s=600)
    try:
        for _ in ("up", "up again, on what the first left"):
            millrace(environment, "up", "--project", REF)
            token = millrace(environment, "tokens", "create", "ops", "--scope", "admin").strip()
            url = f"http://127.0.0.1:{environment['MILLRACE_HTTP_PORT']}/v1/status"
            assert httpx.get(url, timeout=30).status_code == 401
            status = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).json()
            assert (status["champion"], status["candidate"]) == ("2", None)
            millrace(environment, "down")
    finally:
        millrace(environment, "down")
