"""Every endpoint of the OpenAPI document under generated requests, good ones and broken ones: no 5xx, no stack trace.

The requests go to a whole replica in this process: real gate, predictor, model, feature store and log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import hypothesis
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from app.serving.api import build_api
from app.serving.arrow_bodies import ARROW_STREAM, write_table
from tests.unit.serving.conftest import Replica, feature_rows, open_replica, orders
from tests.unit.serving.fuzzing import Fuzzed, generate

SHORT, FULL = 30, 1_200  # cases for each operation and mode
NUM_OPERATIONS = 14


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Replica:
    return open_replica(tmp_path_factory.mktemp("fuzz"), "tests.cluster.serving_project:ROBUST")


@pytest.fixture(scope="module")
def fuzzed(replica: Replica) -> Iterator[Fuzzed]:
    token, _ = replica.tokens.create("fuzzer", ["admin"], "test", timedelta(hours=1))
    replica.service.authenticator.refresh()
    found = Fuzzed(replica.gate, token)
    yield found
    found.loop.close()
    replica.service.close()


def check_reach(fuzzed: Fuzzed) -> None:
    """Raises: AssertionError: a body's endpoint was never reached by a good request, or never by a broken one."""
    for path in ("/v1/predict", "/v1/labels", "/v1/features/push", "/v1/features/online"):
        seen = {status for (label, status) in fuzzed.statuses if label == f"POST {path}"}
        assert 200 in seen, f"{path}: {seen}"
        assert seen & {400, 422}, f"{path}: {seen}"


def test_generated_requests_never_fail_the_service(replica: Replica, fuzzed: Fuzzed) -> None:
    generate(fuzzed, build_api(replica.service).openapi(), NUM_OPERATIONS, SHORT)
    check_reach(fuzzed)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_twenty_thousand_generated_requests_never_fail_the_service(replica: Replica, fuzzed: Fuzzed) -> None:
    assert generate(fuzzed, build_api(replica.service).openapi(), NUM_OPERATIONS, FULL) >= 20_000
    check_reach(fuzzed)


VALID = [
    ("/v1/predict", json.dumps({"rows": feature_rows(2)}).encode(), {}),
    ("/v1/predict", json.dumps({"entities": orders(2)}).encode(), {}),
    ("/v1/predict", write_table(pa.Table.from_pylist(feature_rows(2))), {"content-type": ARROW_STREAM}),
    ("/v1/predict", write_table(pa.Table.from_pylist(orders(2))), {"content-type": ARROW_STREAM}),
    (
        "/v2/models/shop/infer",
        b'{"inputs":[{"name":"price","shape":[1],"datatype":"FP64","parameters":{"binary_data_size":8}},'
        b'{"name":"stock","shape":[1],"datatype":"FP64","parameters":{"binary_data_size":8}}]}' + bytes(16),
        {"inference-header-content-length": "180", "content-type": "application/octet-stream"},
    ),
]


@given(
    st.sampled_from(VALID), st.integers(0, 10_000), st.binary(max_size=12), st.integers(0, 12),
    st.sampled_from([{}, {"accept": ARROW_STREAM}, {"x-millrace-variant": "candidate"}, {"authorization": "Bearer x"}]),
)
@hypothesis.settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_bodies_never_fail_the_service(
    fuzzed: Fuzzed, request_: tuple[str, bytes, dict[str, str]], at: int, put: bytes, taken: int, more: dict[str, str]
) -> None:
    path, body, headers = request_
    place = at % (len(body) + 1)
    damaged = body[:place] + put + body[place + taken :]
    fuzzed.send("POST", path, damaged, {"content-type": "application/json", **headers, **more})
