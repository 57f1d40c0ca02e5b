"""The processes of a run, and what they tell each other.

Enters: the environment that ``torchrun`` sets, on one machine or several, or nothing. Leaves: ``Ranks``. One process
needs no process group: every call is then its own answer. gloo carries tensors of a processor, NCCL those of a GPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from train.errors import ConfigError, RankLost

TIMEOUT_S: Final = 1800
"""How long a rank waits for the others: one of them evaluates meanwhile, which takes minutes. One that has ended is
noticed at once."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among those of a run. Calls are collective: every rank makes the same ones in the same order."""

    rank: int
    size: int
    device: torch.device
    """Of this rank."""

    @classmethod
    def alone(cls, device: torch.device | str = "cpu") -> Ranks:
        """One process; no process group is made."""
        return cls(0, 1, torch.device(device))

    @classmethod
    def from_environment(cls, device: str = "auto", *, timeout_s: float = TIMEOUT_S) -> Ranks:
        """Join the run that ``torchrun`` has started; alone where it has not, or has started one process.

        Args:
            device: auto, cpu, cuda, or cuda:1 where there is one process.
            timeout_s: after which a silent rank counts as lost.

        Raises:
            ConfigError: half an environment, no such device, or more ranks on this machine than GPUs.
            RankLost: the other ranks did not come.
        """
        size = _number("WORLD_SIZE", 1)
        if size == 1:
            return cls.alone(_device(device, local_rank=None))
        rank, local_rank = _number("RANK", None), _number("LOCAL_RANK", 0)
        if rank >= size:
            raise ConfigError(f"RANK is {rank} of WORLD_SIZE {size}; ranks count from 0, start them with torchrun")
        own = _device(device, local_rank=local_rank)
        if own.type == "cuda":
            torch.cuda.set_device(own)
        backend = "nccl" if own.type == "cuda" else "gloo"
        where = f"{os.environ.get('MASTER_ADDR', 'no address')}:{os.environ.get('MASTER_PORT', 'no port')}"
        try:
            dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s))
        except (RuntimeError, ValueError) as err:
            raise RankLost(
                f"rank {rank} of {size} found no others at {where} within {timeout_s:.0f} s ({_brief(err)}); start all "
                "ranks with the same torchrun options, and let the machines reach that port"
            ) from err
        return cls(rank, size, own)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def sum_(self, values: Tensor) -> Tensor:
        """The sum over ranks, in place; no gradient."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def max_(self, values: Tensor) -> Tensor:
        """The greatest over ranks, in place; no gradient."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def mean_(self, values: Tensor) -> Tensor:
        """The mean over ranks, in place; no gradient."""
        return values if self.size == 1 else self.sum_(values).div_(self.size)

    def gather(self, values: Tensor) -> Tensor:
        """All ranks' rows, one rank after the other; each brings as many as the others. No gradient."""
        if self.size == 1:
            return values
        own = values.contiguous()
        pieces = [torch.empty_like(own) for _ in range(self.size)]
        with self._others():
            dist.all_gather(pieces, own)
        return torch.cat(pieces)

    def broadcast_(self, values: Tensor, source: int = 0) -> Tensor:
        """What rank ``source`` has, in place; no gradient."""
        if self.size > 1:
            with self._others():
                dist.broadcast(values, source)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is so on some rank: a signal came, a step went wrong. Waits for the device."""
        if self.size == 1:
            return flag
        return bool(self.max_(torch.tensor([float(flag)], device=self.device)).item())

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            self.any(False)

    def close(self) -> None:
        """Leave the process group; twice is no mistake."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reduced(self, values: Tensor, operation: Any) -> Tensor:
        if self.size > 1:
            with self._others():
                dist.all_reduce(values, operation)
        return values

    @contextlib.contextmanager
    def _others(self) -> Iterator[None]:
        """A call that needs all ranks: what the library says when one is gone becomes a sentence."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as err:
            raise RankLost(
                f"rank {self.rank} of {self.size} lost the others ({_brief(err)}); one of them has failed, see what it "
                "said, then go on from the last checkpoint"
            ) from err


def _number(name: str, missing: int | None) -> int:
    text = os.environ.get(name, "" if missing is None else str(missing))
    if not text.isascii() or not text.isdigit() or (name == "WORLD_SIZE" and int(text) < 1):
        raise ConfigError(f"the environment's {name} is {text!r}; torchrun sets it, and all that belongs to it")
    return int(text)


def _device(wish: str, *, local_rank: int | None) -> torch.device:
    """The wished device; the GPU with the rank's number where there are several ranks."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish == "auto":
        wish = "cuda" if gpus else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError as err:
        raise ConfigError(f"run.device is {wish!r}; use auto, cpu, cuda or cuda:1") from err
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"run.device is {wish!r}; use auto, cpu, cuda or cuda:1")
    if device.type == "cpu":
        return torch.device("cpu")
    if not gpus:
        raise ConfigError(f"run.device is {wish}, and torch sees no GPU; install its CUDA build or set run.device=cpu")
    if local_rank is not None and device.index is not None:
        raise ConfigError(f"run.device is {wish} for several ranks; say cuda, and each rank takes a GPU of its own")
    index = device.index or 0 if local_rank is None else local_rank
    if index >= gpus:
        raise ConfigError(f"GPU {index} is wanted, this machine has {gpus}; start fewer ranks or set run.device=cpu")
    return torch.device("cuda", index)


def _brief(err: BaseException) -> str:
    """The first line of what a library says."""
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
