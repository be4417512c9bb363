"""What a user declares about data: entities, sources, views, services.

Declarations only: nothing here reads, joins or stores. Timestamps without a zone are UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from app.spec.references import ViewAlias

if TYPE_CHECKING:
    import pandas as pd

DType = Literal[
    "int64", "float64", "string", "bool", "timestamp", "date", "uuid",
    "list<int64>", "list<float64>", "list<string>", "list<bool>",
]
AggregationFunction = Literal["sum", "count", "mean", "min", "max", "std", "last", "distinct_count", "quantile"]

COUNTS: tuple[AggregationFunction, ...] = ("count", "distinct_count")


@dataclass(frozen=True)
class Field:
    """One column: `dtype` is its logical type; `pii` columns (personal data) need the right `read_pii` to be read.

    A `uuid` is kept as its text, lower case with hyphens. Lists are features, not keys.
    """

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
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)


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
    """Parquet files: a path, a glob or an object-store URL (`s3://…`, `gs://…`, `abfs://…`, `file://…`), a folder too.

    What is new: with `new_files_only`, files that were not read before (by path, size and time of change); else all is
    read again and rows that are new or changed are kept. New files only suits folders where files are added and
    never rewritten; it never reads old ones again.
    """

    path: str
    new_files_only: bool = False


@dataclass(frozen=True)
class CsvFiles:
    """CSV files with a header; paths and what is new as for `ParquetFiles`."""

    path: str
    new_files_only: bool = False


@dataclass(frozen=True)
class IcebergTable:
    """A table `namespace.name` of the Millrace catalog."""

    identifier: str


@dataclass(frozen=True)
class DatasetFunction:
    """A module-level function without arguments that returns a `ray.data.Dataset`."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class SqlQuery:
    """Rows of a SQL database.

    What is new: rows whose `cursor` is greater than the greatest one read. That is exact when the column only grows
    in the order in which rows become visible: an identity column of one writer, or a time of change together with a
    `lag` longer than the longest transaction. Without a cursor all is read again and rows that are new or changed
    are kept.
    """

    url: str  # SQLAlchemy URL; keep passwords out of it where the driver can find them itself (~/.pgpass)
    query: str  # a SELECT without ORDER BY and LIMIT
    cursor: str | None = None  # a column of the query, among the source's fields
    lag: timedelta = timedelta(0)  # of a timestamp cursor: rows younger than this are left for the next time
    batch_rows: int = 100_000  # rows of one commit; bounds memory


@dataclass(frozen=True)
class KafkaTopic:
    """Messages of a topic whose values are JSON objects, one row each.

    Fields named `message_key` (string), `message_timestamp` (timestamp), `message_partition` and `message_offset`
    (int64) are filled from the message itself. What is new: messages from the offset on where the last commit ended,
    in each partition.
    """

    topic: str
    bootstrap_servers: str  # host:port, several with commas
    consumer: Mapping[str, Any] = field(default_factory=dict)  # further librdkafka settings, e.g. security.protocol
    batch_messages: int = 100_000  # messages of one commit, over all partitions; bounds memory


Reader = ParquetFiles | CsvFiles | IcebergTable | DatasetFunction | SqlQuery | KafkaTopic


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
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Aggregation:
    """`function` of `column` over the rows available in `(start, t]`.

    `start` is `t - window` floored to `hop`; `window / hop` is at most 100 tiles. `quantile` (0 to 1, for that
    function alone) is within 0.78% of the true value; `distinct_count`, of a column of any single type, is exact below
    1,024 and has a standard error of 3.1% from there on (`app.features.sketches`).
    """

    column: str
    function: AggregationFunction
    window: timedelta
    hop: timedelta = timedelta(hours=1)
    quantile: float | None = None

    @property
    def name(self) -> str:
        """Feature name, e.g. `arr_delay_mean_7d`; of a quantile, e.g. `arr_delay_p95_7d` or `arr_delay_p99_9_7d`."""
        function: str = self.function
        if self.quantile is not None:
            function = f"p{round(self.quantile * 100, 6):g}".replace(".", "_")
        seconds = int(self.window.total_seconds())
        for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
            if seconds % size == 0:
                return f"{self.column}_{function}_{seconds // size}{unit}"
        raise AssertionError("unreachable: every whole number of seconds divides by 1")


@dataclass(frozen=True)
class FeatureView:
    """Features of one or more entities out of one source.

    `fields` are columns after `transform` (a pure function of a batch, pandas to pandas, run by
    backfill and by push alike). With `aggregations` the view's features are the windows and
    `fields` are the transformed columns they read. `ttl`: how old a value may be (`None`: any age);
    it does not apply to aggregations, whose windows bound the age. `expectations`: rules of the transformed rows;
    a row that breaks one goes to quarantine. `num_buckets`: partitions of the view's table by its first join key,
    fixed when the table is made; about one for each million rows expected, since one task joins one bucket.
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
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    expectations: tuple[Expectation, ...] = ()
    num_buckets: int = 8

    @property
    def join_keys(self) -> tuple[str, ...]:
        """Join keys of all entities, in order, each once."""
        return tuple(dict.fromkeys(key for entity in self.entities for key in entity.join_keys))

    def with_name(self, name: str) -> ViewAlias:
        """References to this view whose columns carry `name` in front."""
        return ViewAlias(self.name).with_name(name)

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> ViewAlias:
        """References to this view joined by other columns, e.g. `{"airport": "origin"}`."""
        return ViewAlias(self.name).with_join_key_map(join_key_map)

    @property
    def feature_fields(self) -> tuple[Field, ...]:
        """What a reader of the view gets: windows when there are any, else the fields. A window over `pii` is `pii`."""
        if not self.aggregations:
            return self.fields
        personal = {f.name for f in self.fields if f.pii}
        return tuple(
            Field(a.name, "int64" if a.function in COUNTS else "float64", pii=a.column in personal)
            for a in self.aggregations
        )


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
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class FeatureService:
    """The features one model reads, as `"view:feature"`; `"view:*"` means all of a view.

    Further forms of a reference: `app.spec.references`.
    """

    name: str
    features: tuple[str, ...]
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
