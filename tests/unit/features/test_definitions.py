"""Which changes of a source's reader change what a view means."""

from __future__ import annotations

import dataclasses

import pytest

from app.features.definitions import definition_hash
from app.spec import CsvFiles, DatasetFunction, IcebergTable, KafkaTopic, ParquetFiles, SqlQuery
from app.spec.features import Reader
from tests.unit.features import shop


def of(reader: Reader) -> str:
    return definition_hash(dataclasses.replace(shop.PRICE, source=dataclasses.replace(shop.PRICES, reader=reader)))


def _function(body: str) -> DatasetFunction:
    space: dict = {"__name__": "loaders"}
    exec(f"def load():\n    return {body}\n", space)
    return DatasetFunction(space["load"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SqlQuery("sqlite:///a.db", "SELECT a FROM t"), SqlQuery("sqlite:///a.db", "SELECT b AS a FROM t")),
        (IcebergTable("shop.prices"), IcebergTable("shop.list_prices")),
        (KafkaTopic("prices", "host:1"), KafkaTopic("prices_v2", "host:1")),
        (_function("1"), _function("2")),
        (ParquetFiles("a"), CsvFiles("a")),
    ],
    ids=["query", "table", "topic", "code", "format"],
)
def test_reading_something_else_is_another_meaning(before: Reader, after: Reader) -> None:
    assert of(before) != of(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SqlQuery("sqlite:///a.db", "SELECT a"), SqlQuery("sqlite:///b.db", "SELECT a", cursor="a", batch_rows=5)),
        (KafkaTopic("prices", "host:1"), KafkaTopic("prices", "other:2", {"security.protocol": "SSL"})),
        (ParquetFiles("a"), ParquetFiles("b", new_files_only=True)),
        (_function("1"), _function("1")),
    ],
    ids=["query", "topic", "files", "code"],
)
def test_where_it_lies_and_how_much_is_read_at_once_is_none(before: Reader, after: Reader) -> None:
    assert of(before) == of(after)
