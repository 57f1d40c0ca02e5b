"""Frames of several cameras at once: who is in each of them, all on one device.

Enters: RGB frames of one size, on the host or on the device. Leaves: for each frame its boxes, points, embeddings, and
the nearest and second nearest person of each face, on the host. The host waits three times a batch: for the boxes, for
how often large faces are halved (one number a face), and for the results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.gpu.buckets import BUCKETS, bucket_for
from realtime.device.alignment import DeviceAligner
from realtime.device.frames import Pictures, grey_of, on_device
from realtime.device.matching import DeviceReferences
from realtime.device.recorded import RecordedLandmarker
from realtime.device.stages import Stages
from realtime.people.matching import Matches, References, match
from realtime.records import Boxes_N4, Scores_N

# B frames; N faces of a frame or of all; P points; D embedding

STAGES: Final = ("upload", "detection", "landmarks", "alignment", "embedding", "matching", "results")
"""In their order; what the host does meanwhile is part of the stage that waits for it."""

FEW: Final = 20_000
"""References that are compared in one matrix product on the device; more are searched as everywhere else."""


Boxes = tuple[Boxes_N4, Scores_N]
"""Of one frame, best first."""


class Found(Protocol):
    """Boxes of a batch."""

    def on_host(self) -> list[Boxes]:
        """Of each frame, however many; waits for the device."""


class BatchDetector(Protocol):
    """Boxes of frames that lie on a device."""

    def detect(self, frames_BHWC: Tensor, *, min_score: float = 0.0) -> Found: ...


class BatchEmbedder(Protocol):
    """Embeddings of crops that lie on a device."""

    def on_device(self, images: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 -> (N, D) float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one frame shows."""

    boxes_N4: Boxes_N4
    scores_N: Scores_N
    points_NP2: NDArray[np.float64]
    embeddings_ND: NDArray[np.float32]
    matches: Matches
    crops_NSS3: NDArray[np.uint8] | None = None
    """Aligned faces, where they were asked for."""

    def names(self, references: References, threshold: float, margin: float = 0.0) -> list[str | None]:
        """The person of each face: nearer than ``threshold``, and by ``margin`` nearer than anybody else."""
        found = self.matches
        clear_N = found.second_distances_N - np.where(np.isfinite(found.distances_N), found.distances_N, 0) > margin
        sure_N = (found.persons_N >= 0) & (found.distances_N < threshold) & clear_N
        return [
            references.names[person] if sure else None for person, sure in zip(found.persons_N, sure_N, strict=True)
        ]


class DeviceAnalyser:
    """Detector, landmarks, alignment, network and references on one device; one thread at a time."""

    def __init__(
        self,
        detector: BatchDetector,
        landmarker: RecordedLandmarker,
        aligner: DeviceAligner,
        embedder: BatchEmbedder,
        references: References,
        *,
        min_score: float = 0.0,
    ) -> None:
        """
        Args:
            detector: that gives every box, even where it needs longer for many.
            landmarker: on the device that everything else is on.
            aligner: of the embedder's template.
            embedder: the network.
            references: who is known.
            min_score: boxes at or below it are left out.
        """
        self.device = landmarker.device
        self.stages = Stages(self.device)
        self._detector = detector
        self._landmarker = landmarker
        self._aligner = aligner
        self._embedder = embedder
        self._references = references
        self._few = DeviceReferences(references, device=self.device) if len(references) <= FEW else None
        self._min_score = min_score
        # graphs are not recorded on the default stream
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def prepare(self, frames: int, height: int, width: int, faces: int = 64) -> None:
        """Make what batches of up to so many frames and faces need now, rather than while somebody waits.

        Raises:
            EngineError: the device failed.
        """
        with self._on_stream():
            self._landmarker.prepare(frames, height, width, faces)
            for size in BUCKETS[: BUCKETS.index(bucket_for(min(faces, BUCKETS[-1]), BUCKETS)) + 1]:
                side = self._aligner.size
                self._embedder.on_device(torch.zeros(size, side, side, 3, dtype=torch.uint8, device=self.device))

    @torch.no_grad()
    def analyse(self, pictures: Pictures, grey_BHW: Tensor | None = None, *, crops: bool = False) -> list[Seen]:
        """
        Args:
            pictures: frames of one size, uint8 RGB; those in pinned memory are not waited for.
            grey_BHW: uint8 luma where the decoder gave it; else it is made from RGB as everywhere else.
            crops: bring the aligned faces to the host, too.

        Returns:
            One record a frame, in their order.

        Raises:
            ValueError: frames of several sizes.
            EngineError: the device failed.
        """
        with self._on_stream():
            return self._analyse(pictures, grey_BHW, crops)

    @contextlib.contextmanager
    def _on_stream(self) -> Iterator[None]:
        """On a GPU on a stream of our own, behind what the caller gave the device."""
        if self._stream is None:
            yield
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._stream):
                yield

    def _analyse(self, pictures: Pictures, grey_BHW: Tensor | None, crops: bool) -> list[Seen]:
        stages = self.stages
        stages.begin()
        rgb_BHW3 = on_device(pictures, self.device)
        grey_BHW = grey_of(rgb_BHW3) if grey_BHW is None else grey_BHW.to(self.device, non_blocking=True)
        stages.end("upload")
        faces = self._detector.detect(rgb_BHW3, min_score=self._min_score).on_host()
        stages.end("detection")
        counts = [len(boxes_N4) for boxes_N4, _ in faces]
        boxes_N4 = torch.from_numpy(np.concatenate([boxes_N4 for boxes_N4, _ in faces]))
        boxes_N4 = boxes_N4.to(self.device, non_blocking=True)
        frames_N = torch.from_numpy(np.repeat(np.arange(len(faces)), counts)).to(self.device, non_blocking=True)
        if not sum(counts):
            stages.read()
            return [self._nothing(crops) for _ in faces]
        points_NP2 = self._landmarker.points(grey_BHW, boxes_N4, frames_N)
        matrices_N23 = self._aligner.matrices(points_NP2)
        steps_N = self._aligner.steps(matrices_N23)
        steps = steps_N.tolist()
        stages.end("landmarks")
        crops_NSS3 = self._aligner.crops(rgb_BHW3, points_NP2, frames_N, matrices_N23, steps_N, steps)
        stages.end("alignment")
        embeddings_ND = self._embedder.on_device(crops_NSS3)
        stages.end("embedding")
        persons_N2, distances_N2 = self._match(embeddings_ND)
        stages.end("matching")
        packed = [points_NP2.flatten(1).float(), persons_N2.float(), distances_N2, embeddings_ND]
        host_NV = torch.cat(packed, dim=1).cpu().numpy()
        shown_NSS3 = crops_NSS3.cpu().numpy() if crops else None
        stages.end("results")
        stages.read()
        return self._records(faces, counts, host_NV, shown_NSS3)

    def _match(self, embeddings_ND: Tensor) -> tuple[Tensor, Tensor]:
        if self._few is not None:
            return self._few.match(embeddings_ND)
        found = match(embeddings_ND.cpu().numpy(), self._references)
        persons_N2 = torch.from_numpy(np.stack([found.persons_N, found.second_persons_N], axis=1))
        distances_N2 = torch.from_numpy(np.stack([found.distances_N, found.second_distances_N], axis=1))
        return persons_N2.to(self.device), distances_N2.to(self.device)

    def _records(
        self,
        faces: list[Boxes],
        counts: list[int],
        host_NV: NDArray[np.float32],
        crops_NSS3: NDArray[np.uint8] | None = None,
    ) -> list[Seen]:
        numbers = 2 * self._landmarker.count
        seen, row = [], 0
        for (boxes_N4, scores_N), count in zip(faces, counts, strict=True):
            own = host_NV[row : row + count]
            crops = None if crops_NSS3 is None else crops_NSS3[row : row + count]
            row += count
            persons_N2 = own[:, numbers : numbers + 2].astype(np.int64)
            seen.append(
                Seen(
                    boxes_N4=boxes_N4,
                    scores_N=scores_N,
                    points_NP2=own[:, :numbers].astype(np.float64).reshape(count, self._landmarker.count, 2),
                    embeddings_ND=own[:, numbers + 4 :],
                    matches=Matches(
                        persons_N=persons_N2[:, 0],
                        distances_N=own[:, numbers + 2],
                        second_persons_N=persons_N2[:, 1],
                        second_distances_N=own[:, numbers + 3],
                    ),
                    crops_NSS3=crops,
                )
            )
        return seen

    def _nothing(self, crops: bool) -> Seen:
        dimensions = self._references.embeddings_MD.shape[1]
        width = 2 * self._landmarker.count + 4 + dimensions
        none = (np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.float32))
        side = self._aligner.size
        no_crops = np.empty((0, side, side, 3), dtype=np.uint8) if crops else None
        return self._records([none], [0], np.empty((0, width), dtype=np.float32), no_crops)[0]
