"""Whose folder is used: only one that nobody else could have filled."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from app.serving import port_request, private_folder
from app.serving.port_request import SOCKET, PortRequest, ask
from app.serving.private_folder import close_to_others, make_private


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_what_ray_made_open_to_readers_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    node = home / "node"
    node.mkdir(parents=True)
    home.chmod(0o775)
    node.chmod(0o755)
    assert close_to_others(node)
    assert (mode(home), mode(node)) == (0o700, 0o700)


@pytest.mark.parametrize("which", ["home", "home/node"])
def test_a_folder_where_everybody_could_write_is_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "home" / "node").mkdir(parents=True)
    (tmp_path / which).chmod(0o777)
    assert not close_to_others(tmp_path / "home" / "node")
    assert mode(tmp_path / which) == 0o777


@pytest.mark.parametrize("check", [make_private, close_to_others])
def test_a_link_is_refused(tmp_path: Path, check: object) -> None:
    (tmp_path / "real" / "node").mkdir(parents=True, mode=0o700)
    (tmp_path / "real" / "node").chmod(0o700)
    (tmp_path / "home").symlink_to(tmp_path / "real")
    assert callable(check)
    assert not check(tmp_path / "home" / "node")


@pytest.mark.parametrize("check", [make_private, close_to_others])
def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: object) -> None:
    user = private_folder.os.getuid()
    assert callable(check)
    assert check(tmp_path / "home" / "node")
    monkeypatch.setattr(private_folder.os, "getuid", lambda: user + 1)
    assert not check(tmp_path / "home" / "node")


def test_a_holder_of_another_user_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a short path
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(SOCKET)
        line.listen()
        user = port_request.os.getuid()
        monkeypatch.setattr(port_request.os, "getuid", lambda: user + 1)
        with pytest.raises(PermissionError, match=f"user {user}"):
            ask(Path(), PortRequest(1, "127.0.0.1:1", (), "secret"))
        caller, _ = line.accept()
        with caller:
            assert caller.recv(100) == b""
