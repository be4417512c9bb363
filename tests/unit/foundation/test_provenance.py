"""What a result says of the code it came from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from app.foundation.lineage import provenance
from app.foundation.lineage.provenance import PACKED, code_state, ray_package


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    state = code_state(checkout)
    assert len(state["code_commit"]) == 40
    assert (state["code_dirty"], state["code_diff_sha256"]) == (False, None)


def test_changed_and_new_files_make_different_hashes(checkout: Path) -> None:
    (checkout / "new.py").write_text("y = 1\n")
    new = code_state(checkout)
    (checkout / "new.py").write_text("y = 2\n")
    other = code_state(checkout)
    (checkout / "code.py").write_bytes("x = 'é'\n".encode("latin-1"))
    changed = code_state(checkout)
    assert all(state["code_dirty"] for state in (new, other, changed))
    assert len({state["code_diff_sha256"] for state in (new, other, changed)}) == 3


def test_a_folder_within_a_checkout_does_not_take_its_commit(checkout: Path) -> None:
    installed = checkout / "site-packages"
    installed.mkdir()
    assert code_state(installed)["code_commit"] == "unknown"


def test_a_packed_job_tells_the_commit_it_was_packed_from(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = tmp_path / "_ray_pkg_4f2a"
    unpacked.mkdir()
    monkeypatch.chdir(unpacked)
    plain = provenance(unpacked)
    assert plain["code_commit"] == "unknown"
    assert plain["package_hash"] == ray_package(unpacked) == "4f2a"
    assert "package" in plain["code_source"]
    (unpacked / PACKED).write_text(json.dumps(code_state(checkout)))
    assert provenance(unpacked)["code_commit"] == code_state(checkout)["code_commit"]
    assert {"ray", "torch"} <= set(plain["versions"])
