"""A model on a device for callers whose faces lie there already.

Enters: a model file, a device, a precision. Leaves: a ``BucketedSession``, whose ``on_device`` takes and gives tensors.
On a processor it runs the same graph without recording it, so that what is built on it is tested anywhere.
"""

from __future__ import annotations

import torch

from engines.export import ModelFile
from engines.gpu.buckets import BucketedSession
from engines.gpu.candidates import DTYPES, WAYS, Candidates
from engines.graphs.folding import fold_bytes
from engines.runtimes import torch_cuda


def open_on_device(model: ModelFile, device: torch.device, precision: str, *, measured: bool = True) -> BucketedSession:
    """
    Args:
        model: in fp32.
        device: a GPU or the processor.
        precision: fp32, bf16 or fp16.
        measured: on a GPU in the fastest way, which takes a minute to find out the first time; else with torch's own
            kernels, as always on the processor.

    Raises:
        ModelFileError: an operator is not known here.
        EngineError: it does not work on this device.
    """
    if measured and device.type == "cuda":
        return torch_cuda.open_session(model.content, model.where, precision=precision, threads=1)
    folded = fold_bytes(model.content, model.where)
    return Candidates(folded, model.where, device, DTYPES[precision], ways={"eager": WAYS["eager"]}).session("eager")
