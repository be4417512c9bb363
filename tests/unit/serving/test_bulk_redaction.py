"""What a bulk request leaves in the prediction log holds no personal value."""

from __future__ import annotations

import pyarrow as pa

from app.serving.bulk import redacted


def test_a_column_keeps_only_whether_there_was_a_value() -> None:
    column = pa.chunked_array([[1.5, None], [2.0]])
    assert redacted(column).to_pylist() == ["[redacted]", None, "[redacted]"]
    assert redacted(pa.chunked_array([["Ann"]])).to_pylist() == ["[redacted]"]
