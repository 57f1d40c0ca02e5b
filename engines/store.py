"""Where converted models live.

Enters: the name of a known model. Leaves: the checked model, from the user's cache directory or converted on the spot
and kept there. A cache that cannot be written (read-only, full) costs time at every start, never the start itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from pathlib import Path
from typing import Final

import platformdirs

from engines.errors import ModelFileError
from engines.export import PART, ModelFile, check_model, dlib_manifest, dlib_model, load_model, write_atomically
from engines.manifest import Manifest
from engines.models import DEFAULT, known_model

CACHE_VARIABLE: Final = "REALTIME_CACHE"
"""Environment variable that moves the cache directory."""

STALE_S: Final = 24 * 3600.0
"""A part so old belongs to a process that was killed while writing, seconds."""

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The directory of converted models; it may not exist yet."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override) if override else platformdirs.user_cache_path("realtime", appauthor=False)


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
