"""What no commit holds is kept as a patch, without secrets, and refused unless allowed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from app.errors import UncommittedCodeError
from app.foundation.lineage import hardware, provenance, require_committed
from app.foundation.lineage.code_diff import MAX_FILE_BYTES, code_diff
from app.foundation.lineage.hardware import arithmetic_differences
from app.foundation.lineage.provenance import PACKED, code_state, packed_state
from tests.unit.foundation.test_provenance import checkout, git

__all__ = ["checkout"]


def test_a_clean_checkout_has_no_difference(checkout: Path) -> None:
    assert code_diff(checkout).text == "" and code_diff(checkout).files == ()


def test_the_patch_makes_the_same_files_from_the_commit(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (checkout / "code.py").write_text("x = 2\n")
    (checkout / "deep").mkdir()
    (checkout / "deep" / "näw.py").write_text("y = 'é'\n")
    (checkout / "gone.py").write_text("z = 1\n")
    git(checkout, "add", "gone.py")
    found = code_diff(checkout)
    assert set(found.files) == {"code.py", "deep/näw.py", "gone.py"} and not found.left_out
    fresh = tmp_path_factory.mktemp("fresh")
    git(checkout, "worktree", "add", str(fresh / "tree"), "HEAD")
    subprocess.run(["git", "-C", str(fresh / "tree"), "apply"], input=found.text.encode(), check=True)
    for name in found.files:
        assert (fresh / "tree" / name).read_text() == (checkout / name).read_text()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (".env", b"A=1\n", "secret"),
        ("keys/server.pem", b"pem of old\n", "secret"),
        ("conf/credentials.json", b"{}\n", "secret"),
        ("settings.py", b'DB_PASSWORD = "correct-horse"\n', "looks like a secret"),
        ("url.py", b"u = 'postgresql://me:hunter22@db/x'\n", "looks like a secret"),
        ("key.py", b"-----BEGIN RSA PRIVATE KEY-----\n", "looks like a secret"),
        ("image.bin", b"\x00\x01\x02" * 100, "binary"),
        ("rows.csv", b"1,2\n" * MAX_FILE_BYTES, "larger"),
    ],
)
@pytest.mark.parametrize("tracked", [False, True])
def test_secrets_binaries_and_large_files_are_left_out_and_named(
    checkout: Path, name: str, content: bytes, reason: str, tracked: bool
) -> None:
    path = checkout / name
    path.parent.mkdir(exist_ok=True)
    if tracked:
        path.write_bytes(b"old\n")
        git(checkout, "add", "-f", name)
        git(checkout, "commit", "-m", "second")
    path.write_bytes(content)
    (checkout / "code.py").write_text("x = 3\n")
    found = code_diff(checkout)
    assert reason in found.left_out[name]
    assert "x = 3" in found.text and content.decode("latin-1").strip() not in found.text


def test_uncommitted_code_is_refused_by_name_unless_allowed(checkout: Path) -> None:
    require_committed(code_state(checkout), allow_dirty=False)
    (checkout / "new.py").write_text("y = 1\n")
    with pytest.raises(UncommittedCodeError, match=r"new\.py.*--allow-dirty"):
        require_committed(code_state(checkout), allow_dirty=False)
    require_committed(code_state(checkout), allow_dirty=True)
    require_committed({"code_commit": "unknown", "code_dirty": None}, allow_dirty=False)


def test_the_difference_travels_with_a_packed_job(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "code.py").write_text("x = 4\n")
    unpacked = tmp_path_factory.mktemp("job") / "_ray_pkg_7"
    unpacked.mkdir()
    (unpacked / PACKED).write_text(json.dumps(packed_state(checkout)))
    monkeypatch.chdir(unpacked)
    known = provenance(unpacked)
    assert known["code_files"] == ["code.py"] and "+x = 4" in known["code_diff"]
    with pytest.raises(UncommittedCodeError):
        require_committed(known, allow_dirty=False)


def test_the_hardware_names_what_decides_the_bits_of_a_sum(tmp_path: Path) -> None:
    here = hardware()
    assert arithmetic_differences(here, hardware()) == []
    other = tmp_path / "cpuinfo"
    other.write_text("model name\t: Old\nflags\t\t: fpu sse4_1 avx\n")
    older = hardware(other)
    assert older["cpu_model"] == "Old" and older["instruction_set"] == ["avx", "sse4_1"]
    assert [name for name, *_ in arithmetic_differences(here, older)] == ["instruction_set"]
    assert arithmetic_differences(here, {**here, "cpu_model": "another", "memory_bytes": 1}) == []
