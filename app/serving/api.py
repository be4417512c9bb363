"""The addresses beside `/v1/predict`, and the OpenAPI page of all of them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from app.errors import UnknownNameError
from app.serving.api_schema import describe
from app.serving.caller import Caller
from app.serving.feature_callers import require_feature_scope, views_of
from app.serving.feature_requests import online_answer, parse_online, parse_push, push_answer
from app.serving.gate import CALLER, OVERRIDE
from app.serving.open_inference import (
    HEADER_LENGTH,
    check_model,
    infer_answer,
    model_metadata,
    parse_infer,
    server_metadata,
)
from app.serving.proxy_settings import started_with
from app.serving.request import check_fields, parse_body
from app.serving.schema import check_list
from app.serving.service import ModelService
from app.serving.wire import answer_errors_as_json, parse_label

MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


def build_api(service: ModelService) -> FastAPI:
    """The application behind the gate."""
    http = FastAPI(title=f"Millrace: {service.project.name}", version=version("millrace"), redoc_url=None)
    answer_errors_as_json(http)
    _add_service(http, service)
    _add_features(http, service)
    _add_protocol(http, service)
    describe(http, service)
    return http


def _add_service(http: FastAPI, service: ModelService) -> None:
    @http.post("/v1/labels")
    async def labels(request: Request) -> Response:
        """Takes true outcomes, for monitoring and for training."""
        body = parse_body(await request.body())
        check_fields(body, {"labels"})
        rows = [parse_label(row, number) for number, row in enumerate(check_list(body.get("labels"), "labels"))]
        await service.label(rows)
        return JSONResponse({"accepted": len(rows)})

    @http.get("/v1/status")
    async def status(_: Request) -> Response:
        """What this replica follows and has loaded, and how Ray was started."""
        return JSONResponse({**service.status(), "started_with": started_with()})

    @http.get("/v2/health/live")
    async def live() -> Response:
        """The process answers."""
        return JSONResponse({"live": True})

    @http.get("/v2/health/ready")
    async def ready() -> Response:
        """A champion is loaded."""
        _ = service.followed
        return JSONResponse({"ready": True})


def _add_features(http: FastAPI, service: ModelService) -> None:
    @http.post("/v1/features/push")
    async def push(request: Request) -> Response:
        """Feeds fresh rows to every view on a source, or to one view."""
        asked = parse_push(parse_body(await request.body()), service.project)
        on_source = [v.name for v in service.project.views if v.source.name == asked.source]
        grant = _caller(request).grant
        require_feature_scope(grant, "push", on_source if asked.view is None else [asked.view], service.project)

        def write() -> Any:
            store = service.writers.store_of(grant)
            write_rows = store.push_source if asked.view is None else store.push
            return write_rows(asked.view or asked.source, asked.rows, asked.to)

        return JSONResponse(push_answer(await service.push(write)))

    @http.post("/v1/features/online")
    async def online(request: Request) -> Response:
        """Features of entities, now or at a moment."""
        asked = parse_online(parse_body(await request.body()), service.project)
        grant = _caller(request).grant
        require_feature_scope(grant, "read", views_of(asked.features, service.project), service.project)

        def read() -> Any:
            store = service.readers.store_of(grant)
            return store.get_online_features(asked.features, asked.rows, asked.at, asked.full_feature_names)

        found = await service.read_features(read)
        return Response(online_answer(found), media_type="application/json")


def _add_protocol(http: FastAPI, service: ModelService) -> None:
    def versions() -> list[str]:
        state = service.followed
        candidate = state.route.candidate
        return list(dict.fromkeys([*state.models, *([candidate] if candidate is not None else [])]))

    def check_version(asked: str) -> None:
        if asked not in versions():
            raise UnknownNameError(
                f"version {asked!r} of {service.project.name!r} is not served; versions: {', '.join(versions())}.",
                version=asked,
            )

    @http.get("/v2")
    async def server() -> Response:
        """Name and version of the server, and what it can do beyond the protocol."""
        return JSONResponse(server_metadata(version("millrace")))

    @http.get(MODEL)
    @http.get(VERSION)
    async def metadata(model: str, version: str | None = None) -> Response:
        """The model's tensors."""
        check_model(model, service.project.name)
        if version is not None:
            check_version(version)
        state = service.followed
        champion = state.models[state.route.champion]
        return JSONResponse(
            model_metadata(model, versions(), service.schema, champion.feature_names, champion.kind)
        )

    @http.get(f"{MODEL}/ready")
    @http.get(f"{VERSION}/ready")
    async def model_ready(model: str, version: str | None = None) -> Response:
        """Whether the model (that version of it) answers."""
        check_model(model, service.project.name)
        if version is not None:
            check_version(version)
        _ = service.followed
        return JSONResponse({"name": model, "ready": True})

    @http.post(f"{MODEL}/infer")
    @http.post(f"{VERSION}/infer")
    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        """Scores of rows given as tensors, or of entities whose features are looked up."""
        check_model(model, service.project.name)
        caller, followed = _caller(request), service.followed
        champion = followed.models[followed.route.champion]
        asked = parse_infer(
            await request.body(), request.headers.get(HEADER_LENGTH), service.schema, champion.feature_names,
            caller.request_id,
        )
        override = request.headers.get(OVERRIDE.decode())
        if version is not None:
            check_version(version)
            override = "candidate" if version == followed.route.candidate else "champion"
            if override == "champion" and version != followed.route.champion:
                raise UnknownNameError(f"version {version!r} is being prepared and answers nobody.", version=version)
        answered = await service.predict(asked.request, caller, override, followed)
        route = answered.route
        body, json_length = infer_answer(asked, model, route.champion, route.epoch, answered.predictions)
        if json_length is None:
            return Response(body, media_type="application/json")
        headers = {HEADER_LENGTH: str(json_length)}
        return Response(body, media_type="application/octet-stream", headers=headers)


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope[CALLER]
    return caller
