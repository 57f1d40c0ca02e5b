"""What engines/ raises. Each message says what, where and what to do, in one sentence."""

from __future__ import annotations


class EngineError(Exception):
    """A model file, a runtime or a request to an engine is wrong; the message is for who started the program."""


class ModelFileError(EngineError):
    """A model file is missing, truncated, foreign, hostile, or promises something else than it holds."""


class RuntimeMissing(EngineError):  # noqa: N818 - reads better where it is raised
    """The runtime that was asked for is not installed or does not work on this machine."""


class OutOfDeviceMemory(EngineError):  # noqa: N818 - reads better where it is raised
    """A batch does not fit into the device's memory; a smaller one may."""


class DeviceLost(EngineError):  # noqa: N818 - reads better where it is raised
    """The device or its driver is gone: nothing more can run on it in this process."""


class GateFailed(EngineError):  # noqa: N818 - reads better where it is raised
    """A runtime's answers differ from the reference's by more than its precision may."""


def first_line(err: Exception | str) -> str:
    """What a library says, fit for a sentence of ours: without a full stop at its end, at most 300 characters."""
    line = (str(err).strip().splitlines() or ["no message"])[0].strip()
    return line[:300].rstrip(". ") or "no message"
