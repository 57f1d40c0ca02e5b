"""What the doctor found, as records: for people, for programs, and for the exit code.

Enters: findings of the other modules. Leaves: a ``Report``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    """Heading under which it is shown: ``versions``, ``machine``, ``engine``, ``display``, ``source``, ``gallery``."""
    name: str
    value: str
    """What is so, for people."""
    state: State = "ok"
    """``note`` is worth reading; ``problem`` keeps the program from doing what was asked."""
    advice: str = ""
    """One sentence with what to do; never empty for a problem."""

    def __post_init__(self) -> None:
        if self.state == "problem" and not self.advice:
            raise ValueError(f"{self.topic}, {self.name}: a problem needs advice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    findings: tuple[Finding, ...]
    next_steps: tuple[str, ...]
    """Commands to type next, best first."""

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.state == "problem")

    @property
    def topics(self) -> tuple[str, ...]:
        """In the order in which they were looked at."""
        return tuple(dict.fromkeys(finding.topic for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        return {
            "healthy": not self.problems,
            "findings": [asdict(finding) for finding in self.findings],
            "next": list(self.next_steps),
        }
