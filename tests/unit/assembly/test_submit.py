"""What a shell of the cluster is given to run."""

from __future__ import annotations

import shlex

from hypothesis import given
from hypothesis import strategies as st

from app.assembly.submit import entrypoint


def test_a_jobs_own_arguments_stand_last() -> None:
    given_line = entrypoint("reproduce", "app.project:PROJECT", ["3"], allow_dirty=True)
    assert given_line == "python jobs/reproduce.py --project app.project:PROJECT --allow-dirty 3"


@given(st.lists(st.text(max_size=20)))
def test_the_shell_hands_on_each_argument_as_it_was(arguments: list[str]) -> None:
    words = shlex.split(entrypoint("backfill", "p:P", arguments, allow_dirty=False))
    assert words == ["python", "jobs/backfill.py", "--project", "p:P", *arguments]
