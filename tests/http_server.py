"""A small HTTP server for tests: files from memory, with ranges, over plain HTTP or TLS, on loopback.

It misbehaves on demand: cuts, stalls, trickles, redirects, refuses ranges, answers other ones, lies about lengths.
Standard library only.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """What the server does besides its duty. May be changed while it runs."""

    ranges: bool = True
    etag: str | None = '"1"'
    codes: list[int] = field(default_factory=list)
    """Answered to the next requests, one each, instead of the file."""
    redirects: dict[str, str] = field(default_factory=dict)
    """Path to address."""
    cut_after: int | None = None
    """Sends so many bytes of each answer, then closes the connection."""
    stall_after: int | None = None
    """Sends so many bytes of each answer, then nothing, and leaves the connection open."""
    trickle_s: float | None = None
    """Sends a byte, waits so long, sends the next."""
    misbehaving: int | None = None
    """Only the first so many answers are cut, stalled or trickled; None: all."""
    shift: int = 0
    """Answers a range that begins so many bytes too early."""
    lengthless: bool = False
    """Says no length: the end is where the connection closes."""
    claimed: int | None = None
    """Says this length, whatever the file has."""


class HttpServer:
    """Listens from birth; ``requests`` are (path, headers in lower case) of what was asked."""

    def __init__(
        self, files: Mapping[str, bytes], behaviour: Behaviour | None = None, *, certificate: Path | None = None
    ):
        self.files = dict(files)
        self.behaviour = behaviour or Behaviour()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closed = threading.Event()
        owner = self

        class Handler(_Handler):
            server_of_tests = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def asked(self, header: str) -> list[str | None]:
        """A header of every request, in order."""
        return [headers.get(header.lower()) for _, headers in self.requests]

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_of_tests: HttpServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server, does = self.server_of_tests, self.server_of_tests.behaviour
        headers = {key.lower(): value for key, value in self.headers.items()}
        server.requests.append((self.path, headers))
        self.close_connection = True
        if does.codes:
            self._say(does.codes.pop(0), {})
        elif self.path in does.redirects:
            self._say(302, {"Location": does.redirects[self.path]})
        elif self.path not in server.files:
            self._say(404, {})
        else:
            with suppress(OSError):  # the client left in the middle
                self._send(server.files[self.path], headers)

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        does = self.server_of_tests.behaviour
        says = {"ETag": does.etag} if does.etag else {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        current = headers.get("if-range") in (None, does.etag)
        code, start, end = 200, 0, len(content)
        if does.ranges and asked and current:
            start = int(asked[1]) - does.shift
            end = min(len(content), int(asked[2]) + 1 if asked[2] else len(content))
            if start >= len(content):
                self._say(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            code = 206
            says["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        if not does.lengthless:
            says["Content-Length"] = str(does.claimed if does.claimed is not None else end - start)
        self._head(code, says)
        self._body(content[start:end])

    def _body(self, data: bytes) -> None:
        server, does = self.server_of_tests, self.server_of_tests.behaviour
        if does.misbehaving is not None:
            if does.misbehaving <= 0:
                self.wfile.write(data)
                return
            does.misbehaving -= 1
        if does.trickle_s is not None:
            for at in range(len(data)):
                self.wfile.write(data[at : at + 1])
                if server.closed.wait(does.trickle_s):
                    return
        self.wfile.write(
            data[: min(len(data) if limit is None else limit for limit in (does.cut_after, does.stall_after))]
        )
        if does.stall_after is not None:
            server.closed.wait()

    def _say(self, code: int, headers: dict[str, str]) -> None:
        self._head(code, {**headers, "Content-Length": "0"})

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.flush()
