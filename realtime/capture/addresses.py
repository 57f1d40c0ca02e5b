"""How sources are called in front of people: names and addresses without passwords.

Enters: what a person typed, or FFmpeg's text about it. Leaves: the same, safe to print and to log.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

MAX_NAME: Final = 60
"""Characters of a source's name: longer ones do not fit above a tile of the wall."""

SAFE_KEYS: Final = frozenset(
    {"camera", "ch", "channel", "codec", "fps", "profile", "res", "resolution", "stream", "subtype"}
)
"""Parameters of camera addresses that choose a picture and give no access; every other value is hidden."""

_SCHEME: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_PARAMETER: Final = re.compile(r"([?&;/#]|^)([^=&;?/#]*)=([^&;/#]*)")
_TOKEN: Final = re.compile(r"(?<=/)(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9_-]{16,}(?=/|\?|#|$)")
"""A path segment of at least 16 letters and digits, without a suffix, is a key (as in rtsps://host:7441/<key>)."""


def scheme_of(spec: str) -> str | None:
    """``rtsp`` of ``rtsp://...``, in lower case; None where ``spec`` is no address."""
    match = _SCHEME.match(spec)
    return match[1].lower() if match else None


def redact(url: str) -> str:
    """``url`` without user name, password, and the values of parameters that could be keys."""
    match = _SCHEME.match(url)
    if match is None:
        return url
    user, rest = _split_user(url[match.end() :])
    host, slash, path = rest.partition("/")
    path = _TOKEN.sub("***", slash + path)
    path = _PARAMETER.sub(lambda m: m[0] if m[2].lower() in SAFE_KEYS else f"{m[1]}{m[2]}=***", path)
    host = _PARAMETER.sub(lambda m: f"{m[1]}{m[2]}=***", host)
    return f"{match[0]}{'***@' if user else ''}{host}{path}"


def redact_text(text: str, url: str) -> str:
    """A sentence about ``url`` (FFmpeg's, mostly) without its secrets, even where it repeats only the password."""
    text = text.replace(url, redact(url))
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", lambda m: redact(m[0]), text)


def safe_name(text: str, longest: int = MAX_NAME) -> str:
    """``text`` on one line, without control characters, at most ``longest`` characters."""
    printable = "".join(char if char.isprintable() else "?" for char in text).strip() or "source"
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"


def stream_name(url: str) -> str:
    """Host and path of ``url``, as ``192.168.1.7:554/cam``."""
    clean = redact(url)
    clean = clean[len(scheme_of(clean) or "") + len("://") :] if scheme_of(clean) else clean
    return safe_name(clean.removeprefix("***@").split("?")[0].rstrip("/"))


def _split_user(rest: str) -> tuple[str, str]:
    """User information and what follows it. Passwords hold unescaped ``/``, ``?`` and ``@`` in practice, so the user
    information is taken to end at the last ``@``: too much is hidden rather than too little."""
    user, at, after = rest.rpartition("@")
    return (user, after) if at else ("", rest)


def _secrets(url: str) -> list[str]:
    match = _SCHEME.match(url)
    if match is None:
        return []
    user, rest = _split_user(url[match.end() :])
    values = [m[3] for m in _PARAMETER.finditer(rest) if m[2].lower() not in SAFE_KEYS]
    found = {user, user.partition(":")[2], *values}
    found |= {unquote(secret) for secret in found}
    return sorted((secret for secret in found if len(secret) > 2), key=len, reverse=True)
