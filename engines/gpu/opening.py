"""A model on a device for callers whose faces lie there already.

Enters: a model file, a device, a precision. Leaves: a ``BucketedSession``, whose ``on_device`` takes and gives tensors.
On a processor it runs the same graph without recording it, so that what is built on it is tested anywhere.
"""

from __future__ import annotations

import torch

from engines.export import ModelFile
from engines.gpu.buckets import BucketedSession
from engines.gpu.candidates import WAYS, Candidates
from engines.graphs.folding import fold_bytes
from engines.runtimes import torch_cuda


def open_on_device(model: ModelFile, device: torch.device, precision: str) -> BucketedSession:
    """
    Args:
        model: in fp32.
        device: a GPU, in the fastest way that is known there, or the processor.
        precision: fp32, bf16 or fp16.

    Raises:
        ModelFileError: an operator is not known here.
        EngineError: it does not work on this device.
    """
    if device.type == "cuda":
        return torch_cuda.open_session(model.content, model.where, precision=precision, threads=1)
    folded = fold_bytes(model.content, model.where)
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    return Candidates(folded, model.where, device, dtype, ways={"eager": WAYS["eager"]}).session("eager")
