"""The clip on a device and on the processor: the same boxes, points and names, frame by frame."""

from __future__ import annotations

import torch

from engines.store import default_model
from realtime.benchmark.streams_material import clip_frames, open_host_path, references_of, resized
from realtime.benchmark.streams_parity import compare
from realtime.device.opening import open_device_analyser
from tests.paths import SHARED, needs_shared

pytestmark = needs_shared

EVERY = 19
"""Frames apart: all scenes, and Miranda named in some."""


def test_the_device_sees_what_the_processor_sees() -> None:
    folder = SHARED / "hamilton"
    host = open_host_path(threads=1)
    people = [("Miranda", folder / "lin-manuel-miranda.png"), ("Lacamoire", folder / "alex-lacamoire.png")]
    references = references_of(people, host)
    frames = resized(clip_frames(folder / "short_hamilton_clip.mp4", every=EVERY), (1280, 720))
    analyser = open_device_analyser(default_model(), references, torch.device("cpu"), precision="fp32")
    theirs = [seen for start in range(0, len(frames), 4) for seen in analyser.analyse(frames[start : start + 4])]
    ours = [host.look(frame, references) for frame in frames]
    found = compare(ours, theirs, references, host.engine.manifest.threshold)
    assert found.frames == len(frames) > 10
    assert found.same_boxes == found.frames
    assert found.found == found.faces >= found.frames
    assert found.extra == 0
    assert found.same_points >= 0.999
    assert found.farthest_px <= 1
    assert found.worst_cosine >= 0.9995
    assert found.named >= 2
    assert found.same_names == found.frames
