"""Crops of K-FACE: aligned by landmarks, the tutorial's box, and landmarks that are lent."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from realtime.faces.alignment import ARCFACE_FIVE, similarity
from tests.train.kface_faces import SIZES, Person, draw, landmarks
from tests.train.kface_tree import annotation, five_points
from train.kface.annotation import Annotation, parse_annotation
from train.kface.crops import cropped, read_image
from train.kface.failures import Unusable
from train.kface.reuse import MAX_SHIFT, MIN_LIKENESS, moved

ID = "19062531"
PLAIN = (" ", "\n", "")


def marked(camera: int, resolution: str) -> tuple[NDArray[np.uint8], Annotation]:
    """An image that is black but for dots at the eyes and the nose, and its annotation."""
    width, height = SIZES[resolution]
    image = np.zeros((height, width, 3), np.uint8)
    radius = max(1, round(width / 346 * 2))
    for point, colour in zip(five_points(ID, camera, resolution)[:3], np.eye(3) * 255, strict=True):
        cv2.circle(image, np.round(point).astype(int).tolist(), radius, colour.tolist(), -1)
    return image, parse_annotation(annotation(Person(int(ID)), camera, resolution, PLAIN), camera)


def centre(crop_SS: NDArray[np.uint8]) -> NDArray[np.float64]:
    rows, columns = np.nonzero(crop_SS > 60)
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("resolution", list(SIZES))
def test_points_land_where_the_template_has_them(resolution: str) -> None:
    image, found = marked(7, resolution)
    crop = cropped(image, found, "landmarks")
    assert crop.shape == (112, 112, 3)
    matrix_23 = similarity(found.five_52, ARCFACE_FIVE)
    expected_52 = found.five_52 @ matrix_23[:, :2].T + matrix_23[:, 2]
    for channel in range(3):
        np.testing.assert_allclose(centre(crop[..., channel]), expected_52[channel], atol=1.6)
    assert np.abs(expected_52 - ARCFACE_FIVE).max() < 4


def test_the_box_is_the_tutorials_crop() -> None:
    image = draw(Person(int(ID)), 1, 1, 1, 7, "Middle")
    found = parse_annotation(annotation(Person(int(ID)), 7, "Middle", PLAIN), 7)
    x, y, width, height = (int(value) for value in found.boxes["face"])
    by_hand = Image.fromarray(image).crop((x, y, x + width, y + height)).resize((112, 112))
    assert np.array_equal(cropped(image, found, "box"), np.asarray(by_hand))
    assert width == height


@pytest.mark.parametrize("crop", ["landmarks", "box"])
def test_a_face_that_leaves_the_frame_is_refused(crop: str) -> None:
    image = draw(Person(int(ID)), 1, 1, 1, 7, "Middle")
    text = annotation(Person(int(ID)), 7, "Middle", PLAIN, "out_of_frame")
    with pytest.raises(Unusable, match="face out of the frame"):
        cropped(image, parse_annotation(text, 7), crop)  # type: ignore[arg-type]
    whole = parse_annotation(annotation(Person(int(ID)), 7, "Middle", PLAIN), 7)
    points = whole.points_72 - (whole.boxes["face"][0] + 20, 0)
    a_little = Annotation(points_72=points, boxes={"face": (-20.0, *whole.boxes["face"][1:])})
    assert cropped(image, a_little, crop).shape == (112, 112, 3)  # type: ignore[arg-type]


def test_points_in_one_place_are_refused() -> None:
    image = draw(Person(int(ID)), 1, 1, 1, 7, "Middle")
    one_place = Annotation(points_72=np.full((7, 2), 100.0), boxes={"face": (50, 50, 100, 100)})
    with pytest.raises(Unusable, match="out of the frame"):
        cropped(image, one_place, "landmarks")


def test_images_are_decoded_and_measured() -> None:
    image = draw(Person(int(ID)), 1, 1, 1, 7, "Middle")
    content = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    assert np.array_equal(read_image(content, "C7.jpg", "middle"), image)
    with pytest.raises(Unusable, match=r"another size \(346x230, high has 864x576\)"):
        read_image(content, "C7.jpg", "high")
    with pytest.raises(Unusable, match=r"cannot be decoded \(is empty \(0 bytes\)\)"):
        read_image(b"", "C7.jpg", "middle")
    with pytest.raises(Unusable, match="cannot be decoded"):
        read_image(content[:400], "C7.jpg", "middle")


# --- lent landmarks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", [2, 4, 7, 10, 12, 16, 19])
@pytest.mark.parametrize("accessory", [2, 4, 6])
def test_a_head_that_moved_between_sessions_is_noticed(accessory: int, camera: int) -> None:
    person = Person(int(ID))
    before = draw(person, 1, 1, 1, camera, "Middle")
    five = landmarks(person, camera)[[1, 2, 0, 3, 4]]
    shift, likeness = moved(before, draw(person, accessory, 1, 1, camera, "Middle"), five)
    assert shift <= 1.5
    assert likeness > 0.8
    shift, likeness = moved(before, draw(person, accessory, 1, 1, camera, "Middle", shift=14), five)
    assert shift > MAX_SHIFT or likeness < MIN_LIKENESS


def test_another_face_and_darkness_are_no_likeness() -> None:
    person = Person(int(ID))
    before = draw(person, 1, 1, 1, 7, "Middle")
    five = landmarks(person, 7)[[1, 2, 0, 3, 4]]
    assert moved(before, np.zeros_like(before), five)[1] == -1.0
    others = [moved(before, draw(Person(seed), 2, 1, 1, 7, "Middle"), five) for seed in range(5)]
    assert sum(shift > MAX_SHIFT or likeness < MIN_LIKENESS for shift, likeness in others) >= 4
