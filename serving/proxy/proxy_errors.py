"""What Ray's proxy answers by itself, such as a time-out, in the one JSON form for every error.

Knows no Ray.
"""

from __future__ import annotations

from dataclasses import replace

from starlette.datastructures import Headers

from serving.requests.request_error import RequestError
from serving.requests.schema import JSON

CALLBACK = ("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "serving.proxy.callback.middlewares")
"""The variable by which Ray's proxy finds what it puts around every request, and its value."""
UNAVAILABLE = RequestError(
    503, "unavailable", "No replica can answer now. Try again.", retry_after_s=1
)
ENDING = RequestError(
    503, "unavailable", "The endpoint starts, or it ends. Try again.", retry_after_s=1
)
ERRORS = {
    # Every path is the application's: where Ray knows none, it is not there yet, or is going.
    404: ENDING,
    408: RequestError(
        408, "request_timeout", "There was no answer in time. Try again, or cut the session."
    ),
    429: RequestError(429, "busy", "Too many requests. Try again.", retry_after_s=1),
    500: RequestError(500, "internal", "The endpoint failed. Its log has more."),
    503: UNAVAILABLE,
}
REPLICA_LOST = RequestError(
    503, "replica_lost", "What predicted this has ended. Try again.", retry_after_s=1
)


def proxy_error(status: int, headers: Headers) -> RequestError | None:
    """Return the error for a response that is the proxy's own; None for one of the application."""
    is_json = headers.get("content-type", "").split(";")[0] == JSON
    error = None if is_json else ERRORS.get(status)
    return error and replace(error)
