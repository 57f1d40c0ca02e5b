"""Photos of a set as aligned crops, for whoever compares or calibrates engines.

Enters: a folder or a tar of photos and the alignment template of a model. Leaves: one crop a photo, as the rest of the
program would align it, or the reason why there is none. The package metadata names ``align_photos`` as the aligner that
``python -m engines`` finds; engines/ itself knows nothing of detectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from realtime.calibration.embeddings import NO_FACE, choose_view
from realtime.calibration.images import ImageSet, open_set
from realtime.errors import PhotoError, RealtimeError
from realtime.faces.alignment import Template, dlib_chip, template_named
from realtime.faces.analysis import View, view_faces
from realtime.faces.detection import Detector, detect, open_detector, photo_scale
from realtime.faces.landmarks import Landmarker
from realtime.records import RGB_HW3, ArrayPixels, Frame
from realtime.settings import DetectSettings, Settings, load_settings

ALIGNER: Final = 1
"""Raise it when the same photo gives another crop: kept crops are then made again."""

SECTIONS: Final = ("detect", "align")
"""Of the settings: what decides a crop."""

SECOND_LOOK: Final = "second_look"
"""An option of its own: ``cnn`` (default) or ``none``."""

LOOKS: Final = ("cnn", "none")

CHIP_PADDING: Final = "chip_padding"
"""An option of its own, for trials: the padding of dlib's chip, 0 to 1; anything but 0.25 is another crop than the
product's."""


def align_photos(path: Path, *, template: str, size: int, options: Mapping[str, str]) -> AlignedPhotos:
    """Open a set of photos; they are aligned one by one, when they are asked for.

    Args:
        path: folder of photos or of people's folders, or a tar of one.
        template: name of an alignment template.
        size: side of its crops, pixels.
        options: settings as ``{"detect.kind": "cnn", "align.landmarks": "68"}``; ``second_look``: what looks at a photo
            in which the detector finds no face, ``cnn`` or ``none``; ``chip_padding`` of dlib's chip.

    Raises:
        EngineError: no photos there, or an option or a template that is not known.
    """
    try:
        known = template_named(template)
    except ValueError as err:
        raise EngineError(f"{err}; give crops of {size}x{size} pixels, aligned as the model wants them") from err
    if known.size != size:
        raise EngineError(f"{template} has {known.size} pixels and the model takes {size}; is its manifest right?")
    if CHIP_PADDING in options:
        known = _padded(template, options[CHIP_PADDING])
    look, settings = _settings(options)
    try:
        return AlignedPhotos(open_set(path, labelled=False), known, settings, second_look=look == "cnn")
    except RealtimeError as err:
        raise EngineError(str(err)) from err


class AlignedPhotos:
    """One thread at a time."""

    def __init__(self, images: ImageSet, template: Template, settings: Settings, *, second_look: bool) -> None:
        where = template.from_5.tobytes() + template.from_68.tobytes()
        how = (
            ALIGNER,
            images.digest,
            template.size,
            where,
            settings.detect.model_dump(),
            settings.align.model_dump(),
            second_look,
        )
        self.digest = hashlib.sha256(repr(how).encode()).hexdigest()
        self.names = tuple(item.name for item in images.items)
        self.people = tuple(item.person for item in images.items)
        self.passed_over = images.passed_over
        self._images = images
        self._template = template
        self._settings = settings
        self._looks = [settings.detect] + [DetectSettings(kind="cnn", threads=settings.detect.threads)] * (
            second_look and settings.detect.kind != "cnn"
        )
        self._detectors: list[Detector] = []
        self._landmarker: Landmarker | None = None

    def crop(self, index: int) -> NDArray[np.uint8] | str:
        """(S, S, 3) uint8 RGB of the face that the photo is of, or why there is none.

        Raises:
            EngineError: a detector cannot be had.
        """
        try:
            rgb_HW3 = self._images.read(self._images.items[index])
        except PhotoError as err:
            return str(err)
        try:
            view = self._view(rgb_HW3)
        except RealtimeError as err:
            raise EngineError(str(err)) from err
        return NO_FACE if view is None else view.crop_SS3

    def sha256(self, index: int) -> str:
        """Of the photo's bytes, 64 hex digits.

        Raises:
            PhotoError: it cannot be read any more.
        """
        return self._images.sha256(self._images.items[index])

    def close(self) -> None:
        self._images.close()

    def _view(self, rgb_HW3: RGB_HW3) -> View | None:
        frame = Frame(source="photo", index=0, time_s=0.0, pixels=ArrayPixels(rgb_HW3))
        for look in range(len(self._looks)):
            detector = self._detector(look)
            found = detect(detector, frame, photo_scale(detector, frame.width, frame.height))
            if len(found.boxes_N4):
                views = view_faces(frame, found.boxes_N4, found.scores_N, self._points(), self._template)
                views.sort(key=lambda view: view.box[0] - view.box[2])
                return choose_view(views, frame.width, frame.height)
        return None

    def _detector(self, look: int) -> Detector:
        """The CNN is loaded with the first photo that needs it."""
        if look == len(self._detectors):
            self._detectors.append(open_detector(self._looks[look], photos=True))
        return self._detectors[look]

    def _points(self) -> Landmarker:
        if self._landmarker is None:
            self._landmarker = Landmarker(self._settings.align.landmarks)
        return self._landmarker


def _padded(template: str, text: str) -> Template:
    try:
        padding = float(text)
    except ValueError:
        padding = -1.0
    if not template.startswith("dlib_chip") or not 0 <= padding <= 1:
        raise EngineError(f"{CHIP_PADDING} is {text!r} for {template}; dlib's chip takes 0 to 1, other templates none")
    return dlib_chip(padding)


def _settings(options: Mapping[str, str]) -> tuple[str, Settings]:
    """What looks a second time, and the settings of the first look."""
    look = options.get(SECOND_LOOK, LOOKS[0])
    if look not in LOOKS:
        raise EngineError(f"{SECOND_LOOK} is {look!r}; known are {', '.join(LOOKS)}")
    others = {key: value for key, value in options.items() if key not in (SECOND_LOOK, CHIP_PADDING)}
    if strange := [key for key in others if key.partition(".")[0] not in SECTIONS]:
        raise EngineError(
            f"{strange[0]}: does not decide a crop; known are {SECOND_LOOK}, {CHIP_PADDING}, detect.* and align.*"
        )
    try:
        return look, load_settings(None, [f"{key}={value}" for key, value in others.items()])
    except RealtimeError as err:
        raise EngineError(str(err).replace("--set", "--align")) from err
