"""Decoded pictures that stay as the decoder left them until somebody asks for RGB or grey.

Enters: a frame of PyAV or an OpenCV camera. Leaves: ``Pixels`` (realtime.records), upright. Converting every 720p frame
to RGB costs a fifth of decoding it, and most frames are only followed in grey.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from realtime.records import RGB_HW3, Grey_HW

LUMA_FIRST: Final = frozenset(
    (
        "gray",
        "yuv420p",
        "yuv422p",
        "yuv444p",
        "yuv440p",
        "yuv411p",
        "yuv410p",
        "yuvj420p",
        "yuvj422p",
        "yuvj444p",
        "yuvj440p",
        "yuvj411p",
        "yuva420p",
        "yuva422p",
        "yuva444p",
        "nv12",
        "nv21",
        "nv16",
        "nv24",
    )
)
"""Formats whose first plane is 8-bit luma, one byte a pixel: grey costs nothing."""

RGB_FORMATS: Final = (
    "rgb",
    "bgr",
    "gbr",
    "argb",
    "abgr",
    "0rgb",
    "0bgr",
    "pal8",
    "bayer",
    "xyz",
    "mono",
    "x2rgb",
    "x2bgr",
)
"""How the names of formats begin that hold no luma."""

HD_LINES: Final = 720
"""Untagged video of at least so many lines is BT.709, below it BT.601: what players assume."""

TURNS: Final = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}

UNSPECIFIED: Final = 2
"""AVCOL_SPC_UNSPECIFIED."""

_ONE_THREAD: Final[dict[str, Any]] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
"""libswscale starts a thread a core otherwise, which doubled the CPU time of a 720p frame; older PyAV has no choice."""

_local = threading.local()
"""One converter a thread: it keeps tables between frames of one size, and is not safe to share."""


def clockwise_turn(frame: VideoFrame) -> int:
    """0, 90, 180 or 270: degrees by which ``frame`` must be turned clockwise to stand upright."""
    return round(-frame.rotation / 90) * 90 % 360


class DecodedPixels:
    """A frame of FFmpeg's decoder. The frame's buffers are counted references: it stays valid when decoding goes on.

    ``grey`` is the luma as it was sent: video of limited range (nearly all) has black at 16 and white at 235. Detection
    and tracking are indifferent to that, and expanding it would cost more than decoding.
    """

    def __init__(self, frame: VideoFrame) -> None:
        self._frame = frame
        self._turn = clockwise_turn(frame)

    @property
    def width(self) -> int:
        return self._frame.height if self._turn in (90, 270) else self._frame.width

    @property
    def height(self) -> int:
        return self._frame.width if self._turn in (90, 270) else self._frame.height

    def rgb(self) -> RGB_HW3:
        colours: dict[str, Any] = {}
        if self._frame.colorspace == UNSPECIFIED and max(self._frame.height, self._frame.width * 9 // 16) >= HD_LINES:
            colours["src_colorspace"] = "ITU709"
        converted = _converter().reformat(self._frame, format="rgb24", **colours, **_ONE_THREAD)
        height, width = self._frame.height, self._frame.width
        rgb = _plane(converted.planes[0], height, width * 3)
        return self._upright(np.ascontiguousarray(rgb).reshape(height, width, 3))

    def grey(self) -> Grey_HW:
        name = self._frame.format.name
        if name.startswith(RGB_FORMATS):
            return np.asarray(cv2.cvtColor(self.rgb(), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        frame = self._frame
        if name not in LUMA_FIRST:
            target = "gray" if name.startswith(("gray", "ya")) else "yuv420p"
            frame = _converter().reformat(frame, format=target, **_ONE_THREAD)
        return self._upright(_plane(frame.planes[0], frame.height, frame.width))

    def _upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.rotate(image, TURNS[self._turn]), dtype=np.uint8) if self._turn else image


class BgrPixels:
    """A frame of an OpenCV camera: uint8 (H, W, 3) BGR, or (H, W) from a grey camera."""

    def __init__(self, image: Any) -> None:
        self._bgr: RGB_HW3 = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)

    @property
    def width(self) -> int:
        return int(self._bgr.shape[1])

    @property
    def height(self) -> int:
        return int(self._bgr.shape[0])

    def rgb(self) -> RGB_HW3:
        return np.asarray(cv2.cvtColor(self._bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def grey(self) -> Grey_HW:
        return np.asarray(cv2.cvtColor(self._bgr, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _plane(plane: VideoPlane, rows: int, row_bytes: int) -> Grey_HW:
    """(rows, row_bytes) view of a plane; it keeps the frame alive. A negative line size is a picture stored upwards."""
    stride = plane.line_size
    lines: Grey_HW = np.frombuffer(plane, dtype=np.uint8).reshape(-1, abs(stride))[:rows, :row_bytes]  # type: ignore[call-overload]
    view = lines if stride > 0 else lines[::-1]
    view.flags.writeable = False
    return view


def _converter() -> VideoReformatter:
    converter: VideoReformatter | None = getattr(_local, "converter", None)
    if converter is None:
        converter = _local.converter = VideoReformatter()
    return converter
