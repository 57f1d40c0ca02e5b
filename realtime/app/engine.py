"""The engine of one run: what is ready at once, and what is built for it.

Enters: the ``embed`` section and the gallery's path. Leaves: an ``Engine``; beside a camera it changes over to a faster
one when that is built, for a file the build comes first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engines.engine import Engine, Faces_NHWC
from realtime.app.people_output import say
from realtime.faces.embedding import open_embedder
from realtime.flow.upgrade import UpgradingEngine, leave_at_exit
from realtime.people.enrolled_crops import enrolled_crops
from realtime.settings import EmbedSettings

COMPARED_FACES: Final = 32
"""Enrolled faces on which a better engine is held to the one that runs."""


class RunEngine:
    """Opens at once.

    Args:
        settings: what to open.
        gallery: whose stored crops serve to calibrate and to compare; may not be there yet.

    Raises:
        EngineError, RealtimeError: as ``open_embedder``.
    """

    def __init__(self, settings: EmbedSettings, gallery: Path) -> None:
        self.gallery = gallery
        """May be set until ``begin``."""
        self._upgrade: UpgradingEngine | None = None
        opened = open_embedder(settings, enrolled=self._enrolled, wait=False)
        self.engine: Engine = opened
        if opened.better is not None:
            template = opened.manifest.template
            self._upgrade = UpgradingEngine(
                opened, lambda: self._enrolled(template, COMPARED_FACES), lambda text: say(text, err=True)
            )
            self.engine = self._upgrade

    def _enrolled(self, template: str, limit: int) -> Faces_NHWC:
        return enrolled_crops(self.gallery, template, limit)

    def begin(self, *, live: bool) -> None:
        """Build what is better, if anything is: beside a run that is ``live``, else now, because the output of a file
        may not depend on when a build was done."""
        if self._upgrade is None:
            return
        if live:
            self._upgrade.start()
            return
        from tqdm import tqdm

        with tqdm(desc="building the engine", bar_format="{desc} {elapsed}", leave=False, disable=None) as bar:
            self._upgrade.finish(bar.refresh)

    def close(self) -> None:
        """Free it; may be called twice."""
        self.engine.close()

    def leave(self, code: int) -> None:
        """After everything is closed: a build that cannot be interrupted holds up neither the end of the process nor
        spoils its exit code."""
        if self._upgrade is not None:
            leave_at_exit(self._upgrade, code)
