"""Every option of the program: names, types, units, defaults and bounds.

Enters: YAML files and ``key=value`` pairs. Leaves: one checked, frozen ``Settings``. ``configs/default.yaml`` lists the
same options with their comments; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from engines.presets import preset_names
from realtime.sections import Section, load_sections


class CaptureSettings(Section):
    timeout_s: float = Field(default=5.0, gt=0, le=600, description="a stream silent for so long is lost, seconds")
    reconnect_max_s: float = Field(default=30.0, ge=1, le=3600, description="longest wait between two tries, seconds")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP transport")
    width: int | None = Field(default=None, ge=16, le=16384, description="asked of a webcam, pixels")
    height: int | None = Field(default=None, ge=16, le=16384, description="asked of a webcam, pixels")
    fps: float | None = Field(default=None, gt=0, le=1000, description="asked of a webcam, frames a second")
    as_live: bool = Field(default=False, description="play files at their own pace, newest frame only, as a camera")
    loop: bool = Field(default=False, description="start a file again at its end (with as_live: a camera for tests)")


class DetectSettings(Section):
    kind: Literal["hog", "cnn", "yunet"] = Field(default="hog", description="which detector")
    model: str | None = Field(default=None, description="file of the detector, for yunet")
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto", description="arithmetic of the cnn; int8 is quicker, and its boxes jump more"
    )
    min_face_px: int = Field(default=60, ge=12, le=4096, description="smallest face wanted, pixels of a 720p frame")
    every: int = Field(default=15, ge=1, le=1000, description="frames between coarse looks at the whole frame")
    coarse_face_px: int = Field(default=160, ge=12, le=4096, description="smallest face of a coarse look, at 720p")
    fine_every_s: float = Field(default=2.5, gt=0, le=3600, description="seconds between looks for min_face_px")
    min_score: float | None = Field(default=None, description="detector score below which a box is ignored")
    threads: int = Field(default=2, ge=1, le=64, description="detector threads")


class TrackSettings(Section):
    enabled: bool = Field(default=True, description="follow faces between detections by optical flow")
    max_missed: int = Field(
        default=3, ge=0, le=100, description="looks in a row that may miss a face before it is lost"
    )
    min_iou: float = Field(default=0.3, gt=0, lt=1, description="overlap at which a detection is a track's")


class AlignSettings(Section):
    landmarks: Literal["5", "68"] = Field(default="5", description="dlib's 5 points (CC0) or 68 (non-commercial data)")


class EmbedSettings(Section):
    model: str | None = Field(
        default=None, description="an ONNX file or the name of a fetched model; the embedded dlib network if empty"
    )
    runtime: Literal[
        "auto", "tensorrt", "torch-cuda", "onnxruntime-cuda", "openvino", "onnxruntime", "torch", "torch2trt"
    ] = Field(default="auto", description="what runs the model")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        default="auto", description="arithmetic of the runtime"
    )
    calibration: str | None = Field(
        default=None, description="folder of faces that int8 is made from; shipped ranges or those enrolled if empty"
    )
    require_gpu: bool = Field(default=False, description="stop where no NVIDIA GPU can run the model, and say why")
    on_gpu_loss: Literal["fall_back", "stop"] = Field(
        default="fall_back", description="when the GPU fails in mid-run: go on without it, or stop"
    )
    threads: int = Field(default=1, ge=1, le=64, description="threads of the model, where it runs on the processor")
    max_batch: int = Field(default=8, ge=1, le=1024, description="faces of one micro-batch")


class IdentitySettings(Section):
    threshold: float | None = Field(
        default=None, gt=0, le=4, description="squared L2 below which a name is given; the model's own if empty"
    )
    margin: float = Field(
        default=0.04, ge=0, le=4, description="how much nearer the best person must be than the second"
    )
    min_views: int = Field(default=2, ge=1, le=100, description="views that must agree before a name is given")
    eager_views: int = Field(default=6, ge=1, le=100, description="views that an unnamed face gets in quick succession")
    hindsight_s: float = Field(default=0.5, ge=0, le=10, description="files only: names reach back so far, seconds")
    keep: float = Field(default=1.15, ge=1, le=2, description="a name once given stands up to this many thresholds")
    support: float = Field(
        default=2.2, ge=1, le=10, description="a single view beyond this many thresholds doubts a name"
    )
    same_face: float = Field(
        default=1.3, gt=0, le=10, description="a doubtful track's view this far off is another face"
    )
    same_face_sure: float = Field(default=3.0, gt=0, le=10, description="any track's view this far off is another face")
    verify_every_s: float = Field(default=1.0, gt=0, le=3600, description="a named face is looked at again so often")
    retry_every_s: float = Field(default=0.5, gt=0, le=3600, description="an unknown face is looked at again so often")


class ShowSettings(Section):
    font: str | None = Field(default=None, description="a font file for names; found or shipped if empty")
    width: int = Field(default=1280, ge=160, le=16384, description="of the window at start, pixels")
    height: int = Field(default=720, ge=120, le=16384, description="of the window at start, pixels")
    crf: int = Field(default=23, ge=0, le=51, description="quality of written video, lower is better")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = Field(
        default="veryfast", description="x264's speed of written video"
    )


class GallerySettings(Section):
    store_crops: bool = Field(default=True, description="keep the aligned crop of a reference, for another model later")
    min_face_px: int = Field(default=40, ge=12, le=4096, description="narrower faces are not enrolled, pixels")
    min_sharpness: float = Field(default=7.0, ge=0, le=1e6, description="blurrier crops are not enrolled")
    max_yaw_deg: float = Field(default=45.0, gt=0, le=90, description="faces turned further are not enrolled, degrees")


class Settings(Section):
    """All sections; ``Settings()`` is what runs without a configuration."""

    capture: CaptureSettings = CaptureSettings()
    detect: DetectSettings = DetectSettings()
    track: TrackSettings = TrackSettings()
    align: AlignSettings = AlignSettings()
    embed: EmbedSettings = EmbedSettings()
    identity: IdentitySettings = IdentitySettings()
    gallery: GallerySettings = GallerySettings()
    show: ShowSettings = ShowSettings()


def load_settings(config: str | None = None, overrides: Iterable[str] = ()) -> Settings:
    """Defaults, then the preset or file ``config``, then each ``section.key=value``.

    Raises:
        SettingsError: unreadable file, unknown key (with the nearest known one), wrong type or value out of bounds.
    """
    return load_sections(Settings, config, overrides, presets=preset_names())
