"""The web page's files, served from memory. Everything that the page needs comes from here."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from fastapi import FastAPI, Request, Response
from plotly.offline import get_plotlyjs

from serving.requests.request_error import RequestError

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
INDEX = "index.html"
FILES = (
    INDEX,
    "page.css",
    "assignment.js",
    "card.js",
    "ccc.js",
    "chart.js",
    "downloads.js",
    "elements.js",
    "endpoint.js",
    "file_list.js",
    "files.js",
    "model_view.js",
    "page.js",
    "partitions.js",
    "prediction_files.js",
    "prediction_view.js",
    "series.js",
    "session.js",
    "session_table.js",
    "sessions.js",
    "snippets.js",
    "table.js",
    "words.js",
    "zip.js",
)
PLOTLY = "plotly.js"
POLICY = (
    # Plotly writes styles of its own into the page; scripts come from here alone.
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _PageFile:
    """One file of the page.

    Attributes:
        plain, zipped: its bytes, and the same compressed with gzip.
        tag: its ETag.
        media_type: with its charset.
    """

    plain: bytes
    zipped: bytes
    tag: str
    media_type: str


def add_page(app: FastAPI) -> None:
    """Serve the page at `/` and what it loads under `/page/`."""

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return page_response(request, INDEX)

    @app.get("/page/{name}", include_in_schema=False)
    async def part(request: Request, name: str) -> Response:
        return page_response(request, name)


def load_page() -> None:
    """Read and compress the page's files before a request needs them: it takes half a second."""
    for name in (*FILES, PLOTLY):
        _read_file(name)


def page_response(request: Request, name: str) -> Response:
    """Return a file of the page, as small as the client reads it.

    Raises:
        RequestError: 404, there is no such file.
    """
    if name not in (*FILES, PLOTLY):
        raise RequestError(404, "not_found", "There is no such file.")

    file = _read_file(name)
    headers = {
        "ETag": file.tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "Vary": "Accept-Encoding",
    }

    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(file.zipped, headers=headers, media_type=file.media_type)
    return Response(file.plain, headers=headers, media_type=file.media_type)


@cache
def _read_file(name: str) -> _PageFile:
    if name == PLOTLY:
        text: str = get_plotlyjs()
    else:
        text = (resources.files(__package__) / name).read_text(encoding="utf-8")

    plain = text.encode()
    tag = f'"{hashlib.sha256(plain).hexdigest()[:16]}"'
    return _PageFile(plain, gzip.compress(plain, 6), tag, MEDIA_TYPES[PurePosixPath(name).suffix])
