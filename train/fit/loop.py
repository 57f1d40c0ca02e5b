"""A run, from its plan to its weights.

Enters: a ``Plan`` and a folder. Leaves: in the folder ``settings.yaml``, ``log.jsonl``, ``checkpoint.pt`` after every
so many steps, and at the end ``backbone.pth`` and ``curves.png``. A run that was stopped or killed goes on from its
checkpoint and ends with the same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from train.errors import ConfigError
from train.fit.crops import Feed, keeper_for
from train.fit.curves import draw_curves
from train.fit.device import device_troubles, prepare_device
from train.fit.embedding import embedder
from train.fit.graph import stepper
from train.fit.guard import Guard
from train.fit.log import Line, RunLog
from train.fit.meter import Meter
from train.fit.plan import Plan
from train.fit.state import BEST, Progress, RunState, give_backbone, notes_of, write_kept
from train.fit.stop import StopSignal
from train.fit.watch import Watch, better
from train.runs import BACKBONE, CHECKPOINT, SETTINGS
from train.starting import load_backbone

Told = Callable[[Line], object]
"""Told every line of the log as it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    folder: Path
    step: int
    """Steps done."""
    steps: int
    """Of the whole run."""
    last: Line
    """Of the log."""

    @property
    def finished(self) -> bool:
        """False: it was stopped, and goes on with ``resume``."""
        return self.step >= self.steps


def fit(
    plan: Plan,
    folder: Path,
    *,
    resume: bool = False,
    told: Told | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """
    Args:
        plan: of the run.
        folder: where its files go; it is made.
        resume: go on from the checkpoint there; from the beginning where there is none yet.
        told: see ``Told``; on the first rank only.
        progress: told (steps done, steps in all).

    Raises:
        ConfigError: the folder holds another run.
        CheckpointError: a checkpoint that does not fit, or a disk that is full; the last good one is kept.
        Diverged: the loss or a gradient is not a number any more.
        GateFailed: the run forgot more than it may; its files are kept.
        DeviceFull: the device's memory does not hold the run.
        DataError, EngineError: a set to evaluate on, or weights to start from, are not usable.
    """
    prepare_device(plan)
    with device_troubles(plan), StopSignal() as stop:
        return _Fit(plan, folder, resume, told or _silent, progress or _silent).run(stop)


@dataclass(frozen=True, slots=True)
class _Due:
    log: bool
    evaluate: bool
    save: bool

    @property
    def any(self) -> bool:
        return self.log or self.evaluate or self.save


class _Fit:
    def __init__(self, plan: Plan, folder: Path, resume: bool, told: Told, progress: Progress) -> None:
        self._plan, self._folder, self._told, self._progress = plan, folder, told, progress
        claim(folder, resume=resume)
        self._resumed = resume and (folder / CHECKPOINT).is_file()
        plan.ranks.wait()  # all have looked before the first one writes
        settings = plan.settings
        self._watch = Watch(plan.prepared, settings.evaluate.sets, settings.gate) if plan.ranks.first else None
        self._state = RunState(plan)
        if self._resumed:
            self._state.restore(folder / CHECKPOINT)
        else:
            self._state.begin()
        self._log: RunLog | None = None
        self._started = time.perf_counter()

    def run(self, stop: StopSignal) -> Outcome:
        if self._plan.ranks.first:
            self._open_files()
        try:
            if not self._resumed:
                self._before()
            stopped = self._train(stop)
            last = self._write("stopped", {}) if stopped else self._end()
        finally:
            if self._log is not None:
                self._log.close()
        return Outcome(folder=self._folder, step=self._state.step, steps=self._plan.steps, last=last)

    def _train(self, stop: StopSignal) -> bool:
        """All steps that are left; True if a signal ended them early."""
        plan, state, settings = self._plan, self._state, self._plan.settings
        device, train = plan.ranks.device, plan.prepared.train
        trainer = stepper(state.trainer, settings, plan.precision, plan.ranks)
        guard = Guard(device, plan.order, train)
        meter = Meter(plan)
        feed = Feed(train, plan.order, keeper_for(train, settings.data.resident, device), device)
        for parts in feed.steps(state.step, plan.steps):
            rate = plan.schedule.at(state.step)
            frozen = state.step < plan.frozen
            with guard.over(state.step):
                result = trainer.step(parts, state.step, torch.full((), rate, device=device), frozen=frozen)
            guard.note(state.step, result.loss, result.gradient_norm)
            meter.add(result)
            if state.ema is not None and not frozen:
                state.ema.update(state.step)
            state.step += 1
            self._progress(state.step, plan.steps)

            due = self._due()
            look = due.any or state.step % guard.every == 0
            stopping = look and state.step < plan.steps and plan.ranks.any(stop.came)
            if look:
                guard.look()
            if due.evaluate or due.save or stopping:  # nothing that is not a number is ever kept
                guard.look_at(state.weights, state.step - 1)
            if due.log or stopping:
                self._write("train", meter.figures(state.step, rate))
            with meter.away():
                if due.evaluate:
                    self._evaluate()
                if due.save or stopping:
                    state.save(self._folder)
            if stopping:
                return True
        return False

    def _due(self) -> _Due:
        """After so many steps; everything is due after the last one."""
        plan, step = self._plan, self._state.step
        last = step == plan.steps
        return _Due(
            log=last or step == 1 or step % plan.settings.log.every == 0,
            evaluate=plan.evaluate_every > 0 and (last or step % plan.evaluate_every == 0),
            save=last or step % plan.checkpoint_every == 0,
        )

    def _before(self) -> None:
        """How good the network is before the first step, there and at the gate."""
        state = self._state
        if self._watch is not None:
            with state.shown() as embed:
                if self._plan.evaluate_every:
                    self._write("evaluate", {"sets": self._watch.look(embed)})
                gate = self._watch.at_gate(embed)
            state.gate_before = None if gate is None else float(gate["value"])
        self._plan.ranks.wait()

    def _evaluate(self) -> None:
        """On the first rank, while the others wait."""
        state = self._state
        if self._watch is not None:
            with state.shown() as embed:
                looked = self._watch.look(embed)
            best = better(state.best, looked, state.step)
            if best != state.best:
                state.best = best
                state.save_weights(self._folder / BEST)
            self._write("evaluate", {"sets": looked})
        self._plan.ranks.wait()

    def _end(self) -> Line:
        """The files that a run leaves, then its gate."""
        state, folder = self._state, self._folder
        if self._watch is None:
            self._plan.ranks.wait()
            return {}
        give_backbone(state, folder, best=self._plan.settings.evaluate.keep == "best")
        gate = self._gate()
        last = self._write("end", {"seconds": time.perf_counter() - self._started, **notes_of(state), **gate})
        draw_curves(folder)
        self._plan.ranks.wait()
        if gate:
            self._watch.check_gate(gate["gate"]["before"], gate["gate"]["after"])
        return last

    def _gate(self) -> dict[str, Any]:
        """Before and after, of the weights that the run leaves."""
        assert self._watch is not None
        before = self._state.gate_before
        if before is None:
            return {}
        load_backbone(self._state.module, self._plan.network, self._folder / BACKBONE)
        after = self._watch.at_gate(embedder(self._state.module, self._plan.ranks.device))
        return {} if after is None else {"gate": {"before": before, "after": float(after["value"])}}

    def _open_files(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise ConfigError(
                f"{self._folder}: cannot be made ({err.strerror or err}); choose another place with --output"
            ) from err
        text = yaml.safe_dump(self._plan.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_kept(self._folder / SETTINGS, text.encode())
        if self._state.step < self._plan.steps:  # of a run that ended, and now goes on
            (self._folder / BACKBONE).unlink(missing_ok=True)
        self._log = RunLog(
            self._folder,
            done=self._state.step if self._resumed else None,
            tensorboard=self._plan.settings.log.tensorboard,
        )

    def _write(self, kind: str, figures: dict[str, Any]) -> Line:
        """On the first rank."""
        if self._log is None:
            return {}
        line = self._log.write(kind, self._state.step, figures)
        self._told(line)
        return line


def claim(folder: Path, *, resume: bool) -> None:
    """Whether a run may write to a folder.

    Raises:
        ConfigError: it holds another run, or none to go on with.
    """
    holds = any((folder / name).exists() for name in (CHECKPOINT, SETTINGS))
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; give a folder for the run with --output")
    if holds and not resume:
        raise ConfigError(f"{folder}: holds a run already; go on with it by --resume, or choose another --output")
    if resume and not holds:
        raise ConfigError(f"{folder}: holds no run to go on with; start one without --resume")


def _silent(*_: object) -> None:
    return None
