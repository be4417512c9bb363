"""What a feature view means, as data: hashed to find changes, kept to read old versions."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from app.errors import FeatureStoreError
from app.spec.features import Aggregation, DatasetFunction, FeatureView, Field

US = timedelta(microseconds=1)


def definition(view: FeatureView) -> dict[str, Any]:
    """Schema, windows, TTL, source and the transform's code. Owner, tags and description are not meaning."""
    source = view.source
    meaning: dict[str, Any] = {
        "join_keys": list(view.join_keys),
        "fields": [[f.name, f.dtype] for f in view.fields],
        "aggregations": [[a.column, a.function, a.window // US, a.hop // US] for a in view.aggregations],
        "ttl_us": None if view.ttl is None else view.ttl // US,
        "transform": None if view.transform is None else _code(view.transform),
        "source": {
            "name": source.name,
            "reader": _reader(source.reader),
            "fields": [[f.name, f.dtype] for f in source.fields],
            "key": list(source.key),
            "event_timestamp": source.event_timestamp,
            "available_timestamp": source.available_timestamp,
        },
    }
    if view.expectations:  # absent without any, so that earlier versions keep their hash
        meaning["expectations"] = [repr(e) for e in view.expectations]
    return meaning


def definition_hash(view: FeatureView) -> str:
    """Hash of the view's meaning."""
    return hashlib.sha256(json.dumps(definition(view), sort_keys=True).encode()).hexdigest()


def earlier(view: FeatureView, kept: dict[str, Any]) -> FeatureView:
    """The view as an earlier version defined what it holds: fields, windows and TTL. It has no transform to run.

    Raises:
        FeatureStoreError: that version was joined by other keys.
    """
    if kept["join_keys"] != list(view.join_keys):
        raise FeatureStoreError(
            f"that version of feature view {view.name!r} has the join keys {kept['join_keys']}, the declared one "
            f"{list(view.join_keys)}. Declare a view with the old keys to read it.", view=view.name,
        )
    return replace(
        view,
        fields=tuple(Field(name, dtype) for name, dtype in kept["fields"]),
        aggregations=tuple(
            Aggregation(column, function, window * US, hop * US)
            for column, function, window, hop in kept["aggregations"]
        ),
        ttl=None if kept["ttl_us"] is None else kept["ttl_us"] * US,
        transform=None,
    )


def _code(function: Callable[..., Any]) -> str:
    """Source text of a function; with its arguments for a `partial`; its byte code where there is no text."""
    if isinstance(function, partial):
        return f"{_code(function.func)} {function.args!r} {sorted(function.keywords.items())!r}"
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return f"{function.__module__}.{function.__qualname__}" if code is None else code.co_code.hex()


def _reader(reader: Any) -> str:
    if isinstance(reader, DatasetFunction):
        return f"{reader.function.__module__}:{reader.function.__qualname__}"
    return type(reader).__name__  # where files lie is not meaning: they may move
