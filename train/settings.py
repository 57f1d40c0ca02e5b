"""Every option of a training run: names, types, units, defaults and bounds.

Enters: a preset (``configs/kface_r50.yaml``) or a YAML file, and ``section.key=value`` pairs. Leaves: one checked,
frozen ``FitSettings``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from engines.presets import training_preset_names
from realtime.sections import Section, load_sections


class DataSettings(Section):
    path: str = Field(default="", description="folder that `python -m train prepare` wrote")
    flip: bool = Field(default=True, description="mirror every second crop at random")
    resident: Literal["auto", "device", "host"] = Field(
        default="auto", description="where the crops lie: on the device if they fit, or in the mapped file"
    )
    per_subject: int = Field(
        default=0, ge=0, le=64, description="crops of one subject in a batch, for triplets; 0: as they come"
    )


class NetworkSettings(Section):
    name: str = Field(
        default="iresnet50", description="iresnet18 to 200, mobilefacenet, mobilefacenet-large, or custom"
    )
    family: Literal["iresnet", "mobilefacenet"] = Field(default="iresnet", description="of a custom network")
    blocks: list[int] | None = Field(
        default=None, description="of a custom network: residual blocks of its four stages"
    )
    width: int | None = Field(
        default=None, ge=1, le=1024, description="of a custom network: channels of its first stage"
    )
    dimensions: int = Field(default=512, ge=2, le=4096, description="length of an embedding")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the last features set to 0 in training")


class LossSettings(Section):
    kind: Literal[
        "softmax", "norm_softmax", "sphereface", "cosface", "arcface", "cm1", "cm2", "combined", "adaface", "triplet"
    ] = Field(default="arcface", description="what is minimised; combined takes m1, m2 and m3 from below")
    m1: float | None = Field(default=None, ge=0.5, le=4, description="factor of the angle; the kind's own if empty")
    m2: float | None = Field(
        default=None, ge=0, le=1.5, description="added to the angle, radians; the kind's own if empty"
    )
    m3: float | None = Field(default=None, ge=0, le=1, description="taken off the cosine; the kind's own if empty")
    scale: float = Field(default=64.0, gt=0, le=1024, description="s: what cosines are multiplied with")
    margin_grad: Literal["exact", "straight_through"] = Field(
        default="exact", description="gradient of the margin; straight_through is that of the tutorial's listing"
    )
    sub_centers: int = Field(default=1, ge=1, le=32, description="K: centres a class")
    sample_rate: float = Field(default=1.0, gt=0, le=1, description="share of the classes that a step looks at")
    intra: float = Field(default=0.0, ge=0, le=100, description="weight of the intra loss (angle to the own centre)")
    inter: float = Field(default=0.0, ge=0, le=100, description="weight of the inter loss (angles between centres)")
    triplet: float = Field(default=0.0, ge=0, le=100, description="weight of the triplet loss beside another one")
    triplet_margin: float = Field(default=0.35, ge=0, le=3, description="of the triplet loss, radians")


class OptimiserSettings(Section):
    lr: float = Field(default=0.02, gt=0, le=10, description="highest learning rate, for the whole batch")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="of SGD")
    clip_norm: float | None = Field(default=5.0, gt=0, description="longest gradient of the network; none if empty")


class ScheduleSettings(Section):
    kind: Literal["polynomial", "cosine", "constant"] = Field(default="polynomial", description="how the rate falls")
    power: float = Field(default=2.0, gt=0, le=10, description="of the polynomial")
    warmup_epochs: float = Field(default=0.0, ge=0, le=100, description="epochs in which the rate rises from 0")
    epochs: int = Field(default=20, ge=1, le=10_000, description="epochs in all")


class RunSettings(Section):
    batch: int = Field(default=128, ge=2, le=1 << 20, description="crops a step, over all ranks")
    accumulate: int = Field(default=1, ge=1, le=1024, description="parts in which a step's batch is worked on")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="of the network's body; the head is always fp32"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:1")
    threads: int = Field(default=0, ge=0, le=256, description="of the processor; 0: as many as there are")
    channels_last: bool = Field(default=True, description="memory layout of images on a GPU")
    cuda_graph: Literal["auto", "never"] = Field(
        default="auto", description="record a whole step of a small batch once"
    )
    compile: bool = Field(
        default=False, description="let torch compile the network: a minute at the start, fewer passes over memory"
    )
    seed: int = Field(default=1, ge=0, le=(1 << 31) - 1, description="of weights, order and mirroring")
    deterministic: bool = Field(
        default=False, description="on a GPU take only kernels whose last bit is always the same; slower"
    )
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the running mean of the weights; 0: none")


class InitSettings(Section):
    backbone: str | None = Field(default=None, description="weights to start from: .pth, .safetensors or a run's")
    centres: Literal["random", "class_means"] = Field(
        default="class_means", description="class centres with a given backbone; random without one"
    )
    frozen_epochs: float = Field(default=0.0, ge=0, le=100, description="epochs in which only the class centres learn")


class EvaluateSettings(Section):
    every: int = Field(default=0, ge=0, le=10_000_000, description="steps between evaluations; 0: once an epoch")
    sets: list[str] = Field(
        default=["val"], description="val (people kept back), FILE.bin, FOLDER,PAIRS.txt or another prepared set"
    )
    keep: Literal["best", "last"] = Field(
        default="last", description="weights that the run leaves; best: by the first set, which then flatters them"
    )


class GateSettings(Section):
    set: str | None = Field(
        default=None, description="evaluated before and after, as one of evaluate.sets; none if empty"
    )
    max_drop: float = Field(default=0.01, ge=0, le=1, description="of accuracy on it that a run may lose")


class CheckpointSettings(Section):
    every: int = Field(default=0, ge=0, le=10_000_000, description="steps between checkpoints; 0: once an epoch")


class LogSettings(Section):
    every: int = Field(default=50, ge=1, le=1_000_000, description="steps between lines of the log")
    tensorboard: bool = Field(default=True, description="write scalars for TensorBoard where it is installed")


class FitSettings(Section):
    """All sections of a run."""

    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    run: RunSettings = RunSettings()
    init: InitSettings = InitSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    log: LogSettings = LogSettings()


def load_fit_settings(config: str | None = None, overrides: Iterable[str] = ()) -> FitSettings:
    """Defaults, then the preset or file ``config``, then each ``section.key=value``.

    Raises:
        SettingsError: unreadable file, unknown key (with the nearest known one), wrong type or value out of bounds.
    """
    return load_sections(FitSettings, config, overrides, presets=training_preset_names())
