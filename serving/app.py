"""The HTTP interface as an ASGI application: routes, errors, authorisation, logs. Knows no Ray."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import arrow
from serving.access_log import RequestsLog
from serving.admission import Admission
from serving.example_session import example_session
from serving.metrics import Metrics
from serving.page.routes import add_page
from serving.predictor import Predictor
from serving.request_body import JSON, BodyReader, media_type
from serving.request_error import RequestError
from serving.schema import (
    Answer,
    Error,
    ModelResponse,
    PredictionRequest,
    PredictionResponse,
    SessionFeatures,
    read_json,
    to_json,
)
from serving.settings import Settings

Current = Callable[[], Predictor | None]
"""The model that answers now; None while there is none."""

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body is not JSON, or not Arrow."},
    401: {"model": Error, "description": "The bearer token is missing or wrong."},
    408: {"model": Error, "description": "The body did not come in time."},
    413: {"model": Error, "description": "The body is too large."},
    415: {"model": Error, "description": "Neither JSON nor Arrow."},
    422: {"model": Error, "description": "It does not fit the model."},
    503: {"model": Error, "description": "Busy, or no model yet. See Retry-After."},
}


def build_app(current: Current, settings: Settings, metrics: Metrics | None = None) -> FastAPI:
    """The application around whatever model is current.

    Args:
        current: asked once per request.
        settings: limits, and the token.
        metrics: default: of its own.
    """
    metrics = metrics or Metrics()
    app = FastAPI(
        title="Affectune",
        version=metadata.version("affectune"),
        description="Features of a session in; targets over time out, with each modality's difficulty.",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
    )
    _add_errors(app)
    _add_state(app, current, settings, metrics)
    _add_model(app, current, settings)
    _add_predictions(app, current, settings, metrics)
    add_page(app)
    app.add_middleware(RequestsLog, metrics=metrics)
    return app


def _add_predictions(app: FastAPI, current: Current, settings: Settings, metrics: Metrics) -> None:
    admission = Admission(settings.max_waiting, settings.max_wait_s, metrics.waiting.set)
    bodies = BodyReader(settings)

    @app.post(
        "/v1/predictions",
        summary="Predict one session",
        response_model=None,
        responses={
            200: {"model": PredictionResponse, "content": {arrow.MEDIA_TYPE: {}}},
            **_ERRORS,
        },
        dependencies=[Depends(_authorisation(settings))],
        openapi_extra=_REQUEST_BODY,
    )
    async def predictions(request: Request) -> Response:
        read = read_json if media_type(request) == JSON else arrow.read_arrow
        body = await bodies.read(request)
        predictor = _need(current())
        asks_arrow = arrow.MEDIA_TYPE in request.headers.get("accept", "")
        answer, content = await admission.run(
            lambda: read(body, settings), lambda sent: _answer(predictor, sent, asks_arrow)
        )
        _count(metrics, answer)
        return Response(content, media_type=arrow.MEDIA_TYPE if asks_arrow else JSON)


def _answer(predictor: Predictor, sent: SessionFeatures, asks_arrow: bool) -> tuple[Answer, bytes]:
    answer = predictor.answer(sent)
    return answer, arrow.write_arrow(answer) if asks_arrow else answer.to_json()


def _count(metrics: Metrics, answer: Answer) -> None:
    metrics.frames.observe(len(answer.timestamps_ms))
    for modality, both in answer.difficulty.items():
        known = both["percentile"][both["percentile"] >= 0]
        if known.size:
            metrics.difficulty.labels(modality).observe(float(known.mean()))
    for notice in answer.warnings:
        modality = notice.where.split(".")[-1]
        if notice.code == "difficult":
            metrics.difficult.labels(modality).inc()
        elif notice.code == "missing_modality":
            metrics.missing.labels(modality).inc()


def _add_model(app: FastAPI, current: Current, settings: Settings) -> None:
    allowed = [Depends(_authorisation(settings))]
    errors: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (401, 503)}

    @app.get("/v1/model", summary="What is served", responses={200: {"model": ModelResponse}, **errors},
             response_model=None, dependencies=allowed)  # fmt: skip
    async def model() -> Response:
        return Response(to_json(_need(current()).describe()), media_type=JSON)

    @app.get("/v1/example", summary="An invented session to try", response_model=None, dependencies=allowed,
             responses={200: {"model": PredictionRequest}, **errors})  # fmt: skip
    async def example() -> Response:
        return Response(to_json(example_session(_need(current()).model)), media_type=JSON)


def _add_state(app: FastAPI, current: Current, settings: Settings, metrics: Metrics) -> None:
    @app.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="A model is loaded", responses={503: _ERRORS[503]})
    async def readyz() -> dict[str, str]:
        predictor = _need(current())
        return {"status": "ready", "name": predictor.name, "version": predictor.version}

    @app.get("/metrics", summary="For Prometheus", response_class=Response, responses={401: _ERRORS[401]},
             dependencies=[Depends(_authorisation(settings))])  # fmt: skip
    async def metrics_text() -> Response:
        text = await asyncio.get_running_loop().run_in_executor(None, metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4")


def _need(predictor: Predictor | None) -> Predictor:
    if predictor is None:
        raise RequestError(
            503, "no_model", "No model is loaded yet. Try again, or promote one.", retry_after_s=5
        )
    return predictor


def _authorisation(settings: Settings) -> Callable[..., None]:
    """A dependency that lets a request pass: with the bearer token, where one is asked for."""
    secret = settings.secret()

    def check(
        request: Request, _: Annotated[object, Depends(HTTPBearer(auto_error=False))] = None
    ) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        correct = scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("latin-1"), secret or b""
        )
        if secret is not None and not correct:
            raise RequestError(
                401, "unauthorized", "Send Authorization: Bearer <token>.", "header Authorization"
            )

    return check


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, refusal: RequestError) -> Response:
        request.scope["refusal"] = refusal.code
        headers = (
            {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s is not None else {}
        )
        if refusal.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if refusal.status in (408, 413):
            headers["Connection"] = "close"  # the rest of the body is not read
        return Response(to_json(refusal.to_json()), refusal.status, headers, JSON)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        codes = {
            404: ("not_found", "There is nothing here. See /openapi.json."),
            405: ("method", "Not so. See Allow."),
        }
        code, message = codes.get(
            error.status_code, ("http_error", "The request is not understood.")
        )
        refusal = RequestError(error.status_code, code, message)
        return Response(to_json(refusal.to_json()), error.status_code, error.headers, JSON)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await refused(
            request, RequestError(422, "invalid", "The request does not fit. See /openapi.json.")
        )

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it


_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": PredictionRequest.model_json_schema(
                    ref_template="#/components/schemas/{model}"
                )
            },
            arrow.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
