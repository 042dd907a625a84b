"""An object store on loopback that speaks as much of S3 as pyarrow asks for, and can be full."""

from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


class ObjectStore(ThreadingHTTPServer):
    """The server and what it keeps.

    Attributes:
        objects: bucket and key -> content.
        writes_left: so many objects it takes before it refuses each further one.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.writes_left = 10**9

    @contextlib.contextmanager
    def running(self) -> Iterator[ObjectStore]:
        """Answer requests from a thread until the block is left."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()

    def uri(self, key_id: str, secret: str) -> str:
        """Return the URI of a prefix in a bucket, as people write it with credentials."""
        options = f"endpoint_override=127.0.0.1:{self.server_port}&scheme=http&region=us-east-1"
        return f"s3://{key_id}:{secret}@bucket/runs?{options}"


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ObjectStore

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        key, _ = self._asked()
        content = self.server.objects.get(key)
        if content is not None or "/" not in key:
            self._answer(200, content or b"")
        else:
            self._answer(404)

    def do_GET(self) -> None:
        key, query = self._asked()
        if "list-type" in query or "prefix" in query:
            bucket = key.partition("/")[0]
            start = f"{bucket}/{query.get('prefix', [''])[0]}"
            found = [name for name in self.server.objects if name.startswith(start)]
            lines = [
                f"<Contents><Key>{name.partition('/')[2]}</Key>"
                f"<Size>{len(self.server.objects[name])}</Size></Contents>"
                for name in found
            ]
            inner = "<IsTruncated>false</IsTruncated>" + "".join(lines)
            self._answer(200, f"<ListBucketResult>{inner}</ListBucketResult>".encode())
            return

        content = self.server.objects.get(key)
        if content is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif match := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(match[1]), int(match[2] or len(content) - 1)
            part = content[first : last + 1]
            self._answer(206, part, f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        else:
            self._answer(200, content)

    def do_PUT(self) -> None:
        (key, query), body = self._asked(), self._body()
        self.server.writes_left -= 1
        if self.server.writes_left < 0:
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>full</Message></Error>")
            return
        if "partNumber" in query:
            self.server.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
        else:
            self.server.objects[key] = body
        self._answer(200)

    def do_POST(self) -> None:
        (key, query), body = self._asked(), self._body()
        if "uploads" in query:
            upload = uuid.uuid4().hex
            self.server.uploads[upload] = {}
            inner = f"<Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId>"
            answer = f"<InitiateMultipartUploadResult>{inner}</InitiateMultipartUploadResult>"
            self._answer(200, answer.encode())
        elif "uploadId" in query:
            parts = self.server.uploads.pop(query["uploadId"][0])
            self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
            result = "CompleteMultipartUploadResult"
            self._answer(200, f'<{result}><ETag>"x"</ETag></{result}>'.encode())
        else:
            bucket = key.partition("/")[0]
            for name in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                self.server.objects.pop(f"{bucket}/{name}", None)
            self._answer(200, b"<DeleteResult></DeleteResult>")

    def do_DELETE(self) -> None:
        self.server.objects.pop(self._asked()[0], None)
        self._answer(204)

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlparse(self.path)
        return parts.path.strip("/"), parse_qs(parts.query, keep_blank_values=True)

    def _body(self) -> bytes:
        """Return the body, without the two kinds of chunks that it may come in."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))

        if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
            return body
        content = b""
        while body:
            line, _, body = body.partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if not size:
                break
            content, body = content + body[:size], body[size + 2 :]
        return content

    def _answer(self, status: int, body: bytes = b"", content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", MODIFIED)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
