"""What a user declares about data: entities, sources, views, services.

Declarations only: nothing here reads, joins or stores. Timestamps without a zone are UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

DType = Literal["int64", "float64", "string", "bool", "timestamp"]
AggregationFunction = Literal["sum", "count", "mean", "min", "max", "std", "last"]


@dataclass(frozen=True)
class Field:
    """One column: `dtype` is its logical type; `pii` columns need a role to be read."""

    name: str
    dtype: DType
    description: str = ""
    pii: bool = False


@dataclass(frozen=True)
class Entity:
    """A thing features are about, found by the values of `join_keys` (compared by value)."""

    name: str
    join_keys: tuple[str, ...]
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Expectation:
    """A rule that each row of `column` must keep; rows that break it go to quarantine.

    Every bound that is set must hold. A null passes unless `not_null`.
    """

    column: str
    not_null: bool = False
    minimum: float | None = None
    maximum: float | None = None
    one_of: tuple[Any, ...] | None = None
    matches: str | None = None  # regular expression for the whole string


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files: a path, a glob or an object-store URL."""

    path: str


@dataclass(frozen=True)
class CsvFiles:
    """CSV files with a header: a path, a glob or an object-store URL."""

    path: str


@dataclass(frozen=True)
class IcebergTable:
    """A table `namespace.name` of the Millrace catalog."""

    identifier: str


@dataclass(frozen=True)
class DatasetFunction:
    """A module-level function without arguments that returns a `ray.data.Dataset`."""

    function: Callable[[], Any]


Reader = ParquetFiles | CsvFiles | IcebergTable | DatasetFunction


@dataclass(frozen=True)
class Source:
    """Rows with three times: when it happened, when it could be known, when we wrote it.

    `key`: columns that identify a row. `event_timestamp`: column of the moment it happened.
    `available_timestamp`: column of the moment the world could first know it (default: the
    event's). `created_timestamp` is ours and added at ingest.
    """

    name: str
    reader: Reader
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    event_timestamp: str
    available_timestamp: str | None = None
    expectations: tuple[Expectation, ...] = ()
    description: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Aggregation:
    """`function` of `column` over the rows available in `(start, t]`.

    `start` is `t - window` floored to `hop`; `window / hop` is at most 100 tiles.
    """

    column: str
    function: AggregationFunction
    window: timedelta
    hop: timedelta = timedelta(hours=1)

    @property
    def name(self) -> str:
        """Feature name, e.g. `arr_delay_mean_7d`."""
        seconds = int(self.window.total_seconds())
        for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
            if seconds % size == 0:
                return f"{self.column}_{self.function}_{seconds // size}{unit}"
        raise AssertionError("unreachable: every whole number of seconds divides by 1")


@dataclass(frozen=True)
class FeatureView:
    """Features of one or more entities out of one source.

    `fields` are columns after `transform` (a pure function of a batch, pandas to pandas, run by
    backfill and by push alike). With `aggregations` the view's features are the windows and
    `fields` are the transformed columns they read. `ttl`: how old a value may be (`None`: any age);
    it does not apply to aggregations, whose windows bound the age.
    """

    name: str
    entities: tuple[Entity, ...]
    source: Source
    fields: tuple[Field, ...]
    aggregations: tuple[Aggregation, ...] = ()
    transform: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    ttl: timedelta | None = None
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def join_keys(self) -> tuple[str, ...]:
        """Join keys of all entities, in order, each once."""
        return tuple(dict.fromkeys(key for entity in self.entities for key in entity.join_keys))

    @property
    def feature_fields(self) -> tuple[Field, ...]:
        """What a reader of the view gets: windows when there are any, else the fields."""
        if not self.aggregations:
            return self.fields
        return tuple(Field(a.name, "int64" if a.function == "count" else "float64") for a in self.aggregations)


@dataclass(frozen=True)
class OnDemandFeatureView:
    """Features computed from request fields and joined features at the moment of asking.

    `function` gets a frame with the columns `inputs` and returns one with the columns `fields`,
    row by row the same, in training and in serving.
    """

    name: str
    inputs: tuple[str, ...]
    fields: tuple[Field, ...]
    function: Callable[[pd.DataFrame], pd.DataFrame]
    description: str = ""
    owner: str = ""


@dataclass(frozen=True)
class FeatureService:
    """The features one model reads, as `"view:feature"`; `"view:*"` means all of a view."""

    name: str
    features: tuple[str, ...]
    description: str = ""
    owner: str = ""
