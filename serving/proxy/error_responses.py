"""The responses to requests that get no prediction: one JSON form for every error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.monitoring.access_log import CLIENT_LEFT, ERROR_CODE
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, Error, to_json

Responses = dict[int | str, dict[str, Any]]
"""Status -> what OpenAPI says of it."""

ERROR_RESPONSES: Responses = {
    400: {
        "model": Error,
        "description": "The body is not JSON, or not Arrow; or no Host is named.",
    },
    401: {"model": Error, "description": "The bearer token is missing or wrong."},
    403: {"model": Error, "description": "A web page of another origin asks."},
    406: {"model": Error, "description": "Two Arrow columns would have the same name."},
    408: {"model": Error, "description": "The body, or the answer, did not come in time."},
    413: {"model": Error, "description": "The body is too large."},
    415: {"model": Error, "description": "Neither JSON nor Arrow."},
    421: {"model": Error, "description": "The endpoint does not answer to that host name."},
    422: {"model": Error, "description": "It does not fit the model."},
    503: {"model": Error, "description": "Busy, or no model yet. See Retry-After."},
}

HTTP_ERRORS = {
    404: ("not_found", "There is nothing here. See /openapi.json."),
    405: ("method", "Method not allowed; see the Allow header."),
}
"""Status -> code and message of what the router raises."""


def add_error_handlers(app: FastAPI) -> None:
    """Have an application answer every error in the form of `Error`."""

    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> Response:
        request.scope[ERROR_CODE] = error.code
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        unknown = ("http_error", "The request is not understood.")
        code, message = HTTP_ERRORS.get(error.status_code, unknown)
        request.scope[ERROR_CODE] = code
        return _response(RequestError(error.status_code, code, message), error.headers or {})

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        message = "The request does not fit. See /openapi.json."
        return await request_error(request, RequestError.unprocessable("invalid", message))

    @app.exception_handler(ClientDisconnect)
    async def client_left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)  # nobody reads it


def error_response(error: RequestError) -> Response:
    """Return the response to a request that gets no prediction."""
    return _response(error, _headers(error))


def _response(error: RequestError, headers: Mapping[str, str]) -> Response:
    return Response(to_json(error.to_json()), error.status, headers, JSON)


def _headers(error: RequestError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return headers
