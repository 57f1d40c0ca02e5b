"""Where models live.

Enters: a model's name or path. Leaves: the checked model: a file, a named one from ``models_dir()``, or the embedded
one, converted on the spot and kept in the user's cache directory. A cache that cannot be written (read-only, full)
costs time at every start, never the start itself.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import logging
import os
import re
import time
from pathlib import Path
from typing import Final

import platformdirs

from engines.errors import ModelFileError
from engines.export import PART, ModelFile, check_model, dlib_manifest, dlib_model, load_model, write_atomically
from engines.manifest import Manifest
from engines.models import DEFAULT, KnownModel, known_model, known_models

DATA_VARIABLE: Final = "REALTIME_DATA"
"""Environment variable that moves the user's data folder: models by name, and the gallery."""

CACHE_VARIABLE: Final = "REALTIME_CACHE"
"""Environment variable that moves the cache directory."""

STALE_S: Final = 24 * 3600.0
"""A part so old belongs to a process that was killed while writing, seconds."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}(/[A-Za-z0-9][A-Za-z0-9._-]{0,79})?")
"""Of a model: a file's name in ``models_dir()``, or in a folder of it; never a way out of it."""

_FILE_SUFFIXES: Final = (".onnx", ".dat", ".pt", ".pth", ".safetensors", ".zip", ".engine", ".plan")
"""What ends so is a path."""

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The directory of converted models; it may not exist yet."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override) if override else platformdirs.user_cache_path("realtime", appauthor=False)


def models_dir() -> Path:
    """The directory of fetched, imported and adopted models; they are kept, not cached. It may not exist yet."""
    override = os.environ.get(DATA_VARIABLE)
    return (Path(override) if override else platformdirs.user_data_path("realtime", appauthor=False)) / "models"


def find_model(name_or_path: str) -> ModelFile:
    """A model by its name (of ``configs/models.yaml``, or given at an import), or a model file by its path.

    A name wins over a file of the same name: what a command opens does not depend on the folder it is started in.

    Raises:
        ModelFileError: not fetched yet, no such name or file, or a file that ``load_model`` refuses.
    """
    if name_or_path == DEFAULT:
        return default_model()
    path = _as_path(name_or_path)
    if path.suffix.lower() in _FILE_SUFFIXES:
        return load_model(path)
    known = known_models().get(name_or_path)
    if _NAME.fullmatch(name_or_path) and place_of(name_or_path).is_file():
        return load_model(place_of(name_or_path))
    if known is not None:
        raise ModelFileError(f"{known.name}: is not here yet; {how_to_get(known)}")
    if _exists(path):
        return load_model(path)
    near = difflib.get_close_matches(name_or_path, _by_any_part(), n=1, cutoff=0.5)
    hint = f"did you mean {_by_any_part()[near[0]]!r}? " if near else ""
    raise ModelFileError(
        f"no model or file is named {name_or_path!r}; {hint}`python -m engines list` shows what there is"
    )


def place_of(name: str) -> Path:
    """The file of a named model.

    Raises:
        ModelFileError: the name could not be a file's.
    """
    if not _NAME.fullmatch(name) or Path(name).suffix.lower() in _FILE_SUFFIXES:
        raise ModelFileError(f"{name!r} cannot name a model; use letters, digits, '.', '-', '_' and at most one '/'")
    return models_dir() / f"{name}.onnx"


def stored_names() -> list[str]:
    """Names of the models in ``models_dir()``, in alphabetical order."""
    folder = models_dir()
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.onnx") if path.is_file())
    return sorted(name for name in names if _NAME.fullmatch(name))


def keep_model(name: str, content: bytes) -> Path:
    """Put a model into ``models_dir()`` under a name, whole or not at all.

    Raises:
        ModelFileError: the name cannot be one, or the folder cannot be written to.
    """
    path = place_of(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        write_atomically(path, content)
    except OSError as err:
        raise ModelFileError(
            f"{path}: cannot be written ({err.strerror}); make room or give another place in {DATA_VARIABLE}"
        ) from err
    return path


def keep_named(name: str, model: ModelFile) -> Path:
    """``keep_model``, unless the name belongs to a model whose embeddings are others.

    Raises:
        ModelFileError: the name is taken or cannot be one, or the folder cannot be written to.
    """
    path, known = place_of(name), known_models().get(name)
    taken = known is not None and known.weights_sha256 not in ("", model.manifest.weights_sha256)
    if path.is_file() and not taken:
        with contextlib.suppress(ModelFileError):  # damaged: made whole again
            taken = load_model(path).manifest.model_id != model.manifest.model_id
    if taken:
        raise ModelFileError(f"{name}: is the name of another model already; choose another with --name")
    return keep_model(name, model.content)


def how_to_get(known: KnownModel) -> str:
    """The command that brings a known model here."""
    if known.by_hand:
        command = f"python -m engines import {known.weights} --network {known.network} --name {known.name}"
        return f"{known.by_hand}, then run `{command}`"
    if known.must_accept:
        return f"run `python -m engines fetch {known.name} --accept-licence` (licence: {known.licence})"
    return f"run `python -m engines fetch {known.name}`"


def _as_path(text: str) -> Path:
    path = Path(text.replace("\0", ""))
    try:
        return path.expanduser()
    except RuntimeError:  # the home folder of nobody
        return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a name may be
        return False


def _by_any_part() -> dict[str, str]:
    """Every name by itself and by its last part: people forget who published a model."""
    names = (*known_models(), *stored_names())
    return {name.rsplit("/", 1)[-1]: name for name in names} | {name: name for name in names}


def default_model(*, unit_length: bool = True, mirrored: bool = True) -> ModelFile:
    """The embedded descriptor, from the cache where it is there.

    Raises:
        ModelFileError: the weights are not installed or not those that ``configs/models.yaml`` names.
    """
    known = known_model(DEFAULT)
    manifest = dlib_manifest(known, unit_length=unit_length, mirrored=mirrored)
    path = cache_dir() / "models" / f"{known.name}-{_key(manifest)}.onnx"
    if (cached := _cached(path, manifest)) is not None:
        return cached
    content = dlib_model(known, known.weights_path(), manifest)
    _keep(path, content)
    return check_model(content, str(path))


def _key(manifest: Manifest) -> str:
    """Everything that decides the file's bytes is in the manifest: weights, form, threshold, converter."""
    return hashlib.sha256(manifest.to_json().encode()).hexdigest()[:16]


def _cached(path: Path, manifest: Manifest) -> ModelFile | None:
    try:
        if not path.is_file():
            return None
        model = load_model(path)
    except (OSError, ModelFileError) as err:
        _log.warning("the cached model is not usable and is made again: %s", err)
        return None
    if model.manifest != manifest:
        _log.warning("%s: the cached model is another one and is made again", path)
        return None
    return model


def _keep(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        write_atomically(path, content)
    except OSError as err:
        _log.warning(
            "%s: the converted model cannot be kept (%s); it is made again at the next start", path, err.strerror
        )


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-written."""
    for part in folder.glob(f".*{PART}"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - part.stat().st_mtime > STALE_S:
                part.unlink()
