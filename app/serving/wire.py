"""Small parts of the HTTP front: errors of the inner application as JSON, labels checked."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.errors import MillraceError, RequestError
from app.serving.gate import REFUSED, error_content, error_headers
from app.serving.schema import check_moment, check_value, is_text, shown

logger = logging.getLogger(__name__)


def answer_errors_as_json(http: FastAPI) -> None:
    """Makes every error of the application JSON with a code; under `/v2` in the protocol's form."""
    http.add_exception_handler(MillraceError, _refused)
    http.add_exception_handler(HTTPException, _not_there)
    http.add_exception_handler(RequestValidationError, _not_valid)
    http.add_exception_handler(Exception, _failed)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MillraceError)
    noted = request.scope.get(REFUSED)
    if noted is not None:
        noted(error)
    response = _error(request, error.http_status, error.code, error.message, error.detail)
    response.raw_headers.extend(error_headers(error))
    return response


async def _not_there(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    response = _error(request, error.status_code, "http_error", message, {})
    response.headers.update(error.headers or {})
    return response


async def _not_valid(request: Request, error: Exception) -> JSONResponse:
    return _error(request, 422, "request_invalid", f"{request.url.path[:200]} cannot be read: {error}", {})


async def _failed(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    message = "the service failed; its log says why. The request may be sent again."
    return _error(request, 500, "internal_error", message, {})


def parse_label(row: object, number: int) -> dict[str, Any]:
    """One label of a request, its moment as text in UTC.

    Raises:
        RequestError: names the field that must change.
    """
    where = f"labels[{number}]"
    if not isinstance(row, dict) or row.keys() != {"key", "label", "available_timestamp"}:
        raise RequestError(f"{where} must have key, label and available_timestamp, and nothing else.", where=where)
    label = check_value(row["label"], "float64", f"{where}.label")
    key = row["key"]
    if key is None or label is None:
        raise RequestError(f"{where} has a null; a label needs its key and its value.", where=where)
    if not is_text(key) and (not isinstance(key, int) or isinstance(key, bool)):
        raise RequestError(f"{where}.key is {shown(key)}; expected text or a whole number.", where=where)
    available = check_moment(row["available_timestamp"], f"{where}.available_timestamp")
    return {"key": str(key), "label": label, "available_timestamp": available.isoformat()}


def _error(request: Request, status: int, code: str, message: str, detail: dict[str, Any]) -> JSONResponse:
    return JSONResponse(error_content(request.url.path, code, message, detail), status_code=status)
