"""The HTTP interface as an ASGI application: routes and authorisation. Knows no Ray."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import metadata
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.models.example_session import example_request
from serving.models.predictor import Predictor
from serving.monitoring.access_log import AccessLog
from serving.monitoring.metrics import Metrics
from serving.page.routes import add_page
from serving.proxy.accept import prefers
from serving.proxy.error_responses import ERROR_RESPONSES, Responses, add_error_handlers
from serving.proxy.hosts import KnownHosts
from serving.proxy.proxied import BehindBoundedProxy
from serving.requests import arrow
from serving.requests.admission import Admission
from serving.requests.decoding import decode
from serving.requests.request_body import BodyReader, media_type
from serving.requests.request_error import RequestError
from serving.requests.schema import (
    JSON,
    ModelResponse,
    PredictionRequest,
    PredictionResponse,
    SessionFeatures,
    SessionResponse,
    to_json,
)
from serving.settings import Settings

CurrentPredictor = Callable[[], Predictor | None]
"""Returns the model that predicts now; None while there is none."""
RequiredPredictor = Callable[[], Predictor]
"""Returns the same, or raises a RequestError."""
Decoder = Callable[[str, bytes], SessionFeatures]
"""Returns the session of a media type and a body, or raises a RequestError."""

BEARER = HTTPBearer(auto_error=False)
"""For OpenAPI: the token itself is checked by hand."""
OPEN_PATHS = frozenset({"/", "/page/{name}", "/healthz", "/readyz"})
"""Routes that need no token where one is asked for: the page's own files, and what probes ask.

/openapi.json, which is no route of its own, needs none either. A new route needs it.
"""
PROMETHEUS_TEXT = "text/plain; version=0.0.4"
REQUEST_SCHEMA = PredictionRequest.model_json_schema(ref_template="#/components/schemas/{model}")
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": REQUEST_SCHEMA},
            arrow.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""For OpenAPI: the body is read by hand, so FastAPI does not know it."""


def build_app(
    current: CurrentPredictor,
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    advice: Callable[[], str] = lambda: "",
    decoder: Decoder | None = None,
    is_behind_proxy: bool = False,
    is_counted_by_proxy: bool = False,
) -> FastAPI:
    """Build the application around whatever model is current.

    Args:
        current: called once per request.
        settings: limits, and the token.
        metrics: where requests are counted; default: new ones.
        advice: returns how to get a model where there is none.
        decoder: decodes the bodies; default: this process does.
        is_behind_proxy: only what a bounded proxy passes on is answered. It knows the host names,
            among them those of its machine.
        is_counted_by_proxy: a proxy counts and logs the requests.

    Raises:
        InputError: the token is empty, or its file cannot be read.
    """
    metrics = metrics or Metrics()

    def required() -> Predictor:
        predictor = current()
        if predictor is None:
            how = advice() or "Try again, or see the endpoint's log."
            raise RequestError(503, "no_model", f"No model is loaded yet. {how}", retry_after_s=5)
        return predictor

    app = FastAPI(
        title="Affectune",
        version=metadata.version("affectune"),
        description="Features of a session in; targets over time out, with each modality's "
        "difficulty.",
        dependencies=[Depends(_authorisation(settings))],
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
    )

    add_error_handlers(app)
    _add_state_routes(app, required, settings, metrics)
    _add_model_routes(app, required, settings)
    _add_prediction_route(app, required, settings, metrics, decoder or partial(decode, settings))
    add_page(app)
    app.add_middleware(HeadAsGet)
    if is_behind_proxy:
        app.add_middleware(BehindBoundedProxy)
    else:
        names = settings.host_names()
        app.add_middleware(KnownHosts, names=names, origins=settings.allowed_origins)
    app.add_middleware(AccessLog, metrics=None if is_counted_by_proxy else metrics)
    return app


class HeadAsGet:
    """ASGI middleware that answers HEAD as GET is answered, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"


def _add_state_routes(
    app: FastAPI, required: RequiredPredictor, settings: Settings, metrics: Metrics
) -> None:
    @app.get("/healthz", summary="The process lives", responses=_errors())
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="A model is loaded", responses=_errors(503))
    async def readyz() -> dict[str, str]:
        predictor = required()
        return {"status": "ready", "name": predictor.name, "version": predictor.version}

    @app.get(
        "/metrics",
        summary="For Prometheus",
        response_class=Response,
        responses=_errors(401),
        dependencies=[Depends(BEARER)],
    )
    async def metrics_text() -> Response:
        text = await asyncio.get_running_loop().run_in_executor(None, metrics.text)
        return Response(text, media_type=PROMETHEUS_TEXT)


def _add_model_routes(app: FastAPI, required: RequiredPredictor, settings: Settings) -> None:
    @app.get(
        "/v1/model",
        summary="What is served",
        response_model=None,
        responses={200: {"model": ModelResponse}, **_errors(401, 503)},
        dependencies=[Depends(BEARER)],
    )
    async def model() -> Response:
        return Response(to_json(required().describe()), media_type=JSON)

    @app.get(
        "/v1/example",
        summary="An invented session to try",
        response_model=None,
        responses={200: {"model": PredictionRequest}, **_errors(401, 503)},
        dependencies=[Depends(BEARER)],
    )
    async def example() -> Response:
        return Response(to_json(example_request(required().model)), media_type=JSON)


def _add_prediction_route(
    app: FastAPI,
    required: RequiredPredictor,
    settings: Settings,
    metrics: Metrics,
    decoder: Decoder,
) -> None:
    admission = Admission(settings.max_waiting, settings.max_wait_s, metrics.waiting.set)
    bodies = BodyReader(settings)
    success = {"model": PredictionResponse, "content": {arrow.MEDIA_TYPE: {}}}

    @app.post(
        "/v1/predictions",
        summary="Predict one session",
        response_model=None,
        responses={200: success, **ERROR_RESPONSES},
        dependencies=[Depends(BEARER)],
        openapi_extra=REQUEST_BODY,
    )
    async def predictions(request: Request) -> Response:
        kind = media_type(request)
        required()  # without a model no body is read
        wants_arrow = prefers(arrow.MEDIA_TYPE, JSON, request.headers.getlist("accept"))

        def predict(session: SessionFeatures) -> tuple[SessionResponse, bytes]:
            response = required().predict(session)
            return response, arrow.write_arrow(response) if wants_arrow else response.to_json()

        read = partial(decoder, kind)
        response, content = await admission.run(read, await bodies.read(request), predict)
        _count(metrics, response)
        return Response(content, media_type=arrow.MEDIA_TYPE if wants_arrow else JSON)


def _count(metrics: Metrics, response: SessionResponse) -> None:
    metrics.frames.observe(len(response.timestamps_ms))

    for modality, difficulty in response.difficulty.items():
        percentile = difficulty["percentile"]
        known = percentile[percentile >= 0]  # without NaN
        if known.size:
            metrics.difficulty.labels(modality).observe(float(known.mean()))

    missing = set()
    for notice in response.warnings:
        modality = notice.where.split(".")[-1]
        if notice.code == "difficult":
            metrics.difficult.labels(modality).inc()
        elif notice.code in {"missing_modality", "stuck_sensor"}:
            missing.add(modality)
    for modality in missing:
        metrics.missing.labels(modality).inc()


def _authorisation(settings: Settings) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency of every route that checks the bearer token, where there is one."""
    secrets = settings.secrets()

    async def raise_if_unauthorised(request: Request) -> None:
        path = getattr(request.scope.get("route"), "path", None)
        if not secrets or path in OPEN_PATHS:
            return

        sent = [value for name, value in request.headers.raw if name.lower() == b"authorization"]
        # As bytes: a client may write a letter beyond ASCII as it likes.
        scheme, _, token = (sent[0] if len(sent) == 1 else b"").partition(b" ")
        matches = [hmac.compare_digest(token.strip(b" \t"), secret) for secret in secrets]
        if scheme.lower() != b"bearer" or not any(matches):
            message = "Send Authorization: Bearer <token>."
            raise RequestError(401, "unauthorized", message, "header Authorization")

    return raise_if_unauthorised


def _errors(*statuses: int) -> Responses:
    """Return what OpenAPI says of some errors, and of those that every route has."""
    return {status: ERROR_RESPONSES[status] for status in sorted({400, 403, 421, *statuses})}
