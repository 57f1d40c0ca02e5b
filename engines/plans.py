"""What takes minutes to build is built once a machine: compiled engines and what belongs to them.

Enters: a kind, the parts of a key (everything that decides the bytes) and a function that builds. Leaves: the bytes,
from the user's cache directory where they are there and whole. However many processes ask at once, one builds and the
others wait. A file that is cut, foreign or refused is built again; a cache that cannot be written costs the build at
every start, never the start itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from engines.export import PART, write_atomically
from engines.store import cache_dir

_MAGIC: Final = b"realtime plan 1\n"
"""Every file starts so; then one line of JSON (kind, parts, length and sha256 of what follows), then the bytes."""

_MAX_HEADER: Final = 1 << 16
"""A longer line is not a header of ours, bytes."""

_POLL_S: Final = 0.2
"""How often a waiting process looks whether the lock is free, seconds."""

_log = logging.getLogger(__name__)


def plans_dir() -> Path:
    """The directory of all plans; it may not exist yet."""
    return cache_dir() / "plans"


def path_of(kind: str, parts: tuple[str, ...]) -> Path:
    """Where the bytes of a key are kept."""
    key = hashlib.sha256(json.dumps([kind, *parts]).encode()).hexdigest()[:32]
    return plans_dir() / kind / f"{key}.plan"


def have(kind: str, parts: tuple[str, ...]) -> bool:
    """Whether a whole file of that key is there; the user of the bytes may still refuse them."""
    return read(kind, parts) is not None


def kept(
    kind: str, parts: tuple[str, ...], build: Callable[[], bytes], *, accept: Callable[[bytes], bool] | None = None
) -> bytes:
    """The bytes of a key, built where they are not there.

    Args:
        kind: of plan; a folder's name.
        parts: of the key: whatever, if it changed, would change the bytes.
        build: makes the bytes; called by one process at a time, once. What it raises passes through.
        accept: whether kept bytes can be used here; those refused are built again. What is built is not asked about.
    """
    usable = accept or (lambda _: True)
    if (content := _usable(kind, parts, usable)) is not None:
        return content
    with _locked(path_of(kind, parts)) as exclusive:
        if exclusive and (content := _usable(kind, parts, usable)) is not None:
            return content
        content = build()
        write(kind, parts, content)
    return content


def read(kind: str, parts: tuple[str, ...]) -> bytes | None:
    """The bytes of a key; None where there are none, or the file is cut, foreign or unreadable."""
    path = path_of(kind, parts)
    try:
        file = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as err:
        _log.debug("%s: cannot be read (%s)", path, err.strerror)
        return None
    start = file.find(b"\n", len(_MAGIC), len(_MAGIC) + _MAX_HEADER) + 1
    content = file[start:]
    if not start or file[:start] != _header(kind, parts, content):
        _log.warning("%s: is cut or not a plan of this key, and is built again", path)
        return None
    return content


def write(kind: str, parts: tuple[str, ...], content: bytes) -> None:
    """Keep bytes under a key; where that cannot be done a warning says so, and nothing half is left."""
    path = path_of(kind, parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _header(kind, parts, content) + content)
    except OSError as err:
        _log.warning("%s: cannot be kept (%s); it is built again at the next start", path, err.strerror or err)


def _header(kind: str, parts: tuple[str, ...], content: bytes) -> bytes:
    of_content = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return _MAGIC + json.dumps({"kind": kind, "parts": parts, **of_content}).encode() + b"\n"


def _usable(kind: str, parts: tuple[str, ...], usable: Callable[[bytes], bool]) -> bytes | None:
    content = read(kind, parts)
    if content is None or usable(content):
        return content
    _log.warning("%s: cannot be used here any more and is built again", path_of(kind, parts))
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a path. Yields False where the directory cannot hold one: then every process builds its own."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path)
    except (OSError, NotImplementedError) as err:
        _log.warning("%s: cannot be locked (%s); building without", path, getattr(err, "strerror", None) or err)
        yield False
        return
    try:
        _sweep(path)
        yield True
    finally:
        _removed(_owner(path))
        lock.release()


def _acquire(lock: FileLock, path: Path) -> None:
    """Take the lock; a process that must wait says once for whom."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        started = time.monotonic()
        _log.info("waiting for %s, which is building the same engine (%s)", _who(path), path.name)
        lock.acquire(timeout=-1, poll_interval=_POLL_S)
        _log.info("the other process is done after %.0f s", time.monotonic() - started)
    with contextlib.suppress(OSError):
        _owner(path).write_text(str(os.getpid()), encoding="ascii")


def _owner(path: Path) -> Path:
    return path.with_suffix(".owner")


def _who(path: Path) -> str:
    try:
        return f"process {int(_owner(path).read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        return "another process"


def _sweep(path: Path) -> None:
    """Remove what a builder of this path left that was killed while writing: only the lock's holder writes here."""
    for part in path.parent.glob(f".{path.name}.*{PART}"):
        _removed(part)


def _removed(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
