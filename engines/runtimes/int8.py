"""Whether int8 pays on this processor: asked by the runtimes that run on it.

Leaves: the reason why it does not. Without instructions that multiply bytes and add up the products, int8 is no faster
than fp32, and on x86 the sums of the older ones overflow in silence.
"""

from __future__ import annotations

import platform
from typing import Final

from engines.machine import cpu_flags

_DOT_PRODUCTS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""As Linux names them: Cascade Lake, Zen 4, Alder Lake; Armv8.2."""


def int8_obstacle() -> str | None:
    """None too where the system does not tell: a runtime's answers are proved before ``auto`` takes int8."""
    flags = cpu_flags()
    if not flags or flags & _DOT_PRODUCTS:
        return None
    wanted = "dot products (asimddp)" if platform.machine() in ("aarch64", "arm64") else "VNNI or AMX"
    return f"this processor has no int8 instructions ({wanted}), without which int8 is not faster"
