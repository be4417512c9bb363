"""The code on the page about the registry runs."""

from __future__ import annotations

import re
from pathlib import Path

from app.settings import Settings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "feature-registry.md"


def test_the_code_on_the_page_runs(settings: Settings) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {"settings": settings, "__name__": "guide"})
