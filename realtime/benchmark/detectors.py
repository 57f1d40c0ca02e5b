"""Which detector finds which faces of a clip, and for how much.

Enters: a clip, the truth about it, settings a detector. Leaves: recall for each person and for strangers, boxes on
nobody, CPU time a frame. Each detector looks at whole frames for faces of ``detect.min_face_px``, without tracking.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime.benchmark.answers import Answer, Shown
from realtime.benchmark.clips import frames_of
from realtime.benchmark.truth import STRANGER, Truth, owners
from realtime.capture.source import open_source
from realtime.faces.detection import detect, in_frame_of, open_detector, scale_for
from realtime.records import Faces, Frame
from realtime.settings import CaptureSettings, DetectSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRow:
    kind: str
    frames: int
    cpu_ms: float
    """A frame, all threads; decoding not counted."""
    found: dict[str, int]
    """Person of the truth (or ``stranger``) -> frames' faces with a box on them."""
    present: dict[str, int]
    extra: int
    """Boxes on no face of the truth, unsure ones not counted."""


def detect_all(clip: Path, truth: Truth, kinds: Sequence[DetectSettings], *, every: int = 1) -> Iterator[DetectorRow]:
    """One row a detector, as each is done; ``every`` nth frame is looked at.

    Raises:
        SourceError: the clip cannot be read.
        RealtimeError, EngineError: a detector cannot be opened.
    """
    for settings in kinds:
        yield _row(clip, truth, settings, every)


def _row(clip: Path, truth: Truth, settings: DetectSettings, every: int) -> DetectorRow:
    detector = open_detector(settings)
    found: Counter[str] = Counter()
    present: Counter[str] = Counter(dict.fromkeys((*truth.people, STRANGER), 0))
    extra = frames = 0
    cpu_s = 0.0
    for frame in frames_of(open_source(str(clip), CaptureSettings())):
        if frame.index % every or frame.index >= len(truth.frames):
            continue
        least_px = in_frame_of(frame.height, settings.min_face_px)
        _ = frame.grey, frame.rgb  # converted outside of what is timed
        scale = scale_for(detector, least_px, frame.width, frame.height)
        start_s = time.process_time()
        faces = detect(detector, frame, scale)
        cpu_s += time.process_time() - start_s
        frames += 1
        here = truth.frames[frame.index]
        present.update(face.who for face in here if face.who is not None)
        for owner in owners(_answer(frame, faces), here, truth):
            if owner is None:
                extra += 1
            elif owner.who is not None:
                found[owner.who] += 1
    return DetectorRow(
        kind=settings.kind,
        frames=frames,
        cpu_ms=1000 * cpu_s / max(frames, 1),
        found={who: found[who] for who in present},
        present=dict(present),
        extra=extra,
    )


def _answer(frame: Frame, faces: Faces) -> Answer:
    boxes = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in faces.boxes_N4]
    return Answer(
        frame=frame.index,
        time_s=frame.time_s,
        width=frame.width,
        height=frame.height,
        faces=tuple(Shown(box=box, name=None) for box in boxes),
    )


def detector_table(rows: Sequence[DetectorRow]) -> list[list[str]]:
    """Recall of each kind of face, for ``report.aligned``."""
    whos = list(rows[0].present)
    table = [["detector", *whos, "extra boxes", "CPU ms/frame"]]
    for row in rows:
        cells = [f"{row.found[who]}/{row.present[who]}" for who in whos]
        table.append([row.kind, *cells, str(row.extra), f"{row.cpu_ms:.1f}"])
    return table
