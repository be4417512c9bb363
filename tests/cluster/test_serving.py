"""A real Serve application behind HAProxy: answers, refusals, candidates that fail, and a whole rollout."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import httpx
import psutil
import pytest

from app.foundation.lake import Lake
from app.predictionlog.reader import join_labels, read_labels, read_predictions
from app.predictionlog.shipper import ship_all
from app.rollout.controller import RolloutController
from app.rollout.decide import Phase
from app.serving.haproxy import IN_FORCE, configuration_folder
from app.settings import load_settings
from tests.cluster.chaos import haproxies
from tests.cluster.serving_app import NUM_REPLICAS, App, orders, running_app
from tests.cluster.serving_project import PROJECT, START


@pytest.fixture(scope="module")
def app(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("serving")) as running:
        yield running


def test_answers_with_looked_up_features(app: App) -> None:
    first, second = (app.predict(5, "a") for _ in range(2))
    assert [p["key"] for p in first] == ["a0", "a1", "a2", "a3", "a4"]
    assert first == second
    assert {(p["version"], p["variant"], p["answered_by"]) for p in first} == {("1", "champion", "champion")}
    assert len({p["score"] for p in first}) == 5


def test_pushed_rows_change_the_answer(app: App) -> None:
    before = app.predict(1, "push", at=(START + timedelta(days=1)).isoformat())[0]["score"]
    row = {"shop": "s0", "stock": 9.0, "at": (START + timedelta(hours=1)).isoformat()}
    response = app.http.post("/v1/features/push", json={"source": "stock", "rows": [row]})
    assert (response.status_code, response.json()) == (200, {"accepted": 1, "refused": 0, "reasons": []})
    for _ in range(4):  # both replicas read the same store
        after = app.predict(1, "push", at=(START + timedelta(days=1)).isoformat())[0]["score"]
        assert after != before
    online = app.http.post("/v1/features/online", json={"entities": [{"shop": "s0"}]}).json()
    assert online["features"][0]["stock"] == 9.0


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/predict", b"{", 400, "request_malformed"),
        ("/v1/predict", b'{"entities": [{"order_id": "a", "shop": "s", "price": NaN}]}', 400, "request_malformed"),
        ("/v1/predict", b'{"entities": [{"order_id": "a", "shop": "s"}]}', 422, "request_invalid"),
        ("/v1/predict", b'{"entities": [{"order_id": 1, "shop": "s", "price": 1}]}', 422, "request_invalid"),
        ("/v1/predict", b'{"entities": [], "who": 1}', 422, "request_invalid"),
        ("/v1/features/push", b'{"source": "nobody", "rows": []}', 404, "name_unknown"),
        ("/v1/labels", b'{"labels": [{"key": "a"}]}', 422, "request_invalid"),
        ("/v1/predict", b" " * 9_000_000, 413, "request_too_large"),
        ("/v1/nothing", b"", 404, "http_error"),
    ],
)
def test_refusals(app: App, path: str, body: bytes, status: int, code: str) -> None:
    response = app.http.post(path, content=body)
    assert response.status_code == status, response.text
    assert response.json()["error"]["code"] == code


def test_status_and_health(app: App) -> None:
    assert app.http.get("/v2/health/live").status_code == 200
    assert app.http.get("/v2/health/ready").status_code == 200
    status = app.http.get("/v1/status").json()
    live = app.routing.acknowledgements("shop")
    assert len(live) == NUM_REPLICAS
    assert status["replica_id"] in {a.replica_id for a in live}
    assert (status["champion"], status["stale"], status["started_with"]) == ("1", False, IN_FORCE)


def test_candidate_answers_its_share_and_champion_the_rest(app: App) -> None:
    app.route(candidate="2", weight_percent=30.0, rollout_id="share")
    predictions = app.predict(400, "share")
    sides = Counter(p["answered_by"] for p in predictions)
    assert 80 <= sides["candidate"] <= 160
    assert {(p["version"], p["answered_by"]) for p in predictions} == {("1", "champion"), ("2", "candidate")}
    again = app.predict(400, "share")
    assert [p["variant"] for p in again] == [p["variant"] for p in predictions]
    forced = app.predict(5, "share", headers={"x-millrace-variant": "candidate"})
    assert {p["version"] for p in forced} == {"2"}


def test_failing_candidate_costs_nobody_an_answer(app: App) -> None:
    app.route(candidate="3", weight_percent=50.0, rollout_id="failing")
    predictions = app.predict(100, "failing", at=START.isoformat())
    assert {p["variant"] for p in predictions} == {"champion", "candidate"}
    assert {(p["version"], p["answered_by"]) for p in predictions} == {("1", "champion")}
    lake = Lake.open(app.settings)
    ship_all(lake, app.settings, "shop")
    rows = read_predictions(lake, "shop", START, START + timedelta(hours=1)).to_pandas()
    rows = rows[rows["rollout_id"] == "failing"]
    assert len(rows) == 100
    assert rows[rows["assigned"] == "candidate"]["error"].notna().all()
    assert rows[rows["assigned"] == "champion"]["error"].isna().all()


def test_candidate_that_does_not_exist(app: App) -> None:
    app.route(candidate="404", weight_percent=100.0, rollout_id="missing")
    assert {p["answered_by"] for p in app.predict(10, "missing")} == {"champion"}


def test_rollout_under_load_loses_nothing(app: App) -> None:
    """50%, analysis, promotion while requests keep coming: each is answered, by the version its epoch names."""
    app.route()
    controller = RolloutController(app.database, app.routing, PROJECT.rollout, num_replicas=NUM_REPLICAS)
    rollout = controller.start("shop", "2", START + timedelta(days=1))
    stop, failed, epochs = threading.Event(), [], Counter[tuple[int, str]]()

    def ask() -> None:
        with httpx.Client(base_url=app.settings.http_url, timeout=30, headers=app.headers) as http:
            number = 0
            while not stop.is_set():
                number += 1
                body = {
                    "entities": orders(20, f"load{number}-"), "at": (START + timedelta(days=1, hours=1)).isoformat(),
                    "request_id": f"load-{number}",
                }
                response = http.post("/v1/predict", json=body)
                if response.status_code != 200:
                    failed.append(response.text)
                    continue
                for p in response.json()["predictions"]:
                    epochs[(response.json()["epoch"], p["version"])] += 1

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        lake = Lake.open(app.settings)
        empty = read_predictions(lake, "shop", START - timedelta(days=2), START - timedelta(days=1))
        assert controller.tick(rollout, START + timedelta(days=1), empty) is Phase.PROGRESSING
        time.sleep(1.5)
        ship_all(lake, app.settings, "shop")
        rows = read_predictions(lake, "shop", START + timedelta(days=1), START + timedelta(days=2))
        seen = join_labels(rows, read_labels(lake, "shop"))
        assert controller.tick(rollout, START + timedelta(days=1, hours=2), seen) is Phase.HEALTHY
        time.sleep(0.5)
    finally:
        stop.set()
        asker.join()
    assert failed == []
    assert {version for _, version in epochs} == {"1", "2"}
    assert {p["version"] for p in app.predict(50, "after")} == {"2"}
    ship_all(lake, app.settings, "shop")
    logged = read_predictions(lake, "shop", START + timedelta(days=1, hours=1), START + timedelta(days=2))
    assert logged.num_rows == sum(epochs.values())


def test_haproxy_buffers_bodies_and_keeps_to_loopback(app: App) -> None:
    found = configuration_folder(load_settings(in_job=False)).glob("*/haproxy.cfg")
    text = max(found, key=lambda path: path.stat().st_mtime).read_text()
    assert "option http-buffer-request" in text
    assert "retry-on conn-failure empty-response response-timeout" in text
    own = [c for pid in haproxies() for c in psutil.Process(pid).net_connections("tcp") if c.status == "LISTEN"]
    assert {(c.laddr.ip, c.laddr.port) for c in own} == {("127.0.0.1", app.settings.http_port)}
