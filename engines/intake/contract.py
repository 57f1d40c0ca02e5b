"""What every embedding model must do, proved by running it.

Enters: a checked model file. Leaves: nothing, or a ``ModelFileError`` that names what is broken. ``check_model`` reads
what a file declares; here ONNX Runtime computes: a batch must give each face what it gives alone, finite, of the
promised length, and different for different faces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from engines.errors import EngineError, ModelFileError, RuntimeMissing
from engines.export import ModelFile, all_text
from engines.runtimes import onnxruntime

STANDARD_DOMAINS: Final = ("", "ai.onnx")
"""Operators that every runtime knows."""

BATCH_TOLERANCE: Final = 1e-3
"""Largest difference between a face alone and in a batch, as a share of its embedding's length; fp32 gives 1e-6."""

UNIT_TOLERANCE: Final = 1e-3
"""How far a length may be from the promised 1."""

DEAD: Final = 1e-6
"""Embeddings of unlike images that differ by less, as a share of their length, say nothing about a face."""

_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)

# N faces, S side of the input, D embedding
Faces_NSS3 = NDArray[np.uint8]
Embeddings_ND = NDArray[np.float32]


def prove(model: ModelFile) -> None:
    """Run a model on one face and on three, on ONNX Runtime.

    Raises:
        ModelFileError: operators that only its maker has, weights that are no numbers, a graph that the runtime
            refuses or that fails, embeddings of the wrong shape, not finite, not of the promised length, the same for
            unlike faces, or dependent on the rest of the batch.
        RuntimeMissing: onnxruntime is not installed.
    """
    check_graph(onnx.ModelProto.FromString(model.content), model.where)
    faces_NSS3 = probes(model.manifest.input_size)
    together_ND, alone_ND = _embeddings(model, faces_NSS3)
    for embeddings in (together_ND, alone_ND):
        _check_values(embeddings, (len(faces_NSS3), model.manifest.dimensions), model.where)
    lengths_N = np.linalg.norm(alone_ND.astype(np.float64), axis=1)
    if _largest_distance(together_ND, alone_ND) > BATCH_TOLERANCE * lengths_N.max():
        raise ModelFileError(
            f"{model.where}: a face alone and the same face in a batch of {len(faces_NSS3)} get different embeddings; "
            "export it again with a dynamic batch axis"
        )
    if _largest_distance(alone_ND, np.roll(alone_ND, 1, axis=0)) <= DEAD * lengths_N.max():
        raise ModelFileError(
            f"{model.where}: every image gets the same embedding; its weights are not a trained network's"
        )
    if model.manifest.unit_length and np.abs(lengths_N - 1).max() > UNIT_TOLERANCE:
        raise ModelFileError(
            f"{model.where}: promises embeddings of length 1 and gives {lengths_N.max():.4g}; export the model again"
        )


def check_graph(model: onnx.ModelProto, where: str) -> None:
    """What needs no inference: operators and weights.

    Raises:
        ModelFileError: a name that is no text, an operator outside ONNX, or an initialiser with NaN, infinity or not of
            the size that it says.
    """
    if not all_text(model):
        raise ModelFileError(f"{where}: holds names that are no text; it is damaged, get the file again")
    own = {(function.domain, function.name) for function in model.functions}
    foreign = {
        f"{node.domain}.{node.op_type}"
        for node in _nodes(model)
        if node.domain not in STANDARD_DOMAINS and (node.domain, node.op_type) not in own
    }
    if foreign:
        names = plain(", ".join(sorted(foreign)))
        raise ModelFileError(f"{where}: uses operators outside ONNX ({names}); export it with standard operators only")
    for tensor in model.graph.initializer:
        if tensor.data_type not in _FLOATS:
            continue
        try:
            finite = np.isfinite(numpy_helper.to_array(tensor)).all()
        except (ValueError, TypeError) as err:
            raise ModelFileError(
                f"{where}: its weights {tensor.name!r} are damaged ({err}); get the file again"
            ) from err
        if not finite:
            raise ModelFileError(
                f"{where}: its weights {tensor.name!r} hold NaN or infinity; training has failed or the file is damaged"
            )


def plain(text: str) -> str:
    """Text of a file that is not trusted, fit for a terminal and a sentence."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])


def probes(side: int) -> Faces_NSS3:
    """Three images as unlike as images are: noise, a slope, and blocks of colour."""
    noise = np.random.default_rng(0)
    slope_S = np.linspace(0, 255, side)
    slope_SS3 = np.stack(np.broadcast_arrays(slope_S[:, None], slope_S[None], 255 - slope_S[:, None]), axis=-1)
    blocks_SS3 = noise.integers(0, 256, (7, 7, 3)).repeat(-(-side // 7), axis=0).repeat(-(-side // 7), axis=1)
    images = (noise.integers(0, 256, (side, side, 3)), slope_SS3, blocks_SS3[:side, :side])
    return np.stack([image.astype(np.uint8) for image in images])


def _embeddings(model: ModelFile, faces_NSS3: Faces_NSS3) -> tuple[Embeddings_ND, Embeddings_ND]:
    """Of all faces in one batch, and of each alone."""
    try:
        session = onnxruntime.open_session(model.content, model.where, precision="fp32", threads=1)
        try:
            return session.run(faces_NSS3), np.concatenate([session.run(face[None]) for face in faces_NSS3])
        finally:
            session.close()
    except (ModelFileError, RuntimeMissing):
        raise
    except (EngineError, ValueError) as err:
        raise ModelFileError(f"{model.where}: does not run on a batch of {len(faces_NSS3)} faces ({err})") from err


def _check_values(embeddings_ND: Embeddings_ND, shape: tuple[int, int], where: str) -> None:
    if embeddings_ND.shape != shape:
        raise ModelFileError(
            f"{where}: gives embeddings of shape {embeddings_ND.shape} for {shape[0]} faces, not {shape}; "
            "export it again with a dynamic batch axis"
        )
    if not np.isfinite(embeddings_ND).all():
        raise ModelFileError(f"{where}: gives NaN or infinity for an ordinary image; its weights are damaged")


def _largest_distance(first_ND: Embeddings_ND, second_ND: Embeddings_ND) -> float:
    return float(np.linalg.norm(first_ND.astype(np.float64) - second_ND, axis=1).max())


def _nodes(model: onnx.ModelProto) -> Iterator[Any]:
    """Every node of a model: in subgraphs and functions too; without recursion."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        for node in waiting.pop().node:
            yield node
            for attribute in node.attribute:
                waiting.extend((*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())))
