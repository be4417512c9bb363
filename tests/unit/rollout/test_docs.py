"""The code of docs/rollouts.md runs from top to bottom, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from app.cli.rollout import rollout

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rollouts.md"


def test_the_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)


def test_the_commands_of_the_page_exist() -> None:
    shown = set(re.findall(r"^millrace rollout (\w+)", PAGE.read_text(), flags=re.MULTILINE))
    there = {command.name or command.callback.__name__ for command in rollout.registered_commands if command.callback}
    assert shown <= there
    assert there - shown == {"status", "resume"}, "pause speaks of resume; the panel of each verb is that of status"
