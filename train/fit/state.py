"""Everything of a run that changes, and its way to a checkpoint and back.

Enters: a plan. Leaves: a network, class centres and their momentum, fresh, from somebody's weights, or as a checkpoint
left them, bit by bit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from engines.errors import first_line
from engines.export import write_atomically
from engines.networks import build
from train.checkpoints import Checkpoint, SetFacts, check_same_run, load_checkpoint, save_checkpoint
from train.errors import CheckpointError
from train.fit.ema import Ema, float_state
from train.fit.embedding import embedder
from train.fit.plan import Plan
from train.fit.step import Trainer
from train.fit.watch import Best
from train.prepared import Embed
from train.runs import BACKBONE, CHECKPOINT
from train.sharding.centres import ClassCentres
from train.starting import centres_from_means, class_means, load_backbone

BEST: Final = "best.pth"
"""Weights of the best evaluation so far, beside the checkpoint; the same kind of file as backbone.pth."""

FIXED: Final = (("run", "batch"), ("run", "seed"), ("data", "per_subject"), ("data", "flip"))
"""Options that say which crops a step sees: a run that goes on keeps them."""

Progress = Callable[[int, int], object]


class RunState:
    """Built fresh; then ``begin`` or ``restore``."""

    def __init__(self, plan: Plan) -> None:
        settings, device = plan.settings, plan.ranks.device
        with torch.random.fork_rng(devices=[]):  # the caller's own random numbers stay as they are
            torch.manual_seed(settings.run.seed)
            module = build(plan.network, dropout=settings.network.dropout)
        if plan.channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module = module.to(device)
        if settings.run.compile:  # in place: names of weights, and so checkpoints, stay what they are
            self.module.compile()
        self.centres = ClassCentres(
            plan.classes, plan.network.dimensions, settings.loss, plan.ranks, seed=settings.run.seed
        )
        self.trainer = Trainer(
            self.module,
            self.centres,
            plan.ranks,
            momentum=settings.optimiser.momentum,
            weight_decay=settings.optimiser.weight_decay,
            clip_norm=settings.optimiser.clip_norm,
            precision=plan.precision,
            channels_last=plan.channels_last,
            seed=settings.run.seed,
            dropout=settings.network.dropout > 0,
        )
        self.ema: Ema | None = None
        self.step = 0
        """Steps done."""
        self.best = Best()
        self.gate_before: float | None = None
        self._plan = plan

    def begin(self, progress: Progress | None = None) -> None:
        """From ``init.backbone`` if there is one; the centres then from the means of its embeddings.

        Raises:
            ConfigError, CheckpointError, ModelFileError: the weights are not there, or of another network.
        """
        plan, settings = self._plan, self._plan.settings
        if settings.init.backbone is not None:
            load_backbone(self.module, plan.network, Path(settings.init.backbone))
            if settings.init.centres == "class_means" and settings.loss.kind != "triplet":
                means_CD = class_means(self._embed(), plan.prepared.train, plan.ranks, progress=progress)
                whole = centres_from_means(means_CD, sub_centers=settings.loss.sub_centers, seed=settings.run.seed)
                self.centres.load_whole(whole)
        self._start_mean()

    def restore(self, path: Path) -> None:
        """
        Raises:
            CheckpointError: missing, damaged, of another network or set, or of another order of crops.
        """
        plan = self._plan
        kept = load_checkpoint(path)
        facts = SetFacts.of(plan.prepared.manifest)
        check_same_run(kept, str(path), settings=plan.settings, network=plan.network, data=facts)
        for section, key in FIXED:
            was, now = (getattr(getattr(each, section), key) for each in (kept.settings, plan.settings))
            if was != now:
                raise CheckpointError(
                    f"{path}: was trained with {section}.{key}={was}, not {now}, and the order of its crops depends on "
                    f"it; set it back, or start a new run with init.backbone"
                )
        try:
            self._take(kept)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as err:
            raise CheckpointError(
                f"{path}: does not hold what its own settings promise ({first_line(err)}); use another one"
            ) from err

    def _take(self, kept: Checkpoint) -> None:
        self.module.load_state_dict(kept.backbone)
        self.trainer.body.load(kept.momentum)
        self.centres.load_whole_state(kept.centres, self.trainer.head.momentum)
        self._start_mean()
        if self.ema is not None and kept.ema is not None:
            self.ema.load(kept.ema)
        if kept.scale:
            self.trainer.scale.load(kept.scale)
        self.step = kept.step
        self.best = Best(**kept.notes.get("best", {}))
        self.gate_before = kept.notes.get("gate_before")

    def save(self, folder: Path) -> None:
        """Checkpoint of the whole run; collective, one rank writes.

        Raises:
            CheckpointError: the disk is full; the checkpoint before it is kept.
        """
        plan = self._plan
        centres = self.centres.whole_state(self.trainer.head.momentum)
        if plan.ranks.first:
            checkpoint = Checkpoint(
                settings=plan.settings,
                network=plan.network,
                data=SetFacts.of(plan.prepared.manifest),
                step=self.step,
                backbone=self.module.state_dict(),
                momentum=self.trainer.body.momentum,
                centres=centres,
                ema=None if self.ema is None else self.ema.mean,
                scale=self.trainer.scale.state(),
                notes={"best": asdict(self.best), "gate_before": self.gate_before},
            )
            save_checkpoint(folder / CHECKPOINT, checkpoint)
        plan.ranks.wait()

    @property
    def weights(self) -> list[Tensor]:
        """Of the network, with the statistics of its norms, and this rank's centres."""
        return [*float_state(self.module).values(), *self.centres.parameters()]

    @contextmanager
    def shown(self) -> Iterator[Embed]:
        """The network as others will use it: the running mean, where one is kept."""
        if self.ema is None:
            yield self._embed()
        else:
            with self.ema.in_place():
                yield self._embed()

    def save_weights(self, path: Path) -> None:
        """The network as others will use it, as a state dict with insightface's names.

        Raises:
            CheckpointError: it cannot be written.
        """
        state = {name: value.detach().cpu().clone().contiguous() for name, value in self.module.state_dict().items()}
        if self.ema is not None:
            state |= {name: value.cpu().contiguous() for name, value in self.ema.mean.items()}
        write_weights(path, state)

    def _embed(self) -> Embed:
        return embedder(self.module, self._plan.ranks.device)

    def _start_mean(self) -> None:
        decay = self._plan.settings.run.ema
        self.ema = Ema(self.module, decay) if decay else None


def write_weights(path: Path, state: dict[str, Tensor]) -> None:
    """
    Raises:
        CheckpointError: it cannot be written.
    """
    content = io.BytesIO()
    torch.save(state, content)
    write_kept(path, content.getvalue())


def write_kept(path: Path, content: bytes) -> None:
    """A file of a run, whole or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as err:
        raise CheckpointError(
            f"{path}: cannot be written ({err.strerror or err}); make room, then go on with --resume"
        ) from err


def give_backbone(state: RunState, folder: Path, *, best: bool) -> None:
    """Leave backbone.pth: the weights of the best evaluation, or the last ones.

    Raises:
        CheckpointError: it cannot be written.
    """
    held = folder / BEST
    if best and 0 < state.best.step < state.step and held.is_file():
        write_kept(folder / BACKBONE, held.read_bytes())
    else:
        state.save_weights(folder / BACKBONE)


def notes_of(state: RunState) -> dict[str, Any]:
    """What an end line of the log says of the best evaluation."""
    return {"best": asdict(state.best)} if state.best.step else {}
