"""A file of crops that was cut anywhere goes on from what it holds whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.verification.growing import GrowingCrops

SIZE = 3
FATES = [True, False, True, True, False, True, False, False, True, True]
"""Of ten images: whether it gave a crop."""


def crop(image: int) -> NDArray[np.uint8]:
    return np.random.default_rng(image).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def has_crop(note: Any) -> bool:
    return bool(note["crop"])


def grown(folder: Path, upto: int) -> tuple[bytes, bytes]:
    """Go on up to an image; give the bytes of both files."""
    with GrowingCrops(folder / "crops", folder / "notes", SIZE, has_crop) as growing:
        for image in range(growing.done, upto):
            growing.add({"image": f"é{image}", "crop": FATES[image]}, crop(image) if FATES[image] else None)
        growing.finish()
    return (folder / "crops").read_bytes(), (folder / "notes").read_bytes()


@given(
    upto=st.integers(0, 10),
    crops=st.integers(0, 128 + 6 * 27),
    notes=st.integers(0, 330),
    garbage=st.sampled_from(
        [b"", b"\0" * 30, b'{"crop": true}', b'{"crop": tr', b"\xff\n", b"[1]\n", b"[" * 9999 + b"\n"]
    ),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_goes_on_to_the_same_bytes(tmp_path: Path, upto: int, crops: int, notes: int, garbage: bytes) -> None:
    (tmp_path / "whole").mkdir(exist_ok=True)
    (tmp_path / "cut").mkdir(exist_ok=True)
    wanted = grown(tmp_path / "whole", 10)
    for name in ("crops", "notes"):
        (tmp_path / "cut" / name).unlink(missing_ok=True)
    grown(tmp_path / "cut", upto)
    for name, length in (("crops", crops), ("notes", notes)):
        path = tmp_path / "cut" / name
        os.truncate(path, min(length, path.stat().st_size))
    with (tmp_path / "cut" / "notes").open("ab") as file:
        file.write(garbage)
    assert grown(tmp_path / "cut", 10) == wanted


def test_what_was_made_is_an_ordinary_array(tmp_path: Path) -> None:
    grown(tmp_path, 10)
    found = np.load(tmp_path / "crops")
    assert (found == np.stack([crop(image) for image, good in enumerate(FATES) if good])).all()


def test_without_a_crop_the_array_is_empty(tmp_path: Path) -> None:
    grown(tmp_path, 0)
    assert np.load(tmp_path / "crops").shape == (0, SIZE, SIZE, 3)
