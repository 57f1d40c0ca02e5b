"""Records are checked at birth; a frame converts its pixels once, when somebody asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from realtime.records import ArrayPixels, Faces, Frame, Sighting

RGB = np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)


class CountingPixels:
    """Counts how often each picture is made."""

    width, height = 6, 4

    def __init__(self) -> None:
        self.made: list[str] = []

    def rgb(self) -> Any:
        self.made.append("rgb")
        return RGB

    def grey(self) -> Any:
        self.made.append("grey")
        return RGB[..., 0]


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8), np.zeros((4, 6, 3), np.float32)],
    ids=["grey", "rgba", "float"],
)
def test_another_image_than_uint8_rgb_is_refused_with_what_it_is(image: Any) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\) RGB, but got .*4, 6"):
        ArrayPixels(image)


def test_array_pixels_know_their_size_and_luma() -> None:
    pixels = ArrayPixels(RGB)
    assert (pixels.width, pixels.height) == (6, 4)
    assert pixels.rgb() is RGB
    assert pixels.grey().shape == (4, 6)
    assert set(pixels.grey().ravel().tolist()) == {76}  # .299 of red


def test_a_frame_converts_once_and_only_when_asked() -> None:
    pixels = CountingPixels()
    frame = Frame(source="s", index=0, time_s=0.0, pixels=pixels)
    assert (frame.width, frame.height, pixels.made) == (6, 4, [])
    assert frame.grey is frame.grey
    assert pixels.made == ["grey"]
    assert frame.rgb is frame.rgb
    assert pixels.made == ["grey", "rgb"]


def test_a_frame_counts_from_zero() -> None:
    with pytest.raises(ValueError, match="index is -1"):
        Frame(source="s", index=-1, time_s=0.0, pixels=ArrayPixels(RGB))


def test_a_frame_prints_what_a_log_needs() -> None:
    frame = Frame(source="door", index=3, time_s=0.1, pixels=ArrayPixels(RGB), captured_at_s=5.0)
    assert repr(frame) == "Frame('door', index=3, time_s=0.100, 6x4)"
    assert frame.captured_at_s == 5.0


def test_no_faces_have_a_shape() -> None:
    none = Faces.none()
    assert len(none) == 0
    assert none.boxes_N4.shape == (0, 4)
    assert none.scores_N.shape == (0,)
    assert none.boxes_N4.dtype == none.scores_N.dtype == np.float32


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        (np.zeros((2, 3), np.float32), np.zeros(2, np.float32), r"shape \(N, 4\)"),
        (np.zeros(4, np.float32), np.zeros(1, np.float32), r"shape \(N, 4\)"),
        (np.zeros((2, 4), np.float32), np.zeros(3, np.float32), "2 boxes need as many scores"),
    ],
)
def test_faces_of_another_shape_are_refused(boxes: Any, scores: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faces(boxes_N4=boxes, scores_N=scores)


@pytest.mark.parametrize(("state", "name"), [("named", None), ("unknown", "Ana"), ("pending", "Ana")])
def test_a_name_goes_with_the_state_named_and_with_no_other(state: Any, name: str | None) -> None:
    with pytest.raises(ValueError, match="does not go with"):
        Sighting(
            track=1, box=(0, 0, 1, 1), state=state, name=name, distance=None, second_distance=None, detector_score=1.0
        )
