"""Small parts of the HTTP front: bodies read within bounds, errors as JSON, labels checked."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.errors import MillraceError, RequestError
from app.serving.request import MAX_BODY_BYTES, too_large
from app.serving.schema import check_moment, check_value

logger = logging.getLogger(__name__)


def answer_errors_as_json(http: FastAPI) -> None:
    """Makes every error of the application `{"error": {"code", "message", "detail"}}`."""
    http.add_exception_handler(MillraceError, _refused)
    http.add_exception_handler(HTTPException, _not_there)
    http.add_exception_handler(Exception, _failed)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MillraceError)
    if error.http_status >= 500:
        logger.error("refused: %s", error.message)
    return _error(error.http_status, error.code, error.message, error.detail)


async def _not_there(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, "http_error", f"{request.method} {request.url.path}: {error.detail}", {})


async def _failed(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(500, "internal_error", "the service failed; its log says why. The request may be sent again.", {})


async def read_body(request: Request) -> bytes:
    """The body; refused by its announced size before it is read, and by its real size."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise too_large(int(announced))
    return await request.body()


def parse_label(row: object, number: int) -> dict[str, Any]:
    """One label of a request, its moment as text in UTC.

    Raises:
        RequestError: names the field that must change.
    """
    where = f"labels[{number}]"
    if not isinstance(row, dict) or row.keys() != {"key", "label", "available_timestamp"}:
        raise RequestError(f"{where} must have key, label and available_timestamp, and nothing else.", where=where)
    label = check_value(row["label"], "float64", f"{where}.label")
    if row["key"] is None or label is None:
        raise RequestError(f"{where} has a null; a label needs its key and its value.", where=where)
    available = check_moment(row["available_timestamp"], f"{where}.available_timestamp")
    return {"key": str(row["key"]), "label": label, "available_timestamp": available.isoformat()}


def _error(status: int, code: str, message: str, detail: dict[str, Any]) -> JSONResponse:
    content = {"error": {"code": code, "message": message, "detail": json.loads(json.dumps(detail, default=str))}}
    return JSONResponse(content, status_code=status)
