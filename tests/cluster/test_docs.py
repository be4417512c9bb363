"""The code on the pages of docs/ runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs"
WITH_CODE = sorted(page.name for page in PAGES.glob("*.md") if "```python\n" in page.read_text())


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: str, ray_head: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), flags=re.DOTALL):
        exec(compile(block, page, "exec"), names)


def test_there_is_a_page_with_code() -> None:
    assert "features.md" in WITH_CODE
