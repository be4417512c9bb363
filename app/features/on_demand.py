"""Features computed when asked, by one function for training and serving."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from app.errors import FeatureStoreError, MissingColumnError
from app.features.arrow_types import arrow_schema, conform_column, from_series, require_columns, to_pandas
from app.features.references import ReadPlan
from app.spec import Project
from app.spec.features import Field, OnDemandFeatureView

Columns = dict[tuple[str, str], pa.Array | pa.ChunkedArray]


def request_fields(project: Project) -> dict[str, Field]:
    """Types of what comes with a question: the cases' fields and the moment."""
    moment = Field("event_timestamp", "timestamp")
    of_cases = {f.name: f for f in project.cases.source.fields}
    return {**of_cases, **{f.name: f for f in project.cases.request_fields}, moment.name: moment}


def compute(
    project: Project, plan: ReadPlan, given: Mapping[str, pa.Array | pa.ChunkedArray], joined: Columns
) -> Columns:
    """The columns of every on-demand view of a plan.

    Args:
        project: gives the types of request fields.
        plan: what is read.
        given: columns that came with the question.
        joined: columns of the joined features.

    Raises:
        SchemaMismatchError: a value of another type than declared.
        FeatureStoreError: a function that returned another number of rows.
    """
    types = request_fields(project)
    labels = list(plan.on_demand_inputs)
    columns: Columns = {}
    for label, view in zip(labels, plan.on_demand, strict=True):
        inputs = {}
        for name, pair in plan.on_demand_inputs[label].items():
            if pair is not None:
                inputs[name] = joined[pair]
            elif name not in given:
                raise MissingColumnError(f"on-demand view {view.name!r} needs {name!r} with the request.", column=name)
            else:
                column = given[name]
                where = f"request field of on-demand view {view.name!r}"
                inputs[name] = conform_column(column, types[name], where) if name in types else column
        for name, column in _call(view, pa.table(inputs)).items():
            columns[(label, name)] = column
    return columns


def _call(view: OnDemandFeatureView, inputs: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
    where = f"on-demand view {view.name!r}"
    result: pd.DataFrame = view.function(to_pandas(inputs))
    require_columns(result.columns, [f.name for f in view.fields], where)
    if len(result) != inputs.num_rows:
        raise FeatureStoreError(
            f"{where} returned {len(result)} rows for {inputs.num_rows}; it must give one for each.", view=view.name
        )
    schema = arrow_schema(view.fields)
    return {
        f.name: conform_column(from_series(result[f.name]), f, where).cast(schema.field(f.name).type)
        for f in view.fields
    }
