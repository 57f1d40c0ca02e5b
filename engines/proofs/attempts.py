"""What may not run on the device at hand, tried without ending the proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engines.errors import EngineError, first_line
from engines.proofs.clock import forget_memory
from engines.proofs.record import Proof

FAILURES: Final = (RuntimeError, EngineError, ImportError)
"""Memory, a compiler, a kernel or a library that is not there."""


def attempt(
    proof: Proof, what: str, run: Callable[[], object], *, failures: tuple[type[Exception], ...] = FAILURES
) -> None:
    """Run; what stops it is noted, and its memory is given back.

    Args:
        proof: of which it is a part.
        what: named where it does not run.
        run: adds rows and checks.
        failures: that stop this part alone.
    """
    try:
        run()
    except failures as err:
        proof.skip(what, first_line(err))
    forget_memory()
