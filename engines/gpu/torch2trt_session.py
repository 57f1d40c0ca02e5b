"""A network with a body that torch2trt converted, at work.

Enters: a model in three parts and uint8 faces. Leaves: float32 embeddings. What comes before and after the body runs in
torch, in float32, on the session's stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import onnx
import torch
from torch import fx
from torch.nn import functional

from engines.errors import ModelFileError
from engines.gpu.buckets import BUCKETS, BucketedSession, plain
from engines.gpu.trt_build import LoadedPlan
from engines.graphs.anatomy import split
from engines.graphs.torch_graph import to_body, to_float32, to_torch
from engines.graphs.torch_layers import batch_norm


def _first(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return x


def _batch_norm(x: torch.Tensor, scale_C: torch.Tensor, shift_C: torch.Tensor) -> torch.Tensor:
    """In the one form of it that torch2trt knows."""
    zeros, ones = torch.zeros_like(scale_C), torch.ones_like(scale_C)
    return functional.batch_norm(x, zeros, ones, scale_C, shift_C, False, 0.0, 0.0)


_HOOKED: Final[dict[Callable[..., Any], Callable[[], Callable[..., Any]]]] = {
    functional.conv2d: lambda: functional.conv2d,
    functional.prelu: lambda: functional.prelu,
    functional.max_pool2d: lambda: functional.max_pool2d,
    functional.avg_pool2d: lambda: functional.avg_pool2d,
    functional.linear: lambda: functional.linear,
    torch.relu: lambda: torch.relu,
    torch.add: lambda: torch.add,
    torch.sub: lambda: torch.sub,
    torch.mul: lambda: torch.mul,
    torch.div: lambda: torch.div,
    torch.mean: lambda: torch.mean,
    torch.flatten: lambda: torch.flatten,
    torch.matmul: lambda: torch.matmul,
    batch_norm: lambda: _batch_norm,
    to_body: lambda: _first,
    to_float32: lambda: _first,
}
"""What the body may call. torch2trt watches these names while it converts, so each is looked up when it is called; what
it does not watch would become a constant without a word."""


class Watched(torch.nn.Module):
    """A body that calls torch by the names that torch2trt watches."""

    def __init__(self, inner: fx.GraphModule) -> None:
        """
        Raises:
            ModelFileError: the body calls something else.
        """
        super().__init__()
        self.inner = inner
        for node in inner.graph.nodes:
            if node.op == "call_function" and node.target not in _HOOKED:
                name = getattr(node.target, "__name__", str(node.target))
                raise ModelFileError(f"torch2trt does not convert {name!r}; use the runtime tensorrt")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = _Replay(self.inner).run(x)
        return answer


class _Replay(fx.Interpreter):
    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _HOOKED[target]()(*map(_tupled, args), **{name: _tupled(value) for name, value in kwargs.items()})


def _tupled(value: Any) -> Any:
    """torch2trt reads a list of numbers as one number."""
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Parts:
    """A model cut where torch2trt begins and ends."""

    stem: torch.nn.Module
    """uint8 (N, S, S, 3) to float32 (B, C, S, S); B is twice N where the mirror image counts too."""
    body: Watched
    head: torch.nn.Module
    """float32 (B, D) to the embeddings (N, D)."""
    image: tuple[int, ...]
    """(C, S, S)."""
    views: int
    """B / N."""

    @classmethod
    def of(cls, model: bytes, where: str) -> Parts:
        """
        Raises:
            ModelFileError: the network does not come apart so, or holds what torch2trt or torch do not know.
        """
        whole = onnx.ModelProto.FromString(model)
        side = whole.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        try:
            stem, body, head = (to_torch(part, dtype=torch.float32, where=where) for part in split(whole))
            watched = Watched(body)
        except ModelFileError as err:
            message = str(err)
            raise ModelFileError(message if message.startswith(where) else f"{where}: {message}") from err
        with torch.inference_mode():
            prepared = stem(torch.zeros((1, side, side, 3), dtype=torch.uint8))
        return cls(stem, watched, head, tuple(prepared.shape[1:]), len(prepared))


class Torch2TrtSession(BucketedSession):
    """Three parts on one stream; from one thread at a time."""

    def __init__(
        self, parts: Parts, body: torch.nn.Module, plan: LoadedPlan, where: str, device: torch.device, largest: int
    ) -> None:
        """
        Args:
            parts: of the model.
            body: ``parts.body``, converted.
            plan: the converted engine; closed with the session.
            where: names the model in messages.
            device: of CUDA; another one for tests.
            largest: batch of the body.
        """
        self._plan: Final = plan
        stem, head = parts.stem.to(device), parts.head.to(device)

        def compute(images: torch.Tensor) -> torch.Tensor:
            # its module takes the address of a temporary copy of what is not contiguous
            answer: torch.Tensor = head(body(stem(images).contiguous()).float())
            return answer

        sizes = [size for size in BUCKETS if size * parts.views <= largest]
        shape = (*parts.image[1:], 3)
        super().__init__(compute, where, "torch2trt", image_shape=shape, device=device, sizes=sizes, record=plain)

    def close(self) -> None:
        super().close()
        self._plan.close()
