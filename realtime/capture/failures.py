"""Why a stream gives no picture, in words that help.

Enters: FFmpeg's error. Leaves: a ``Failure``: one sentence without secrets, and whether trying again could help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from av import error as av_error

from realtime.capture.addresses import redact_text, scheme_of


@dataclass(frozen=True, slots=True)
class Failure:
    """One reason; ``lasting`` where the same address will fail again until a person does something."""

    text: str
    lasting: bool = False
    end: bool = False
    """Not a failure but the end of a recording."""


SILENT: Final = "no answer for {timeout_s:g} s; check the address, the network and that the camera is on"

REASONS: Final[tuple[tuple[type[Exception], Failure], ...]] = (
    (
        av_error.HTTPUnauthorizedError,
        Failure(
            "the user name or password is wrong (401); write {scheme}://user:password@host/... with @ as %40",
            True,
        ),
    ),
    (av_error.HTTPForbiddenError, Failure("access is forbidden (403); this user may not see this stream", True)),
    (
        av_error.HTTPNotFoundError,
        Failure("there is nothing at this path (404); look up the camera's stream path", True),
    ),
    (av_error.HTTPServerError, Failure("the server reports an error of its own (5xx)")),
    (av_error.HTTPError, Failure("the server refuses the request ({error})", True)),
    (
        av_error.ConnectionRefusedError,
        Failure("connection refused: nothing listens there; check address, port and power"),
    ),
    (
        av_error.InvalidDataError,
        Failure("not a video: the address answers with something that FFmpeg cannot play", True),
    ),
    (av_error.TimeoutError, Failure(SILENT)),
    (av_error.ExitError, Failure(SILENT)),
    (av_error.ProtocolNotFoundError, Failure("this build of FFmpeg cannot read {scheme}:// addresses", True)),
    (av_error.EOFError, Failure("the connection was closed by the other side")),
    (av_error.ConnectionResetError, Failure("the connection was closed by the other side")),
    (av_error.BrokenPipeError, Failure("the connection was closed by the other side")),
)
"""First match wins; FFmpeg gives the same codes for RTSP as for HTTP."""


def explain(err: Exception, url: str, timeout_s: float, passed_s: float) -> Failure:
    """The sentence for FFmpeg's ``err`` about ``url``, ``passed_s`` after the connection was started.

    FFmpeg reports a camera that is silent where RTSP expects an answer as invalid data; the time tells them apart.
    """
    if isinstance(err, av_error.InvalidDataError) and passed_s >= 0.9 * timeout_s:
        return Failure(SILENT.format(timeout_s=timeout_s))
    error = redact_text(getattr(err, "strerror", None) or type(err).__name__, url)
    unknown = Failure("cannot be reached ({error}); check the address and the network")
    found = next((failure for kind, failure in REASONS if isinstance(err, kind)), unknown)
    return Failure(found.text.format(scheme=scheme_of(url), timeout_s=timeout_s, error=error), found.lasting)


def silent(timeout_s: float, *, sends_data: bool) -> Failure:
    """The watchdog's finding."""
    if sends_data:
        return Failure("connected, but no picture came; check that the stream is a video that FFmpeg can decode")
    return Failure(f"no data for {timeout_s:g} s")


def ended(*, live: bool) -> Failure:
    """FFmpeg saw an orderly end."""
    return Failure("the stream ended", end=not live)
