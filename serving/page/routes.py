"""The web page's files, served from memory: everything it needs comes from here, nothing from another server."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib import resources

from fastapi import FastAPI, Request, Response
from plotly.offline import get_plotlyjs

from serving.request_error import RequestError

TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
}
FILES = ("index.html", "page.js", "session.js", "page.css")
PLOTLY = "plotly.js"
# Plotly writes styles of its own into the page; scripts come from here alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_page(app: FastAPI) -> None:
    """Serve the page at `/` and what it loads under `/page/`."""

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return _file(request, "index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def part(request: Request, name: str) -> Response:
        return _file(request, name)


def _file(request: Request, name: str) -> Response:
    if name not in (*FILES, PLOTLY):
        raise RequestError(404, "not_found", "There is no such file.")
    plain, zipped, tag = _contents(name)
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            zipped,
            headers={**headers, "Content-Encoding": "gzip"},
            media_type=TYPES[name.split(".")[-1]],
        )
    return Response(plain, headers=headers, media_type=TYPES[name.split(".")[-1]])


@cache
def _contents(name: str) -> tuple[bytes, bytes, str]:
    """A file, the same compressed, and its ETag."""
    if name == PLOTLY:
        text: str = get_plotlyjs()
    else:
        text = (resources.files(__name__) / name).read_text(encoding="utf-8")
    plain = text.encode()
    return plain, gzip.compress(plain, 6), f'"{hashlib.sha256(plain).hexdigest()[:16]}"'
