"""How a model gets onto a runtime: rows are tried, fastest first, until one opens and answers as it should.

Enters: a model, wishes, and where faces to calibrate on come from. Leaves: an open session, the words about the choice,
and what would be better once it is built.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from engines import verdicts
from engines.errors import EngineError, GateFailed
from engines.export import ModelFile
from engines.parity import judge
from engines.quantise import Calibration, at_hand, quantised, quantised_or_build
from engines.runtimes import GPU, REFERENCE, Candidates, Choice, Row, Session, Wishes, runtime_module


class Forms:
    """A model, and the bytes that each precision of it runs on."""

    def __init__(self, model: ModelFile, calibration: Calibration | None) -> None:
        self.model: Final = model
        self._calibration = calibration
        self._int8: ModelFile | None = None

    def quantised(self) -> ModelFile | None:
        """The int8 form that is at hand."""
        if self._int8 is None:
            self._int8 = at_hand(self.model, self._calibration)
        return self._int8

    def ready(self, row: Row) -> bool:
        """Whether a session opens without a long build."""
        if row.precision == "int8":
            self._int8 = self._int8 or quantised(self.model, self._calibration)
            if self._int8 is None:
                return False
        return runtime_module(row.runtime).ready(self.content(row), row.precision)

    def content(self, row: Row) -> bytes:
        """Made where it has to be.

        Raises:
            EngineError: there is no int8 form, and none can be made.
        """
        return self.file(row).content

    def file(self, row: Row) -> ModelFile:
        """Whose bytes ``content`` gives; verdicts go by it.

        Raises:
            EngineError: as ``content``.
        """
        if row.precision != "int8":
            return self.model
        if self._int8 is None:
            self._int8 = quantised_or_build(self.model, self._calibration)
        return self._int8


@dataclass(frozen=True, slots=True)
class Opened:
    session: Session
    choice: Choice
    better: Choice | None
    """What would have been taken if it were ready."""


_log: Final = logging.getLogger(__name__)


def open_first(forms: Forms, wishes: Wishes, *, only_ready: bool = False, lost: str = "") -> Opened:
    """Open the fastest row that serves.

    Args:
        only_ready: pass over what has to be built first; where nothing else is wished for, take anything meanwhile,
            and so where what is wished for has failed its gate: a program that ran yesterday must start today.
        lost: why no GPU is to be tried.
    """
    candidates = Candidates(forms.model, wishes, quantised=forms.quantised)
    better: Choice | None = None
    failure: EngineError | None = None
    for row in candidates:
        if lost and row.runtime in GPU:
            candidates.pass_over(row, lost)
        else:
            try:
                if only_ready and not forms.ready(row):
                    better = better or candidates.choice(row)
                    candidates.pass_over(row, "not built yet")
                    continue
                return Opened(_session(forms, wishes, row), candidates.choice(row), better)
            except EngineError as err:
                if wishes.exact:
                    raise
                failure = failure or err
                candidates.pass_over(row, str(err))
    mistrusted = only_ready and candidates.mistrusted
    if better is None and not mistrusted:
        raise failure or candidates.refusal()
    if better is None:
        _log.warning("%s", candidates.refusal())
    anything = Wishes(threads=wishes.threads)
    if wishes == anything:  # nothing is ready: what has to be built is waited for
        return open_first(forms, anything, lost=lost)
    return replace(open_first(forms, anything, only_ready=True, lost=lost), better=better)


def _session(forms: Forms, wishes: Wishes, row: Row) -> Session:
    """Open a row, and look at its answers where ``auto`` chose it and nobody has looked yet.

    Raises:
        GateFailed: they differ from the reference's.
        EngineError: it cannot be opened.
    """
    model, module = forms.model, runtime_module(row.runtime)
    content = forms.content(row)
    session = module.open_session(content, model.where, precision=row.precision, threads=wishes.threads)
    trusted = wishes.exact or (row.runtime, row.precision) == REFERENCE or model.manifest.precision != "fp32"
    if trusted or row.precision not in verdicts.COSINE_FLOORS:
        return session
    try:
        if verdicts.read(model.sha256, row.runtime, module.version(), row.precision) is None:
            verdict = judge(model, row, session, module.version())
            verdicts.record(verdict)
            if not verdict.passed:
                raise GateFailed(f"its answers failed their gate ({verdict.reason})")
    except BaseException:
        session.close()
        raise
    return session
