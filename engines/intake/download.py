"""One file over HTTPS: whole and the right one, or not there.

Enters: an address, a place and the sha256 of what should lie there. Leaves: the file, under its name only when its sum
is right. What has come so far lies beside it (``.part``) and is gone on with after a broken line, a stop or a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError

from engines.intake.https import FetchError, Transport, open_url, shown, span

CHUNK: Final = 1 << 16
"""Read at once, bytes."""

PROGRESS: Final = 1 << 20
"""So many bytes in one try, and the patience with a bad line begins anew."""

SLOWEST: Final = 1 << 10
"""Fewer bytes within one timeout are a stall."""

TEMPORARY: Final = (408, 425, 429, 500, 502, 503, 504)
"""HTTP codes that another try may change."""

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes so far and the bytes in all, where the server says them."""


class Unreachable(FetchError):  # noqa: N818 - reads better where it is raised
    """No server answered at all: this machine is offline, or closed in."""


class _Broken(Exception):  # noqa: N818 - never leaves this module
    """The line broke; another try may go on."""


def download(url: str, target: Path, sha256: str, *, transport: Transport, progress: Progress) -> None:
    """Bring a file to ``target``; what an earlier call left in ``target.part`` is gone on with.

    Args:
        url: https; a redirection must be https too.
        target: in a folder that exists.
        sha256: of the whole file, 64 hex digits.
        transport: patience.
        progress: called now and then.

    Raises:
        Unreachable: no server answered.
        FetchError: refused, broken too often, too large, another file than expected, or no room on the disk.
    """
    part = _Part(target)
    while True:
        resumed = part.size > 0
        _complete(url, part, transport, progress)
        found = part.sha256()
        if found == sha256:
            part.finish(target)
            return
        part.drop()
        if not resumed:
            raise FetchError(f"{shown(url)}: has sha256 {found}, not {sha256}; it is another file and was thrown away")


class _Part:
    """What has come so far, and the mark by which the server knows its version."""

    def __init__(self, target: Path) -> None:
        self.path: Final = target.with_name(f"{target.name}.part")
        self._mark = target.with_name(f"{target.name}.part.etag")

    @property
    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def etag(self) -> str:
        try:
            return self._mark.read_text(encoding="latin-1")
        except OSError:
            return ""

    def begin(self, start: int, etag: str) -> IO[bytes]:
        """Open to write from ``start``, 0 or its end."""
        with self._writing():
            if start == 0:
                self._mark.write_text("" if etag.startswith("W/") else etag, encoding="latin-1")
            return self.path.open("ab" if start else "wb")

    def write(self, file: IO[bytes], data: bytes) -> None:
        with self._writing():
            file.write(data)
            file.flush()

    def sha256(self) -> str:
        with self._writing(), self.path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()

    def finish(self, target: Path) -> None:
        with self._writing():
            self.path.replace(target)
            self._mark.unlink(missing_ok=True)

    def drop(self) -> None:
        with self._writing():
            self.path.unlink(missing_ok=True)
            self._mark.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise FetchError(f"{self.path}: cannot be written ({err.strerror}); make room and run it again") from err


def _complete(url: str, part: _Part, transport: Transport, progress: Progress) -> None:
    """Go on until the server has no more; a broken line is tried again with growing waits."""
    waits, heard = iter(transport.waits_s), False
    while True:
        before = part.size
        try:
            _receive(url, part, transport, progress)
            return
        except URLError as err:  # no connection; what comes over one raises other errors
            if isinstance(err.reason, ssl.SSLCertVerificationError):
                raise FetchError(f"{shown(url)}: its certificate is not trusted ({err.reason.verify_message})") from err
            if not heard:
                raise Unreachable(f"{shown(url)} cannot be reached ({_reason(err)})") from err
            reason = _reason(err)
        except (_Broken, OSError, http.client.HTTPException) as err:
            heard, reason = True, str(err) or type(err).__name__
        if part.size - before >= PROGRESS:
            waits = iter(transport.waits_s)
        wait_s = next(waits, None)
        if wait_s is None:
            kept = f"{part.size / 1e6:.1f} MB are kept, and the same command goes on from there"
            raise FetchError(f"{shown(url)}: broken off {len(transport.waits_s) + 1} times ({reason}); {kept}")
        time.sleep(wait_s)


def _reason(err: URLError) -> str:
    return str(getattr(err.reason, "strerror", None) or err.reason)


def _receive(url: str, part: _Part, transport: Transport, progress: Progress) -> None:
    """One request, to its end."""
    done = part.size
    headers = {"Range": f"bytes={done}-"} if done else {}
    if done and part.etag:
        headers["If-Range"] = part.etag
    try:
        response = open_url(url, headers, transport)
    except HTTPError as err:
        err.close()
        if err.code == 416 and done:
            return  # nothing is left to send: the sum will tell
        if err.code in TEMPORARY:
            raise _Broken(f"HTTP {err.code}") from err
        if 300 <= err.code < 400:
            raise FetchError(f"{shown(url)}: redirects without end or to what is not https; nothing was taken") from err
        raise FetchError(
            f"{shown(url)}: the server answers {err.code} {err.reason}; give another with --mirror"
        ) from err
    with response:
        start, total = span(response)
        if start not in (0, done):
            part.drop()
            raise _Broken("the server sent another range than asked for")
        if (total or 0) > transport.max_bytes:
            raise FetchError(f"{shown(url)}: has {total} bytes, more than the {transport.max_bytes} allowed")
        with part.begin(start, response.headers.get("ETag", "")) as file:
            done = start
            for data in _pieces(response, transport.timeout_s):
                done += len(data)
                if done > transport.max_bytes:
                    part.drop()
                    raise FetchError(f"{shown(url)}: has more than the {transport.max_bytes} bytes allowed")
                part.write(file, data)
                progress(done, total)
    if total is not None and done < total:
        raise _Broken(f"the server stopped after {done} of {total} bytes")


def _pieces(response: Any, timeout_s: float) -> Iterator[bytes]:
    """What comes, as it comes; a trickle is a stall too."""
    since, count = time.monotonic(), 0
    while data := response.read1(CHUNK):
        yield data
        count += len(data)
        if time.monotonic() - since > timeout_s:
            if count < SLOWEST:
                raise _Broken(f"{count} bytes in {timeout_s:.0f} s")
            since, count = time.monotonic(), 0
