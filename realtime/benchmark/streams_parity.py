"""Whether a device sees in a clip what the processor sees.

Enters: frames, and what both saw in them. Leaves: how many boxes, points and names are the same, and the worst
embedding; the same as lines and checks of a proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engines.errors import EngineError, first_line
from engines.proofs.record import Proof, Table
from engines.store import default_model
from realtime.benchmark.streams_material import HostPath
from realtime.device.analyser import DeviceAnalyser, Seen
from realtime.device.opening import open_device_analyser
from realtime.faces.boxes import iou
from realtime.people.matching import References
from realtime.records import RGB_HW3

SAME_FACE_IOU: Final = 0.5

PRECISION: Final = "fp16"
"""In which streams are played."""

LEAST_COSINE: Final = {"fp32": 0.9995, "fp16": 0.999, "bf16": 0.99}
"""Of any face, by arithmetic."""

SAME_POINTS: Final = 0.999
"""Share of coordinates, in boxes that are the same."""

FAILURES: Final = (RuntimeError, EngineError, MemoryError)
"""What a device may answer; everything else goes on without it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Analysers of one device, each opened once: what its fastest form is may have to be measured first."""

    references: References
    device: torch.device
    made: dict[str, DeviceAnalyser] = field(default_factory=dict)

    def analyser(self, precision: str) -> DeviceAnalyser:
        if precision not in self.made:
            # fp32 is there to be compared, not to be fast
            self.made[precision] = open_device_analyser(
                default_model(), self.references, self.device, precision=precision, measured=precision == PRECISION
            )
        return self.made[precision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Of all frames together."""

    frames: int
    faces: int
    """That the processor found."""
    same_boxes: int
    """Frames in which all boxes are the same to the pixel, in the same order."""
    found: int
    """Faces that the device found, too: a box of its own with an overlap above ``SAME_FACE_IOU``."""
    extra: int
    """Boxes of the device that are on no face of the processor."""
    same_points: float
    """Share of coordinates that are equal, of faces with the same box."""
    farthest_px: float
    worst_cosine: float
    """Of embeddings, of faces with the same box."""
    same_names: int
    """Frames with the same names on the same faces."""
    named: int
    """Faces that the processor named."""


def compare(host: Sequence[Seen], device: Sequence[Seen], references: References, threshold: float) -> Parity:
    """
    Args:
        host: what the processor saw, one a frame.
        device: the same frames.
        references: that both compared with.
        threshold: squared distance below which a face is named.
    """
    same_boxes = found = extra = same_names = named = 0
    off: list[float] = []
    cosines: list[float] = []
    for ours, theirs in zip(host, device, strict=True):
        rows = _assigned(ours, theirs)
        names, other_names = ours.names(references, threshold), theirs.names(references, threshold)
        same_boxes += np.array_equal(ours.boxes_N4, theirs.boxes_N4)
        found += len(rows)
        extra += len(theirs.boxes_N4) - len(rows)
        named += sum(name is not None for name in names)
        loose = set(range(len(other_names))) - set(rows.values())
        same_names += all(
            name == (other_names[rows[row]] if row in rows else None) for row, name in enumerate(names)
        ) and not any(other_names[row] for row in loose)
        for row, other in rows.items():
            if np.array_equal(ours.boxes_N4[row], theirs.boxes_N4[other]):
                off += np.abs(ours.points_NP2[row] - theirs.points_NP2[other]).ravel().tolist()
                cosines.append(_cosine(ours.embeddings_ND[row], theirs.embeddings_ND[other]))
    return Parity(
        frames=len(host),
        faces=sum(len(ours.boxes_N4) for ours in host),
        same_boxes=same_boxes,
        found=found,
        extra=extra,
        same_points=float(np.mean([each == 0 for each in off])) if off else 1.0,
        farthest_px=max(off, default=0.0),
        worst_cosine=min(cosines, default=1.0),
        same_names=same_names,
        named=named,
    )


def _assigned(ours: Seen, theirs: Seen) -> dict[int, int]:
    """Faces of the processor and the device's box on each: the best overlaps first, each box once."""
    shares_NM = iou(ours.boxes_N4, theirs.boxes_N4)
    rows: dict[int, int] = {}
    while shares_NM.size and shares_NM.max() > SAME_FACE_IOU:
        row, other = np.unravel_index(int(shares_NM.argmax()), shares_NM.shape)
        rows[int(row)] = int(other)
        shares_NM[row], shares_NM[:, other] = 0, 0
    return rows


def _cosine(a_D: NDArray[np.float32], b_D: NDArray[np.float32]) -> float:
    both = np.array([a_D, b_D], dtype=np.float64)
    return float(both[0] @ both[1] / max(np.linalg.norm(both[0]) * np.linalg.norm(both[1]), 1e-12))


def prove_parity(proof: Proof, opened: Opened, host: HostPath, frames: list[RGB_HW3]) -> None:
    columns = (
        *("arithmetic", "frames", "same boxes", "faces", "found", "extra", "same points", "farthest px"),
        *("worst cosine", "faces named", "same names"),
    )
    table = proof.table("parity", "Beside the processor", columns, "frames with the same boxes and the same names")
    references, threshold = opened.references, host.engine.manifest.threshold
    seen = [host.look(frame, references) for frame in frames]
    for precision in ("fp32", PRECISION):
        if not proof.has_time(f"parity in {precision}", 10.0):
            continue
        try:
            analyser = opened.analyser(precision)
            theirs = [one for start in range(0, len(frames), 4) for one in analyser.analyse(frames[start : start + 4])]
        except FAILURES as err:
            proof.skip(f"parity in {precision}", first_line(err))
            proof.check(f"the device runs in {precision}", False, first_line(err))
            continue
        _judge(proof, table, precision, compare(seen, theirs, references, threshold))


def _judge(proof: Proof, table: Table, precision: str, found: Parity) -> None:
    proof.row(
        table,
        precision,
        found.frames,
        found.same_boxes,
        found.faces,
        found.found,
        found.extra,
        found.same_points,
        found.farthest_px,
        found.worst_cosine,
        found.named,
        found.same_names,
    )
    if precision == "fp32":
        same = found.same_boxes == found.frames
        proof.check(f"boxes, {precision}", same, f"identical in {found.same_boxes} of {found.frames} frames")
    else:
        same = found.found == found.faces and not found.extra
        detail = f"{found.found} of {found.faces} faces with IoU > 0.5, {found.extra} more boxes"
        proof.check(f"boxes, {precision}", same, detail)
    proof.check(
        f"points, {precision}",
        found.same_points >= SAME_POINTS,
        f"{found.same_points:.5f} of the coordinates in the same boxes identical, {SAME_POINTS} needed",
    )
    limit = LEAST_COSINE[precision]
    detail = f"cosine {found.worst_cosine:.6f} at worst in the same boxes, {limit} needed"
    proof.check(f"embeddings, {precision}", found.worst_cosine >= limit, detail)
    same = found.same_names == found.frames
    detail = f"equal in {found.same_names} of {found.frames} frames, {found.named} faces named"
    proof.check(f"names, {precision}", same, detail)
