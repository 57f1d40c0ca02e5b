"""What a run will do, from its settings and the set's manifest and labels: before any crop is read.

Enters: settings, a prepared set that is mapped, the ranks. Leaves: a ``Plan``: steps, schedule, precision, memory, what
stands against the run (as an error) and what is worth a second thought (as a warning).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engines.networks import Network
from train.errors import ConfigError, DataError
from train.fit.crops import resident
from train.fit.memory import memory, parameters
from train.fit.order import Order, Share
from train.fit.precision import Precision, precision_for
from train.fit.rate import training_flops
from train.fit.schedule import Schedule, in_steps, lr_warning, schedule_of
from train.losses.margins import margin_of
from train.networks import network_of
from train.prepared import PreparedSet
from train.settings import FitSettings, LossSettings
from train.sharding.ranks import Ranks
from train.sharding.sampling import shard_of

VAL: Final = "val"
"""Name of the people kept back, among the sets to evaluate on."""

BOX: Final = "kface_box"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A run before its first step."""

    settings: FitSettings
    prepared: PreparedSet
    ranks: Ranks
    network: Network
    precision: Precision
    order: Order
    schedule: Schedule
    frozen: int
    """Steps in which only the centres learn."""
    evaluate_every: int
    """Steps; 0: never."""
    checkpoint_every: int
    memory: dict[str, int]
    """Bytes on one device, by part."""
    warnings: tuple[str, ...]

    @property
    def classes(self) -> int:
        return len(self.prepared.train.subjects)

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.schedule.steps

    @property
    def channels_last(self) -> bool:
        """Never on a processor: torch 2.13 writes beyond its memory there, in the backward pass of narrow networks."""
        return self.settings.run.channels_last and self.ranks.device.type == "cuda"

    @property
    def flops(self) -> float:
        """Of a crop, forward and backward."""
        loss = self.settings.loss
        centres = 0 if loss.kind == "triplet" else self.classes * loss.sub_centers
        return training_flops(self.network, round(centres * loss.sample_rate))

    def to_json(self) -> dict[str, Any]:
        run, share = self.settings.run, self.order.share
        return {
            "set": str(self.prepared.folder),
            "images": len(self.prepared.train),
            "classes": self.classes,
            "people_kept_back": 0 if self.prepared.val is None else len(self.prepared.val.subjects),
            "network": self.network.name,
            "parameters": parameters(self.network),
            "loss": self.settings.loss.kind,
            "margin": _margin_words(self.settings.loss),
            "device": str(self.ranks.device),
            "ranks": self.ranks.size,
            "precision": self.precision,
            "batch": run.batch,
            "crops_at_a_time": run.batch // (share.parts * share.ranks),
            "steps_an_epoch": self.order.steps,
            "left_out_an_epoch": self.order.positions - self.order.steps * run.batch,
            "epochs": self.settings.schedule.epochs,
            "steps": self.steps,
            "lr": self.schedule.lr,
            "warmup_steps": self.schedule.warmup,
            "frozen_steps": self.frozen,
            "evaluate_every": self.evaluate_every,
            "checkpoint_every": self.checkpoint_every,
            "gflop_a_crop": self.flops / 1e9,
            "memory": self.memory,
            "memory_in_all": sum(self.memory.values()),
            "warnings": list(self.warnings),
        }


def plan_of(settings: FitSettings, prepared: PreparedSet, ranks: Ranks) -> Plan:
    """
    Raises:
        ConfigError: options that do not go together, or not with the set.
        DataError: a set that nothing can be learned from.
    """
    _check_data(prepared)
    _check_options(settings, prepared)
    network = network_of(settings.network, input_size=prepared.manifest.size)
    order = Order(
        prepared.train.labels_N,
        batch=settings.run.batch,
        seed=settings.run.seed,
        flip=settings.data.flip,
        per_subject=settings.data.per_subject,
        share=Share(ranks.rank, ranks.size, settings.run.accumulate),
    )
    schedule = schedule_of(settings.schedule, settings.optimiser, order.steps)
    if schedule.warmup >= schedule.steps:
        raise ConfigError(
            f"schedule.warmup_epochs {settings.schedule.warmup_epochs:g} is as long as the run of "
            f"{settings.schedule.epochs} epochs; lower it or raise schedule.epochs"
        )
    precision = precision_for(settings.run.precision, ranks.device)
    sets = settings.evaluate.sets
    return Plan(
        settings=settings,
        prepared=prepared,
        ranks=ranks,
        network=network,
        precision=precision,
        order=order,
        schedule=schedule,
        frozen=in_steps(settings.init.frozen_epochs, order.steps),
        evaluate_every=(settings.evaluate.every or order.steps) if sets else 0,
        checkpoint_every=settings.checkpoint.every or order.steps,
        memory=_memory(settings, prepared, ranks, network, precision, order),
        warnings=tuple(_warnings(settings, prepared, order)),
    )


def _margin_words(loss: LossSettings) -> str:
    """What a preset's own numbers make of the loss."""
    margin = margin_of(loss)
    scale = "" if loss.kind in ("softmax", "triplet") else f", scale {loss.scale:g}"
    return f"margin {margin.m1:g}, {margin.m2:g}, {margin.m3:g}{scale}"


def _check_data(prepared: PreparedSet) -> None:
    train = prepared.train
    if not len(train):
        raise DataError(f"{prepared.folder}: has no crops to train on; prepare it again with people in train")
    people = int((np.bincount(train.labels_N, minlength=len(train.subjects)) > 0).sum())
    if people < 2:
        raise DataError(
            f"{prepared.folder}: train shows one person ({train.subjects[int(train.labels_N[0])]}); telling people "
            "apart needs two or more, prepare it with others"
        )
    if np.bincount(train.labels_N).max() < 2:
        raise DataError(
            f"{prepared.folder}: every person has one image, so nothing shows what stays the same of a face; prepare "
            "it with two or more of each"
        )


def _check_options(settings: FitSettings, prepared: PreparedSet) -> None:
    init, loss = settings.init, settings.loss
    if VAL in (*settings.evaluate.sets, settings.gate.set) and prepared.val is None:
        raise ConfigError(
            f"{prepared.folder} keeps nobody back, so there is no {VAL} to evaluate on; prepare it with a split, or "
            "set evaluate.sets=[] or a set of other people"
        )
    if settings.evaluate.keep == "best" and not settings.evaluate.sets:
        raise ConfigError(
            "evaluate.keep is best, and without evaluate.sets nothing says which weights are; name a set, or keep "
            "the last"
        )
    if init.frozen_epochs and loss.kind == "triplet":
        raise ConfigError(
            "init.frozen_epochs lets only class centres learn, and loss.kind triplet has none; set it to 0"
        )
    if init.frozen_epochs and init.backbone is None:
        raise ConfigError(
            "init.frozen_epochs keeps a network as it is that has learned nothing; give init.backbone or set it to 0"
        )
    if (loss.kind == "triplet" or loss.triplet) and not settings.data.per_subject:
        raise ConfigError(
            "the triplet loss needs several crops of a person in a batch; set data.per_subject=4, or another "
            "divisor of run.batch"
        )


def _warnings(settings: FitSettings, prepared: PreparedSet, order: Order) -> list[str]:
    train = prepared.train
    counts = np.bincount(train.labels_N, minlength=len(train.subjects))
    found = [lr_warning(settings.optimiser.lr, settings.run.batch)]
    if settings.init.backbone is not None and not Path(settings.init.backbone).exists():
        found.append(f"init.backbone {settings.init.backbone} is not there, and the run will want it")
    if (single := int((counts == 1).sum())) > 0:
        skipped = ", which data.per_subject leaves out" if settings.data.per_subject else ""
        found.append(f"{single} of {len(counts)} people have one image{skipped}")
    if (absent := int((counts == 0).sum())) > 0:
        found.append(f"{absent} of {len(counts)} people have no image; their class centres are only pushed away")
    if prepared.manifest.refused:
        found.append(f"{prepared.manifest.refused} images of the selection are not in the set; see its refused.jsonl")
    if settings.gate.set is not None and settings.init.backbone is None:
        found.append("gate.set has nothing to compare with: a network without init.backbone knows nothing to forget")
    if prepared.manifest.template == BOX:
        found.append(f"crops are {BOX}, which realtime does not make; prepare with --crop landmarks to use the model")
    return [words for words in found if words is not None]


def _memory(
    settings: FitSettings, prepared: PreparedSet, ranks: Ranks, network: Network, precision: Precision, order: Order
) -> dict[str, int]:
    loss, share = settings.loss, order.share
    classes = 0 if loss.kind == "triplet" else len(shard_of(len(prepared.train.subjects), 0, ranks.size))
    centres = classes * loss.sub_centers
    on_device = resident(prepared.train, settings.data.resident, ranks.device)
    return memory(
        network,
        part=settings.run.batch // (share.parts * share.ranks),
        half=precision != "fp32",
        centres=centres,
        columns=round(centres * loss.sample_rate),
        ema=settings.run.ema > 0,
        crops=prepared.train.crops_NSS3.nbytes if on_device else 0,
    )
