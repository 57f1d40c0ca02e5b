"""What realtime/ raises for a user's mistake or the world's: one sentence with what, where and what to do."""

from engines.errors import EngineError

__all__ = [
    "EngineError",
    "GalleryError",
    "OutputError",
    "PhotoError",
    "RealtimeError",
    "SettingsError",
    "SourceError",
    "SourceLost",
]


class RealtimeError(Exception):
    """Base of the errors below; the command line prints the message and exits with 1."""


class SettingsError(RealtimeError):
    """A configuration file or a ``--set`` is wrong; the command line exits with 2."""


class SourceError(RealtimeError):
    """A camera, file or stream cannot be opened or read, and trying again would not help."""


class SourceLost(SourceError):  # noqa: N818 - a camera being gone is no error of its own
    """A source gives nothing now, though it may again: a live one is worth opening once more."""


class PhotoError(RealtimeError):
    """An image file cannot be used; the message says why."""


class GalleryError(RealtimeError):
    """The gallery is missing, locked, corrupt, from a newer version or of another model."""


class OutputError(RealtimeError):
    """A video, events or frames file cannot be written."""
