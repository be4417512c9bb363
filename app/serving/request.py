"""Bodies of requests, parsed and checked. Pure."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import orjson

from app.errors import RequestError
from app.serving.schema import RequestSchema, Row, check_list, check_moment, check_row, is_text, shown

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_ROWS = 10_000
MAX_REQUEST_ID = 200


class MalformedRequestError(RequestError):
    """The body is not JSON."""

    code = "request_malformed"
    http_status = 400


class RequestTooLargeError(RequestError):
    """The body is larger than the service takes."""

    code = "request_too_large"
    http_status = 413


@dataclass(frozen=True)
class PredictRequest:
    """What is asked: one row for each key, in order.

    `rows` are entity rows, or full feature rows when `has_features`.
    """

    request_id: str
    at: datetime | None
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    has_features: bool


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        RequestTooLargeError: more than `MAX_BODY_BYTES`.
        MalformedRequestError: not a JSON object, or NaN or Infinity in it, which JSON does not have.
    """
    if len(body) > MAX_BODY_BYTES:
        raise too_large(len(body), MAX_BODY_BYTES)
    try:
        value = _parsed(body)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the body is not JSON: {error}. Send a JSON object.") from error
    if not isinstance(value, dict):
        raise MalformedRequestError("the body is not a JSON object.")
    return value


def too_large(num_bytes: int, limit: int) -> RequestTooLargeError:
    """The error for a body of `num_bytes`."""
    return RequestTooLargeError(
        f"the body has {num_bytes} bytes; at most {limit} are taken. Send fewer rows at once.", limit_bytes=limit
    )


def parse_predict(
    body: Mapping[str, Any], schema: RequestSchema, feature_names: Sequence[str], request_id: str | None = None
) -> PredictRequest:
    """Checks a prediction request.

    Args:
        body: `{"entities": [...]}` or `{"rows": [...]}`, with `at` and `request_id` if wanted.
        schema: of the project.
        feature_names: what the champion reads; full feature rows must have all of them.
        request_id: of a request that names none in its body.

    Raises:
        RequestError: names the field that must change.
    """
    check_fields(body, {"entities", "rows", "at", "request_id"})
    if ("entities" in body) == ("rows" in body):
        raise RequestError("send either 'entities' or 'rows', one of them.")
    named = body.get("request_id")
    request_id = check_text(named, "request_id") if named is not None else request_id or str(uuid.uuid4())
    at = None if body.get("at") is None else check_moment(body["at"], "at")
    if "entities" in body:
        rows = _check_rows(body["entities"], "entities", schema.entity, frozenset(schema.entity))
    else:
        columns = {**schema.features, schema.key: schema.entity[schema.key]}
        rows = _check_rows(body["rows"], "rows", columns, frozenset(feature_names))
    keys = check_keys(rows, schema.key, "entities" in body)
    return PredictRequest(request_id, at, keys, tuple(rows), "rows" in body)


def check_fields(body: Mapping[str, Any], known: set[str]) -> None:
    """Raises: RequestError: the body has a field that is not known."""
    for name in body:
        if name not in known:
            raise RequestError(
                f"unknown field {shown(name)} in the body; known: {', '.join(sorted(known))}.", field=name
            )


def check_text(value: object, where: str) -> str:
    """Raises: RequestError: not a text of 1 to 200 characters."""
    if not is_text(value) or not 0 < len(value) <= MAX_REQUEST_ID:
        raise RequestError(
            f"{where} is {shown(value)}; expected a text of 1 to {MAX_REQUEST_ID} characters.", where=where
        )
    return value


def _check_rows(rows: object, where: str, columns: Mapping[str, Any], required: frozenset[str]) -> list[Row]:
    items = check_list(rows, where, MAX_ROWS)
    return [check_row(row, columns, f"{where}[{number}]", required) for number, row in enumerate(items)]


def check_keys(rows: Sequence[Row], key: str, required: bool) -> tuple[str, ...]:
    """Each row's key as text; full feature rows without one get their number.

    Raises:
        RequestError: a key that is null, where it is required, or there twice.
    """
    keys = []
    for number, row in enumerate(rows):
        if row.get(key) is None and required:
            raise RequestError(f"row {number}: {key} is null; each row needs its key.", field=key)
        keys.append(str(row[key]) if row.get(key) is not None else str(number))
    if len(set(keys)) < len(keys):
        twice = next(k for k, times in Counter(keys).items() if times > 1)
        raise RequestError(f"{key} {shown(twice)} is asked for twice in one request; send each once.", field=key)
    return tuple(keys)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:  # no JSON, or of the kind whose error names the field: 1e999, half a surrogate pair
        return _DECODER.decode(body.decode())


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value; send null")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
