"""What is known of a runtime's answers for one model on this machine.

Enters: the outcome of a comparison with the reference. Leaves: a small file in the cache, and a ``Verdict`` whenever
that model is opened again on that runtime. A verdict is forgotten with what it was reached on: another file, another
version of the runtime, another precision, another processor.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from engines.export import write_atomically
from engines.machine import processor
from engines.store import cache_dir

COSINE_FLOORS: Final = {"fp32": 0.9999, "bf16": 0.999, "fp16": 0.999}
"""Smallest cosine to the fp32 reference that a single face may have. int8 has no such gate: it passes only on a
labelled set, where its error rates may not be worse."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a runtime's answers may stand for the reference's."""

    model_sha256: str
    """Of the fp32 file, whatever a runtime makes of it; in int8 of the quantised one, which depends on its faces."""
    runtime: str
    version: str
    precision: str
    passed: bool
    reason: str
    """One clause with figures, for people."""
    labelled: bool = False
    """Reached on a labelled set (error rates), not on the drift of single faces alone."""
    figures: dict[str, float] = field(default_factory=dict)


def read(model_sha256: str, runtime: str, version: str, precision: str) -> Verdict | None:
    """What was recorded; None where nothing was, or it cannot be read."""
    path = _path(model_sha256, runtime, version, precision)
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        verdict = Verdict(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as err:
        _log.warning("%s: passed over, it cannot be read (%s)", path, err)
        return None
    same = (verdict.model_sha256, verdict.runtime, verdict.version, verdict.precision)
    whole = isinstance(verdict.passed, bool) and isinstance(verdict.labelled, bool)
    return verdict if whole and same == (model_sha256, runtime, version, precision) else None


def record(verdict: Verdict) -> None:
    """Keep it; a cache that cannot be written costs the comparison at the next start, nothing else."""
    path = _path(verdict.model_sha256, verdict.runtime, verdict.version, verdict.precision)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(verdict), indent=1).encode())
    except OSError as err:
        _log.warning("%s: the outcome of a comparison cannot be kept (%s)", path, err.strerror)


def _path(model_sha256: str, runtime: str, version: str, precision: str) -> Path:
    key = hashlib.sha256(repr((model_sha256, runtime, version, precision, processor())).encode()).hexdigest()[:24]
    return cache_dir() / "verdicts" / f"{runtime}-{precision}-{key}.json"
