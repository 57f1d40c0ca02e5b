"""Known models brought here: asked for, downloaded or taken from a person's hand, verified, adopted, kept.

Enters: a name of ``configs/models.yaml``. Leaves: a proved model file in ``models_dir()``. However many processes fetch
the same, one does it and the others wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from engines.errors import ModelFileError
from engines.export import ModelFile, load_model
from engines.intake.download import Progress, Unreachable, download
from engines.intake.https import FetchError, Transport, remote_size
from engines.intake.unpack import member
from engines.models import KnownModel, known_model
from engines.store import CACHE_VARIABLE, cache_dir, how_to_get, keep_model, place_of


@dataclass(frozen=True, slots=True)
class Offer:
    """What a fetch would bring."""

    known: KnownModel
    url: str
    size: int | None
    """Bytes, as the server says; None where it says nothing or does not answer."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch brought."""

    model: ModelFile
    path: Path
    new: bool
    """False: it was here before."""


def downloads_dir() -> Path:
    """Where files lie while they come, and where a person may put one."""
    return cache_dir() / "downloads"


def offer(name: str, *, mirror: str | None = None, transport: Transport | None = None) -> Offer:
    """Ask the server what a fetch would bring.

    Args:
        name: of ``configs/models.yaml``.
        mirror: another address of the file; one that ends with ``/`` is a folder that holds it.
        transport: patience; the usual if not given.

    Raises:
        ModelFileError: no such model, or none that is fetched.
        FetchError: the address is not https.
    """
    known = known_model(name)
    if known.package:
        raise ModelFileError(f"{name}: comes with the package {known.package.replace('_', '-')}; it needs no fetching")
    if known.by_hand:
        raise ModelFileError(f"{name}: cannot be fetched: {how_to_get(known)}")
    url = known.url if mirror is None else mirror + known.download if mirror.endswith("/") else mirror
    return Offer(known, url, remote_size(url, transport or Transport()))


def already_here(known: KnownModel) -> Fetched | None:
    """The model where an earlier fetch put it; a damaged one counts as absent."""
    path = place_of(known.name)
    try:
        return Fetched(load_model(path), path, new=False) if path.is_file() else None
    except ModelFileError:
        return None


def fetch(
    wanted: Offer,
    *,
    accept_licence: bool,
    transport: Transport | None = None,
    progress: Progress = lambda done, total: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Fetched:
    """Bring a model here.

    Args:
        wanted: what ``offer`` returned.
        accept_licence: the user has read it and may use the model.
        transport: patience; the usual if not given.
        progress: called with the bytes so far and in all.
        tell: called with a sentence when another process is at it.

    Raises:
        FetchError: licence not accepted, no way to the file (the message says which file to put where), or a wrong one.
        ModelFileError: the file is right and no model that works here.
    """
    known = wanted.known
    if known.must_accept and not accept_licence:
        raise FetchError(
            f"{known.name}: its licence is {known.licence!r}; "
            f"if your use is allowed, run `python -m engines fetch {known.name} --accept-licence`"
        )
    with _alone(known, tell):
        if (here := already_here(known)) is not None:
            return here
        weights = _from_hand(known)
        if weights is None:
            weights = _from_server(known, wanted.url, transport or Transport(), progress)
        model = _adopted(known, weights)
        path = keep_model(known.name, model.content)
    return Fetched(ModelFile(model.content, model.manifest, str(path)), path, new=True)


@contextmanager
def _alone(known: KnownModel, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a file; the folder is there afterwards."""
    folder = downloads_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{known.download}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(f"{known.name}: another process is fetching it; waiting")
            lock.acquire()
    except OSError as err:
        raise FetchError(
            f"{folder}: cannot be written ({err.strerror}); make room or give another place in {CACHE_VARIABLE}"
        ) from err
    try:
        yield
    finally:
        lock.release()


def _from_hand(known: KnownModel) -> bytes | None:
    """The weights, where somebody has put their file or archive into ``downloads_dir()``."""
    for name, sha256 in ((known.download, known.download_sha256), (known.weights, known.weights_sha256)):
        path = downloads_dir() / name
        if path.is_file():
            return _weights(known, _verified(path, sha256), path)
    return None


def _from_server(known: KnownModel, url: str, transport: Transport, progress: Progress) -> bytes:
    path = downloads_dir() / known.download
    try:
        download(url, path, known.download_sha256, transport=transport, progress=progress)
    except Unreachable as err:
        raise FetchError(
            f"{err}; get the file elsewhere (sha256 {known.download_sha256}), put it at {path} "
            "and run the same command again"
        ) from err
    content = _verified(path, known.download_sha256)
    path.unlink(missing_ok=True)
    return _weights(known, content, path)


def _verified(path: Path, sha256: str) -> bytes:
    """The bytes that were verified are those that are used: the file is read once."""
    try:
        content = path.read_bytes()
    except OSError as err:
        raise FetchError(f"{path}: cannot be read ({err.strerror}); remove it or put it there again") from err
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise FetchError(f"{path}: has sha256 {found}, not {sha256}; it is another file, remove it")
    return content


def _weights(known: KnownModel, content: bytes, path: Path) -> bytes:
    """Out of the archive where there is one, and then verified by themselves."""
    if path.name == known.weights or not known.archive_sha256:
        return content
    weights = member(content, known.weights, str(path))
    found = hashlib.sha256(weights).hexdigest()
    if found != known.weights_sha256:
        raise FetchError(f"{path}: its {known.weights} has sha256 {found}, not {known.weights_sha256}; get it again")
    return weights


def _adopted(known: KnownModel, weights: bytes) -> ModelFile:
    from engines.intake.adopt import Terms, adopt

    model = adopt(weights, known.name, Terms.of(known), reading=known.onnx)
    got = (model.manifest.input_size, model.manifest.dimensions)
    if got != (known.input_size, known.dimensions):
        raise ModelFileError(
            f"{known.name}: takes {got[0]} pixels and gives {got[1]} numbers, "
            f"not {known.input_size} and {known.dimensions} as configs/models.yaml says"
        )
    return model
