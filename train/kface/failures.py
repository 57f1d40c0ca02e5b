"""Why an image gives no crop."""

from __future__ import annotations


class Unusable(Exception):  # noqa: N818 - reads better where it is raised
    """One image gives no crop; the message is the reason as a phrase, details in brackets at its end.

    It never leaves this room: a reader gives its message as the value of that image.
    """
