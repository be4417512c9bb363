"""What becomes of a configuration from Ray's own template."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from app.serving.haproxy_configuration import completed, public_address, servers, stand_in, with_public_bind
from app.serving.haproxy_start import replaced_by

REPLICAS = [ServerConfig(name="a", host="127.0.0.1", port=30001), ServerConfig(name="b", host="10.0.0.2", port=30002)]
FALLBACK = ServerConfig(name="head", host="10.0.0.1", port=8500)


def written_by_ray(folder: Path, host: str, replicas: list[ServerConfig], name: str = "http-shop") -> str:
    backend = BackendConfig(name=name, path_prefix="/", servers=replicas, fallback_server=FALLBACK)
    api = HAProxyApi(
        HAProxyConfig(
            http_options=HTTPOptions(host=host, port=8123), is_head=True, socket_path=f"{folder}/admin.sock",
            server_state_base=str(folder), server_state_file=f"{folder}/server-state",
            metrics_socket_path=f"{folder}/metrics.sock",
        ),
        {name: backend}, f"{folder}/haproxy.cfg",
    )
    api._generate_config_file_internal()
    return (folder / "haproxy.cfg").read_text()


def binds(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if line.split()[:1] == ["bind"]]


def test_is_completed_once(tmp_path: Path) -> None:
    text = completed(written_by_ray(tmp_path, "127.0.0.1", REPLICAS), tmp_path)
    assert text.count("option http-buffer-request") == 1
    assert binds(text) == [f"unix@{tmp_path}/prom.sock", "127.0.0.1:8123", f"unix@{tmp_path}/stats.sock"]
    assert "mode 666" not in text
    assert completed(text, tmp_path) == text


@pytest.mark.parametrize(("name", "times"), [("http-millrace-shop", 1), ("http-shop", 0)])
def test_only_our_replicas_do_not_watch_for_clients_that_hang_up(tmp_path: Path, name: str, times: int) -> None:
    text = completed(written_by_ray(tmp_path, "127.0.0.1", REPLICAS, name), tmp_path)
    assert text.count("http-request set-header x-request-disconnect-disabled ?1") == times
    assert completed(text, tmp_path) == text


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1:8123"), ("0.0.0.0", "*:8123")])
def test_the_public_listens_elsewhere(tmp_path: Path, host: str, address: str) -> None:
    text = written_by_ray(tmp_path, host, REPLICAS)
    moved = with_public_bind(with_public_bind(text, "fd@5"), "fd@6")
    assert public_address(text) == public_address(moved) == address
    assert [bind for bind in binds(moved) if bind not in binds(text)] == ["fd@6"]


def test_only_replicas_count_as_servers(tmp_path: Path) -> None:
    assert servers(written_by_ray(tmp_path, "127.0.0.1", REPLICAS)) == [("127.0.0.1", 30001), ("10.0.0.2", 30002)]
    assert servers(written_by_ray(tmp_path, "127.0.0.1", [])) == []


def test_a_stand_in_has_nothing_of_rays(tmp_path: Path) -> None:
    text = stand_in(completed(written_by_ray(tmp_path, "127.0.0.1", REPLICAS), tmp_path))
    assert binds(text) == ["127.0.0.1:8123"]
    assert "stats socket" not in text
    assert "server-state" not in text
    assert servers(text) == [("127.0.0.1", 30001), ("10.0.0.2", 30002)]


def test_what_is_replaced() -> None:
    assert replaced_by(["-db", "-f", "x", "-sf", "12", "13", "-x", "14"]) == [12, 13]
    assert replaced_by(["-db", "-f", "x"]) == []
