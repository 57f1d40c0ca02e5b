"""The proof of dlib's networks runs on a processor, and fails where the answers are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from engines.dlib.detector import CnnDetector
from engines.errors import EngineError
from engines.gpu import detector as device_detector
from engines.gpu.candidates import WAYS
from engines.proofs import dlib, dlib_descriptor, scenes
from engines.proofs.record import Proof

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(dlib_descriptor, "PRECISIONS", ("fp16",))


def proved() -> Proof:
    proof = Proof("dlib", dlib.TITLE, dry_run=True)
    dlib.prove(proof, CPU)
    return proof


def table(proof: Proof, name: str) -> list[tuple[Any, ...]]:
    return next(one.rows for one in proof.tables if one.name == name)


def test_every_precision_is_held_to_the_processor_and_timed() -> None:
    proof = proved()
    assert proof.passed
    assert {row[1] for row in table(proof, "boxes")} == {"fp32", "fp16", "bf16"}
    assert [row[1:4] for row in table(proof, "detector")] == [
        (precision, "eager", batch) for precision in dlib.PRECISIONS for batch in dlib.DRY_BATCHES
    ]
    assert {row[1] for row in table(proof, "descriptor")} == {"eager", "torch as it is"}
    assert [row[0] for row in table(proof, "stages")] == ["canvas", "scores", "boxes"]
    assert "eager" in {row[0] for row in table(proof, "ways")}


def test_boxes_that_differ_fail_the_proof_and_what_does_not_run_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(module: Any, device: torch.device) -> Any:
        if any(buffer.dtype == torch.bfloat16 for buffer in module.buffers()):
            raise RuntimeError("no bf16 here")
        return lambda frames: module(frames).roll(16, 3)

    monkeypatch.setattr(device_detector, "WAYS", {**WAYS, "eager": shifted})
    proof = Proof("dlib", dlib.TITLE, dry_run=True)
    dlib._boxes(proof, CPU, {size: scenes.scenes(*size, 2) for size in dlib.DRY_SIZES})
    assert [one.name for one in proof.checks if not one.passed] == [
        "200x160, fp32: identical boxes on every frame",
        "200x160, fp16: each box is matched at IoU > 0.5, both ways",
    ]
    assert ["bf16" in one.what for one in proof.untried] == [True]


def test_faces_are_found_on_the_drawn_frames_without_any_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_astronaut", list)
    frames = scenes.scenes(480, 360, 2)
    assert frames.shape == (2, 360, 480, 3)
    assert np.array_equal(frames, scenes.scenes(480, 360, 2))
    reference = CnnDetector(runtime="onnxruntime", precision="fp32")
    assert all(len(reference.detect(frame)[0]) for frame in frames)


def test_photos_of_a_folder_are_laid_into_the_frames(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, astronaut: Any
) -> None:
    plain = scenes.scenes(320, 240, 1)
    monkeypatch.setenv(scenes.PHOTOS, str(tmp_path))
    with pytest.raises(EngineError, match="no JPEG or PNG photos"):
        scenes.scenes(320, 240, 1)
    cv2.imwrite(str(tmp_path / "face.png"), astronaut[:200, 100:340])
    assert not np.array_equal(scenes.scenes(320, 240, 1), plain)


def test_matched_boxes_overlap_by_more_than_half() -> None:
    one = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], dtype=np.float32)
    other = np.array([[0, 0, 10, 6]], dtype=np.float32)
    assert dlib.matched(one, other).tolist() == [True, False]
    assert dlib.matched(one, other * np.float32(0.5)).tolist() == [False, False]
    assert dlib.matched(one, np.empty((0, 4), np.float32)).tolist() == [False, False]
