"""What train/ raises. Each message says what, where and what to do, in one sentence."""

from __future__ import annotations


class TrainError(Exception):
    """Something that a person gave to ``python -m train`` is wrong, or the machine cannot do it."""


class DataError(TrainError):
    """A data set, or a file of one, is missing, damaged, hostile, or not what it says."""


class ConfigError(TrainError):
    """Options that do not go together, or not with the data."""


class CheckpointError(TrainError):
    """A checkpoint is missing, damaged, or of another network or data set."""


class Diverged(TrainError):  # noqa: N818 - reads better where it is raised
    """The loss or a gradient is not a number any more; the message names the batch."""


class GateFailed(TrainError):  # noqa: N818 - reads better where it is raised
    """The run has forgotten more of what it could before than its configuration allows."""


class DeviceFull(TrainError):  # noqa: N818 - reads better where it is raised
    """The device's memory does not hold the run; the message says what to lower."""


class RankLost(TrainError):  # noqa: N818 - reads better where it is raised
    """Another process of a run on several does not answer any more, or never came."""
