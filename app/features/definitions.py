"""What a feature view means, as data: hashed to find changes, kept to read old versions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, cast

from app.errors import FeatureStoreError
from app.features.function_code import code_of
from app.spec.features import (
    Aggregation,
    DatasetFunction,
    FeatureView,
    Field,
    IcebergTable,
    KafkaTopic,
    Reader,
    SqlQuery,
)

US = timedelta(microseconds=1)


def definition(view: FeatureView) -> dict[str, Any]:
    """Schema, windows, TTL, source and the transform's code. Owner, tags and description are not meaning."""
    source = view.source
    meaning: dict[str, Any] = {
        "join_keys": list(view.join_keys),
        "fields": [[f.name, f.dtype] for f in view.fields],
        "aggregations": [
            [a.column, a.function, a.window // US, a.hop // US, *([] if a.quantile is None else [a.quantile])]
            for a in view.aggregations
        ],
        "ttl_us": None if view.ttl is None else view.ttl // US,
        "transform": None if view.transform is None else code_of(view.transform),
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
    """The view as an earlier version defined it: fields, windows and TTL.

    Its transform is kept when the declared code is still the same. Else the version can be read, and its transform says
    so when rows are to be written.

    Raises:
        FeatureStoreError: that version was joined by other keys.
    """
    if kept["join_keys"] != list(view.join_keys):
        raise FeatureStoreError(
            f"that version of feature view {view.name!r} has the join keys {kept['join_keys']}, the declared one "
            f"{list(view.join_keys)}. Declare a view with the old keys to read it.", view=view.name,
        )
    now = definition(view)
    writable = all(kept.get(part) == now.get(part) for part in ("transform", "source", "expectations"))
    return replace(
        view,
        fields=tuple(Field(name, dtype, pii=_is_personal(view, name)) for name, dtype in kept["fields"]),
        aggregations=kept_aggregations(kept),
        ttl=None if kept["ttl_us"] is None else kept["ttl_us"] * US,
        transform=view.transform if writable else partial(refuse_lost_transform, view.name),
    )


def kept_aggregations(kept: dict[str, Any]) -> tuple[Aggregation, ...]:
    """The windows that a definition names."""
    return tuple(
        Aggregation(column, function, window * US, hop * US, *quantile)
        for column, function, window, hop, *quantile in kept["aggregations"]
    )


def kept_features(kept: dict[str, Any]) -> tuple[Field, ...]:
    """What a reader of that version gets, with types."""
    fields = tuple(Field(name, dtype) for name, dtype in kept["fields"])
    return FeatureView("", (), cast(Any, None), fields, kept_aggregations(kept)).feature_fields


def refuse_lost_transform(view: str, _rows: Any = None) -> Any:
    """Stands for code that is no longer there.

    Raises:
        FeatureStoreError: always.
    """
    raise FeatureStoreError(
        f"no rows can be written to this version of feature view {view!r}: its transform, source or expectations "
        "are not what the project declares now. Its rows can be read. To write, put the old code back and apply, or "
        "roll forward.",
        view=view,
    )


def require_writable(view: FeatureView) -> None:
    """Passes when the view's transform is at hand.

    Raises:
        FeatureStoreError: the view is an earlier version whose code is gone.
    """
    if isinstance(view.transform, partial) and view.transform.func is refuse_lost_transform:
        refuse_lost_transform(view.name)


def _is_personal(view: FeatureView, name: str) -> bool:
    """A field that the declared view no longer has counts as personal when anything in the view does."""
    marks = {f.name: f.pii for f in view.fields}
    return marks.get(name, any(marks.values()))


def _reader(reader: Reader) -> str:
    """What is read. Where it lies is not meaning, for it may move: paths, addresses and how much is read at once."""
    kind = type(reader).__name__
    if isinstance(reader, DatasetFunction):
        function = reader.function
        digest = hashlib.sha256(code_of(function).encode()).hexdigest()[:16]
        return f"{function.__module__}:{function.__qualname__} {digest}"
    if isinstance(reader, SqlQuery):
        return f"{kind} {reader.query}"
    if isinstance(reader, IcebergTable):
        return f"{kind} {reader.identifier}"
    return f"{kind} {reader.topic}" if isinstance(reader, KafkaTopic) else kind
