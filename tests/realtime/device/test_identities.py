"""Names over time from frames that a device looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.device.analyser import Seen
from realtime.device.identities import CameraNames
from realtime.people.matching import References, match
from realtime.records import ArrayPixels, Frame, Sighting
from realtime.settings import IdentitySettings, TrackSettings

ANA, BEN, NOBODY = (np.eye(8, dtype=np.float32)[row] for row in range(3))
KNOWN = References(embeddings_MD=np.stack([ANA, BEN]), persons_M=np.arange(2), names=("Ana", "Ben"), model_id="m")
CROP = np.random.default_rng(1).integers(0, 256, (150, 150, 3), dtype=np.uint8)
POINTS = np.array([(130, 60), (105, 62), (30, 60), (55, 62), (75, 100)], dtype=np.float64)

Face = tuple[float, NDArray[np.float32]]
"""Left edge of a box 100 wide, and its embedding."""


def seen(*faces: Face) -> Seen:
    embeddings_ND = np.array([embedding_D for _, embedding_D in faces], dtype=np.float32).reshape(-1, 8)
    count = len(faces)
    return Seen(
        boxes_N4=np.array([(x, 50, x + 100, 150) for x, _ in faces], dtype=np.float32).reshape(-1, 4),
        scores_N=np.ones(count, dtype=np.float32),
        points_NP2=np.repeat(POINTS[None], count, axis=0),
        embeddings_ND=embeddings_ND,
        matches=match(embeddings_ND, KNOWN),
        crops_NSS3=np.repeat(CROP[None], count, axis=0),
    )


class Camera:
    def __init__(self) -> None:
        self.names = CameraNames(IdentitySettings(), TrackSettings(), threshold=0.4, unit_length=True)
        self._index = 0

    def shows(self, *faces: Face, times: int = 1) -> tuple[Sighting, ...]:
        for _ in range(times):
            pixels = ArrayPixels(np.zeros((400, 800, 3), dtype=np.uint8))
            frame = Frame(source="camera", index=self._index, time_s=self._index / 25, pixels=pixels)
            sightings = self.names.see(frame, seen(*faces), KNOWN)
            self._index += 1
        return sightings


def test_a_face_keeps_its_number_and_gets_its_name_after_two_views() -> None:
    camera = Camera()
    (first,) = camera.shows((100, ANA))
    assert (first.state, first.name) == ("pending", None)
    (later,) = [camera.shows((100 + 8 * step, ANA)) for step in range(1, 6)][-1]
    assert (later.track, later.state, later.name) == (first.track, "named", "Ana")


def test_two_faces_are_told_apart_whatever_the_order_of_their_boxes() -> None:
    camera = Camera()
    camera.shows((100, ANA), (400, BEN), times=6)
    ben, ana = camera.shows((400, BEN), (100, ANA))
    assert (ana.name, ben.name) == ("Ana", "Ben")


def test_somebody_else_in_the_same_place_loses_the_name() -> None:
    camera = Camera()
    (ana,) = camera.shows((100, ANA), times=6)
    assert ana.name == "Ana"
    camera.shows(times=2)  # missed, and another one stands there
    (other,) = camera.shows((100, NOBODY), times=8)
    assert other.name is None
    assert other.track != ana.track


def test_a_face_that_is_missed_for_a_moment_is_the_same() -> None:
    camera = Camera()
    (before,) = camera.shows((100, ANA), times=6)
    assert camera.shows(times=2) == ()
    (after,) = camera.shows((104, ANA), times=2)
    assert (after.track, after.name) == (before.track, "Ana")
    camera.shows(times=TrackSettings().max_missed + 30)
    (new,) = camera.shows((104, ANA))
    assert new.track != before.track


def test_names_without_crops_say_what_to_ask_for() -> None:
    frame = Frame(source="camera", index=0, time_s=0.0, pixels=ArrayPixels(CROP))
    names = CameraNames(IdentitySettings(), TrackSettings(), threshold=0.4, unit_length=True)
    with pytest.raises(ValueError, match="crops=True"):
        names.see(frame, replace(seen((0, ANA)), crops_NSS3=None), KNOWN)


def test_an_empty_gallery_names_nobody() -> None:
    nobody = replace(KNOWN, embeddings_MD=KNOWN.embeddings_MD[:0], persons_M=KNOWN.persons_M[:0], names=())
    names = CameraNames(IdentitySettings(), TrackSettings(), threshold=0.4, unit_length=True)
    for index in range(6):
        frame = Frame(source="camera", index=index, time_s=index / 25, pixels=ArrayPixels(CROP))
        (sighting,) = names.see(frame, seen((0, ANA)), nobody)
    assert sighting.state == "unknown"
