"""What the OpenAPI page says: bodies by the project's own columns, examples, errors, who may ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI

from app.features.view_rows import key_fields
from app.serving.arrow_bodies import ARROW_STREAM
from app.serving.feature_requests import TARGETS
from app.serving.open_inference import DATATYPES, OUTPUTS
from app.serving.request import MAX_ROWS
from app.serving.schema import RequestSchema
from app.serving.service import ModelService
from app.spec import Project
from app.spec.features import DType

Json = dict[str, Any]

PLAIN: dict[str, Json] = {
    "int64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float64": {"type": "number"},
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
}
EXAMPLES: dict[str, Any] = {
    "int64": 3, "float64": 0.5, "string": "a", "bool": True, "timestamp": "2026-01-31T12:00:00Z", "date": "2026-01-31",
    "uuid": "6f1c1f4e-5a0e-4d53-9c60-8a4f2f2c4a11",
}
ERRORS = {
    "400": "The body is not JSON.", "401": "No token, or one that is not in force.",
    "403": "The token may not do this.", "404": "There is no such name.", "405": "Another method.",
    "409": "The feature store refuses it.", "413": "Too large.", "415": "A body of another type.",
    "422": "A field must change.", "429": "Too many requests; see Retry-After.", "499": "The client hung up.",
    "503": "A store cannot be reached.", "504": "No answer in time.",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "oneOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {
                        "code": {"type": "string"}, "message": {"type": "string"}, "detail": {"type": "object"}
                    },
                },
            ]
        }
    },
}


def describe(http: FastAPI, service: ModelService) -> None:
    """Makes the application's OpenAPI document."""
    made = http.openapi

    def openapi() -> Json:
        if http.openapi_schema is None:
            document = made()
            document["paths"]["/v1/predict"] = {"post": _predict(service.schema, service.project)}
            _set_body(document, "/v1/labels", _labels(), service)
            _set_body(document, "/v1/features/push", _push(service.project), service)
            _set_body(document, "/v1/features/online", _online(service.project), service)
            for path in document["paths"]:
                if path.endswith("/infer"):
                    _set_body(document, path, _infer(service.schema), service)
            _add_common(document)
            http.openapi_schema = document
        found: Json = http.openapi_schema
        return found

    http.openapi = openapi  # type: ignore[method-assign]


def json_type(dtype: DType) -> Json:
    """JSON schema of a column's values, null among them.

    >>> json_type("bool")
    {'type': ['boolean', 'null']}
    """
    if dtype.startswith("list<"):
        return {"type": ["array", "null"], "items": json_type(dtype[5:-1])}  # type: ignore[arg-type]
    plain = PLAIN[dtype]
    return {**plain, "type": [plain["type"], "null"]}


def rows_schema(columns: Mapping[str, DType], required: Iterable[str], key: str | None) -> Json:
    """JSON schema of a list of rows."""
    properties = {name: json_type(dtype) for name, dtype in columns.items()}
    if key is not None:
        properties[key] = PLAIN[columns[key]]
    row = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_ROWS}


def example_row(columns: Mapping[str, DType]) -> Json:
    """A row that would be taken."""
    return {name: [] if dtype.startswith("list<") else EXAMPLES[dtype] for name, dtype in columns.items()}


def _predict(schema: RequestSchema, project: Project) -> Json:
    full = {**schema.features, schema.key: schema.entity[schema.key]}
    shared = {"at": PLAIN["timestamp"], "request_id": {"type": "string", "minLength": 1, "maxLength": 200}}
    entities = rows_schema(schema.entity, schema.entity, schema.key)
    rows = rows_schema(full, schema.features, None)
    body = {
        "oneOf": [
            {
                "type": "object", "properties": {"entities": entities, **shared}, "required": ["entities"],
                "additionalProperties": False,
            },
            {
                "type": "object", "properties": {"rows": rows, **shared}, "required": ["rows"],
                "additionalProperties": False,
            },
        ]
    }
    examples = {
        "entities": {"summary": "features are looked up", "value": {"entities": [example_row(schema.entity)]}},
        "rows": {"summary": "features are given", "value": {"rows": [example_row(full)]}},
    }
    return {
        "summary": "Scores", "operationId": "predict",
        "description": f"Scores of {project.name}: {project.description} By entities, whose features are looked up, or "
        "by full feature rows; one or many. Every answer says which version and routing epoch it is from.",
        "parameters": [
            {
                "name": "x-millrace-variant", "in": "header", "required": False,
                "schema": {"type": "string", "enum": ["champion", "candidate"]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": body, "examples": examples},
                ARROW_STREAM: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {"200": {"description": "One prediction for each row, in order."}},
    }


def _labels() -> Json:
    label = {
        "type": "object", "additionalProperties": False, "required": ["key", "label", "available_timestamp"],
        "properties": {
            "key": {"type": ["string", "integer"]}, "label": {"type": "number"},
            "available_timestamp": PLAIN["timestamp"],
        },
    }
    return {
        "schema": {
            "type": "object", "required": ["labels"], "additionalProperties": False,
            "properties": {"labels": {"type": "array", "items": label, "minItems": 1}},
        },
        "example": {"labels": [{"key": "a", "label": 1, "available_timestamp": EXAMPLES["timestamp"]}]},
    }


def _push(project: Project) -> Json:
    forms: list[Json] = []
    for source in {v.source.name: v.source for v in project.views}.values():
        columns = {f.name: f.dtype for f in source.fields}
        forms.append(
            {
                "type": "object", "additionalProperties": False, "required": ["source", "rows"],
                "properties": {
                    "source": {"const": source.name}, "to": {"enum": list(TARGETS)},
                    "rows": rows_schema(columns, columns, None),
                },
            }
        )
    first = project.views[0].source
    columns = {f.name: f.dtype for f in first.fields}
    return {"schema": {"oneOf": forms}, "example": {"source": first.name, "rows": [example_row(columns)]}}


def _online(project: Project) -> Json:
    cases = project.cases
    columns: dict[str, DType] = {f.name: f.dtype for v in project.views for f in key_fields(v)}
    columns.update({f.name: f.dtype for f in cases.request_fields})
    return {
        "schema": {
            "type": "object", "required": ["entities"], "additionalProperties": False,
            "properties": {
                "entities": rows_schema(columns, columns, None),
                "features": {
                    "type": "array", "minItems": 1,
                    "items": {"enum": [f"{v.name}:*" for v in project.views]},
                },
                "at": PLAIN["timestamp"], "full_feature_names": {"type": "boolean"},
            },
        },
        "example": {"entities": [example_row(columns)]},
    }


def _infer(schema: RequestSchema) -> Json:
    tensor = {
        "type": "object", "required": ["name", "shape", "datatype", "data"], "additionalProperties": False,
        "properties": {
            "name": {"enum": list(schema.features)}, "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"enum": sorted(set(DATATYPES.values()))}, "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
    }
    output = {"type": "object", "required": ["name"], "properties": {"name": {"enum": list(OUTPUTS)}}}
    columns = {n: d for n, d in schema.features.items() if d in DATATYPES}
    example = [
        {"name": n, "shape": [1], "datatype": DATATYPES[d], "data": [EXAMPLES[d]]} for n, d in columns.items()
    ]
    return {
        "schema": {
            "type": "object", "required": ["inputs"], "additionalProperties": False,
            "properties": {
                "id": {"type": "string"}, "parameters": {"type": "object"},
                "inputs": {"type": "array", "items": tensor}, "outputs": {"type": "array", "items": output},
            },
        },
        "example": {"inputs": example},
    }


def _set_body(document: Json, path: str, content: Json, service: ModelService) -> None:
    document["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": content}}


def _add_common(document: Json) -> None:
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    components.setdefault("schemas", {})["Error"] = ERROR
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if not path.startswith("/v2/health/"):
                operation["security"] = [{"token": []}]
            operation["responses"].pop("422", None)
            for status, meaning in ERRORS.items():
                operation["responses"].setdefault(status, {"description": meaning, "content": answer})
