"""A person before a camera: different good views are taken, a second face stops it, time runs out with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest

from realtime.capture.photo import load_photo
from realtime.capture.source import SourceInfo
from realtime.errors import SourceError
from realtime.people.camera_enrollment import Progress, views_from_source
from realtime.records import RGB_HW3, ArrayPixels, Frame
from realtime.settings import GallerySettings
from tests.realtime.people.helpers import analyser, astronaut

PORTRAIT = np.ascontiguousarray(load_photo(astronaut())[0:260, 90:350])
NOBODY = np.full((260, 260, 3), 90, np.uint8)
TWO = np.concatenate([PORTRAIT, PORTRAIT], axis=1)


class Camera:
    """A source of given pictures, ten a second."""

    def __init__(self, pictures: Iterable[RGB_HW3]) -> None:
        self.name = "camera 0"
        self.live = True
        self.status = ""
        self.info = SourceInfo(kind="webcam", width=260, height=260, fps=10.0)
        self.index = -1
        self._pictures: Iterator[RGB_HW3] = iter(pictures)

    def read(self) -> Frame | None:
        picture = next(self._pictures, None)
        if picture is None:
            return None
        self.index += 1
        return Frame(source=self.name, index=self.index, time_s=self.index / 10, pixels=ArrayPixels(picture))

    def close(self) -> None:
        pass


def watch(
    camera: Camera, wanted: int = 3, timeout_s: float = 60.0, min_sharpness: float = 7.0
) -> tuple[int, list[Progress]]:
    seen: list[Progress] = []
    views = views_from_source(
        camera,
        analyser(),
        GallerySettings(min_sharpness=min_sharpness),
        threshold=analyser().manifest.threshold,
        wanted=wanted,
        timeout_s=timeout_s,
        progress=seen.append,
        clock=lambda: camera.index / 10,
    )
    return len(views), seen


def test_views_that_differ_are_taken_at_once() -> None:
    # a head seen from further to the side is narrower
    camera = Camera([PORTRAIT] * 3 + [cv2.resize(PORTRAIT, (205, 260))] * 3)
    taken, seen = watch(camera, wanted=2)
    assert taken == 2
    assert camera.index < 9
    assert seen[-1].taken == seen[-1].wanted == 2


def test_who_holds_still_is_enrolled_slowly() -> None:
    camera = Camera([PORTRAIT] * 100)
    taken, seen = watch(camera, wanted=3)
    assert taken == 3
    assert 60 <= camera.index <= 70
    assert "turn the head a little" in {progress.hint for progress in seen}


def test_the_end_of_the_source_keeps_what_is_there() -> None:
    assert watch(Camera([PORTRAIT] * 10))[0] == 1


@pytest.mark.parametrize(
    ("picture", "min_sharpness", "words"),
    [
        (NOBODY, 7.0, "no face is in view"),
        (TWO, 7.0, "2 faces are in view, only one person may be"),
        (PORTRAIT, 1e5, "hold still"),
    ],
)
def test_time_runs_out_with_the_reason(picture: RGB_HW3, min_sharpness: float, words: str) -> None:
    camera = Camera(picture for _ in iter(int, 1))  # for ever
    with pytest.raises(SourceError) as caught:
        watch(camera, timeout_s=2.0, min_sharpness=min_sharpness)
    assert str(caught.value) == f"camera 0: no view could be enrolled within 2 s: {words}; try again"


def test_a_silent_source() -> None:
    with pytest.raises(SourceError, match="no frame came"):
        watch(Camera([]))


def test_somebody_else_steps_in() -> None:
    other = np.ascontiguousarray(cv2.resize(PORTRAIT, (200, 260))[:, ::-1])
    camera = Camera([PORTRAIT] * 3 + [other] * 40)
    views = views_from_source(
        camera, analyser(), GallerySettings(), threshold=1e-4, wanted=3, timeout_s=60, clock=lambda: camera.index / 10
    )
    assert len(views) == 1, "a view further than three thresholds from the first is another face"
