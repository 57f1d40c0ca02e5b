"""A GPU that computes nothing: tensors that say they lie on one.

With them torch checks, on any machine, what a first run on a real GPU trips over: tensors of two devices in one call,
and everything that makes the host wait for the device and cannot be recorded into a CUDA graph (``bool`` or ``item`` of
a result, shapes that depend on values). Shapes and types are the real ones; numbers are not there.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

NAME = "pretended"


@lru_cache(maxsize=1)
def pretended() -> torch.device:
    """The device, of a backend that torch knows the name of and nothing else; once a process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    backend = types.ModuleType(NAME)
    backend.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]  # type: ignore[attr-defined]
    backend.is_available = lambda: True  # type: ignore[attr-defined]
    backend.device_count = lambda: 1  # type: ignore[attr-defined]
    backend.current_device = lambda: 0  # type: ignore[attr-defined]
    backend._is_in_bad_fork = lambda: False  # type: ignore[attr-defined]
    backend.manual_seed_all = lambda seed: None  # type: ignore[attr-defined]
    _setup_privateuseone_for_python_backend(NAME, backend)
    return torch.device(NAME, 0)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Inside, tensors made on the device that it gives have no numbers; real ones are refused."""
    device = pretended()
    with FakeTensorMode():
        yield device


def moved(module: nn.Module, device: torch.device) -> nn.Module:
    """A real module's parameters and buffers as if they lay on the device; call it inside ``pretended_gpu``."""

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                part._parameters[name] = nn.Parameter(there(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = there(buffer)
    return module
