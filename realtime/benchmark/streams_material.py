"""What the proof of streams looks at: decoded frames of one size, and who may be in them.

Enters: a clip, or a folder of pictures, or nothing for the demo; photos of people. Leaves: RGB frames, and references
made of the photos on the processor, among those of many others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.dlib.detector import CnnDetector
from engines.engine import Engine, open_engine
from realtime.device.analyser import Seen
from realtime.errors import RealtimeError
from realtime.faces.alignment import align
from realtime.faces.detection import Detector, detect, photo_scale
from realtime.faces.landmarks import Landmarker
from realtime.people.matching import References, match
from realtime.records import RGB_HW3, ArrayPixels, Faces, Frame

Photos = list[tuple[str, Path]]

OTHERS: Final = 1000
"""People beside those of the photos: random directions, whom nobody resembles."""

PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp")

TINY: Final = (256, 192)
"""Width and height of a dry run's frames: windows of the demo's portrait, whose face is 91 pixels wide."""


class ProcessorDetector:
    """dlib's CNN in ONNX Runtime on the processor, whatever else is installed: what a device is held to."""

    smallest_px = 70.0
    colour = True
    sure_score = 0.25

    def __init__(self, threads: int) -> None:
        self._network = CnnDetector(runtime="onnxruntime", precision="fp32", threads=threads)

    def find(self, image: NDArray[np.uint8]) -> Faces:
        return Faces.of(*self._network.detect(image))

    def clone(self) -> ProcessorDetector:
        return self


@dataclass(frozen=True, slots=True)
class HostPath:
    """dlib's CNN, landmarks, alignment and network as they run on the processor, one frame at a time."""

    detector: Detector
    landmarker: Landmarker
    engine: Engine

    def look(self, rgb_HW3: RGB_HW3, references: References) -> Seen:
        """At the frame's own size."""
        boxes_N4, scores_N, points, embeddings_ND = self._faces(rgb_HW3, scale=1.0)
        return Seen(
            boxes_N4=boxes_N4,
            scores_N=scores_N,
            points_NP2=np.array(points, dtype=np.float64).reshape(-1, self.landmarker.count, 2),
            embeddings_ND=embeddings_ND,
            matches=match(embeddings_ND, references),
        )

    def largest(self, rgb_HW3: RGB_HW3) -> NDArray[np.float32] | None:
        """The embedding of a photo's largest face; None without a face."""
        scale = photo_scale(self.detector, rgb_HW3.shape[1], rgb_HW3.shape[0])
        boxes_N4, _, _, embeddings_ND = self._faces(rgb_HW3, scale=scale)
        return embeddings_ND[(boxes_N4[:, 2] - boxes_N4[:, 0]).argmax()] if len(boxes_N4) else None

    def _faces(
        self, rgb_HW3: RGB_HW3, scale: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[NDArray[np.float64]], NDArray[np.float32]]:
        frame = Frame(source="frame", index=0, time_s=0.0, pixels=ArrayPixels(rgb_HW3))
        found = detect(self.detector, frame, scale)
        points = self.landmarker.points(frame.grey, found.boxes_N4)
        manifest = self.engine.manifest
        crops = [align(rgb_HW3, points_P2, manifest.template) for points_P2 in points]
        size = manifest.input_size
        stacked = np.stack(crops) if crops else np.empty((0, size, size, 3), dtype=np.uint8)
        return found.boxes_N4, found.scores_N, points, self.engine.run(stacked)


def open_host_path(threads: int) -> HostPath:
    """
    Raises:
        EngineError: ONNX Runtime is not there.
    """
    engine = open_engine(runtime="onnxruntime", precision="fp32", threads=threads)
    return HostPath(ProcessorDetector(threads), Landmarker("5"), engine)


def references_of(people: Photos, host: HostPath, *, seed: int = 5) -> References:
    """
    Raises:
        RealtimeError: a photo cannot be read, or shows no face.
    """
    own = []
    for name, path in people:
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise RealtimeError(f"{path}: not a picture that can be read; give {name} another photo")
        embedding_D = host.largest(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8))
        if embedding_D is None:
            raise RealtimeError(f"{path}: no face was found in it; give {name} another photo")
        own.append(embedding_D)
    manifest = host.engine.manifest
    others_MD = np.random.default_rng(seed).normal(size=(OTHERS, manifest.dimensions)).astype(np.float32)
    others_MD /= np.linalg.norm(others_MD, axis=1, keepdims=True)
    names = [*dict.fromkeys(name for name, _ in people), *(f"Nobody {number}" for number in range(OTHERS))]
    persons = [*(names.index(name) for name, _ in people), *range(len(names) - OTHERS, len(names))]
    return References(
        embeddings_MD=np.concatenate([np.array(own, dtype=np.float32).reshape(-1, manifest.dimensions), others_MD]),
        persons_M=np.array(persons, dtype=np.int64),
        names=tuple(names),
        model_id=manifest.name,
    )


def clip_frames(clip: Path, *, every: int = 1) -> list[RGB_HW3]:
    """Every Nth frame of a video file, or of a folder of pictures in the order of their names.

    Raises:
        RealtimeError: it cannot be read, or holds none.
    """
    pictures = _of_folder(clip) if clip.is_dir() else _of_film(clip)
    frames = [frame for index, frame in enumerate(pictures) if index % every == 0]
    if not frames:
        raise RealtimeError(f"{clip}: no frame could be read; give a video file, or a folder of pictures")
    return frames


def _of_folder(folder: Path) -> Iterator[RGB_HW3]:
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES):
        bgr = cv2.imread(str(path))
        if bgr is not None:
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _of_film(clip: Path) -> Iterator[RGB_HW3]:
    try:
        import av
    except ImportError as err:
        raise RealtimeError("PyAV is not installed; give a folder of pictures as --clip, or pip install av") from err
    try:
        with av.open(str(clip)) as film:
            for frame in film.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    except (av.FFmpegError, OSError, IndexError) as err:
        raise RealtimeError(f"{clip}: cannot be decoded ({err}); give a video file, or a folder of pictures") from err


def demo_frames(*, every: int = 1) -> list[RGB_HW3]:
    """
    Raises:
        SourceError: the portrait is not installed.
    """
    from realtime.benchmark.clips import frames_of
    from realtime.capture.demo import DemoSource
    from realtime.settings import CaptureSettings

    return [frame.rgb for frame in frames_of(DemoSource(CaptureSettings())) if frame.index % every == 0]


def tiny_frames(count: int = 6) -> list[RGB_HW3]:
    """Windows of the demo's portrait, each a little further to the left."""
    from realtime.capture.demo import demo_photo

    bgr = cv2.imread(str(demo_photo()))
    assert bgr is not None
    rgb_HW3 = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    width, height = TINY
    return [np.ascontiguousarray(rgb_HW3[20 : 20 + height, 110 - 8 * step :][:, :width]) for step in range(count)]


def resized(frames: Sequence[RGB_HW3], size: tuple[int, int]) -> list[RGB_HW3]:
    """Of ``size`` (width, height); cubic where they grow."""
    out = []
    for frame in frames:
        if frame.shape[1::-1] == size:
            out.append(frame)
            continue
        how = cv2.INTER_AREA if frame.shape[1] > size[0] else cv2.INTER_CUBIC
        out.append(np.asarray(cv2.resize(frame, size, interpolation=how), dtype=np.uint8))
    return out


def spread(frames: Sequence[RGB_HW3], count: int) -> list[RGB_HW3]:
    """At most ``count`` frames, evenly over all of them."""
    rows = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return [frames[row] for row in rows]
