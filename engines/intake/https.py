"""Requests that stay on https.

Enters: an address and headers. Leaves: an open response, or a refusal: plain http, files and addresses with passwords
are refused, wherever a redirection leads.
"""

from __future__ import annotations

import http.client
import re
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from engines.errors import EngineError


class FetchError(EngineError):
    """A file cannot be brought here, or is not the right one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How patient, and how trusting."""

    timeout_s: float = 20.0
    """Without a byte for so long, a line is broken."""
    waits_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Before each further try."""
    max_bytes: int = 1 << 30
    """No file may be larger; the largest known model has 0.3 GB."""
    loopback_http: bool = False
    """Plain http to this machine itself is allowed, and no proxy asked: for tests."""


def remote_size(url: str, transport: Transport) -> int | None:
    """Bytes of a file as its server says, or None where it does not say or does not answer.

    Raises:
        FetchError: the address or a redirection is not https.
    """
    try:
        with open_url(url, {"Range": "bytes=0-0"}, transport) as response:
            return span(response)[1]
    except (OSError, http.client.HTTPException):
        return None


def span(response: Any) -> tuple[int, int | None]:
    """Where the answer's bytes begin in the file, and how many the file has."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def open_url(url: str, headers: dict[str, str], transport: Transport) -> Any:
    _check(url, url, transport)
    handlers: list[urllib.request.BaseHandler] = [_Redirects(url, transport)]
    if transport.loopback_http:
        handlers.append(urllib.request.ProxyHandler({}))
    # ranges of a compressed answer would be those of the compression
    fixed = {"User-Agent": "realtime", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers={**fixed, **headers})
    return urllib.request.build_opener(*handlers).open(request, timeout=transport.timeout_s)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows https only."""

    def __init__(self, first: str, transport: Transport) -> None:
        self._first = first
        self._transport = transport

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check(newurl, self._first, self._transport)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str, first: str, transport: Transport) -> None:
    """Refuse everything but https, and passwords in addresses: they would end in logs."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        if not url.isascii() or any(sign <= " " for sign in url):
            raise ValueError("it holds spaces or signs that an address cannot have")
    except ValueError as err:
        raise FetchError(f"{first!r} is no address ({err}); give one that begins with https://") from err
    local = transport.loopback_http and parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")
    if (parts.scheme != "https" and not local) or not host:
        via = "" if url == first else f" redirects to {parts.scheme}://{host or ''}, which"
        raise FetchError(f"{shown(first)}{via} is not https; nothing was taken")
    if parts.username is not None:
        raise FetchError(f"{parts.scheme}://{host}: an address may hold no user name; give one without")


def shown(url: str) -> str:
    """Without what may be secret: user, query."""
    parts = urlsplit(url)
    if not parts.netloc:
        return repr(parts.path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
