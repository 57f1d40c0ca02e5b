"""Weights of a known network as a model file.

Enters: weights, or a seed, and what their owner says of them (``Terms``). Leaves: a ``ModelFile`` with its manifest,
proved by a real inference, in fp32 or with a body of float16.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Final

import onnx

from engines.errors import ModelFileError
from engines.export import CONVERTER, ModelFile, check_model, with_manifest
from engines.graphs.mixed_precision import to_mixed
from engines.intake.adopt import Terms
from engines.intake.contract import prove
from engines.manifest import CROPS, Manifest
from engines.networks import Network
from engines.networks.random_weights import digest, random_state
from engines.networks.to_onnx import Arrays, to_onnx
from engines.networks.weights import Weights

PRECISIONS: Final = ("fp32", "mixed-fp16")
"""Forms in which a file can be exported; int8 needs faces, so it has a command of its own."""

RANDOM_LICENCE: Final = "none needed: random weights"
RANDOM_SET: Final = "none: random weights, to measure speed and plumbing; its names mean nothing"


def model_of(weights: Weights, network: Network, terms: Terms, where: str, *, colour: str = "rgb") -> ModelFile:
    """The model of weights that ``matching.match`` has found to be those of ``network``.

    Args:
        weights: read by ``read_weights``.
        network: with the number of dimensions that the weights have.
        terms: what the manifest says besides.
        where: names the file in messages.
        colour: order of channels that the weights were trained on, ``rgb`` or ``bgr``.

    Raises:
        ModelFileError: the template is of another size, the weights are not usable, or the model fails its proof.
        RuntimeMissing: ONNX Runtime does not work here.
    """
    return _proved(network, weights.arrays, weights.sha256, terms, where, colour)


def random_model(network: Network, seed: int, *, unit_length: bool = True, mirrored: bool = False) -> ModelFile:
    """A model that nobody trained; its manifest says so.

    Raises:
        RuntimeMissing: ONNX Runtime does not work here.
    """
    arrays = random_state(network, seed)
    terms = Terms(
        name=f"{network.name}-random-{seed}",
        unit_length=unit_length,
        mirrored=mirrored,
        licence=RANDOM_LICENCE,
        training_set=RANDOM_SET,
    )
    return _proved(network, arrays, digest(arrays), terms, terms.name, "rgb")


def in_precision(model: ModelFile, precision: str) -> ModelFile:
    """The model in one of ``PRECISIONS``.

    Raises:
        ModelFileError: the model is of another precision than fp32 and cannot be turned into the one wanted, or it
            does not survive float16.
    """
    if model.manifest.precision == precision:
        return model
    if model.manifest.precision != "fp32":
        raise ModelFileError(
            f"{model.where}: is {model.manifest.precision} already and cannot become {precision}; give the fp32 file"
        )
    mixed = to_mixed(onnx.ModelProto.FromString(model.content))
    made = check_model(with_manifest(mixed, replace(model.manifest, precision=precision)), model.where)
    prove(made)
    return made


def _proved(network: Network, arrays: Arrays, sha256: str, terms: Terms, where: str, colour: str) -> ModelFile:
    if CROPS.get(terms.template, network.input_size) != network.input_size:
        raise ModelFileError(
            f"{where}: {network.name} takes faces of {network.input_size} pixels, which the alignment template "
            f"{terms.template!r} does not make; name the one it was trained on"
        )
    try:
        graph = to_onnx(network, arrays, unit_length=terms.unit_length, mirrored=terms.mirrored, colour=colour)
    except ModelFileError as err:
        raise ModelFileError(f"{where}: {err}") from err
    model = check_model(with_manifest(graph, _manifest(network, sha256, terms)), where)
    prove(model)
    return model


def _manifest(network: Network, sha256: str, terms: Terms) -> Manifest:
    return Manifest(
        name=terms.name,
        network=network.name,
        weights_sha256=sha256,
        template=terms.template,
        input_size=network.input_size,
        dimensions=network.dimensions,
        unit_length=terms.unit_length,
        mirrored=terms.mirrored,
        threshold=terms.threshold,
        threshold_fmr=terms.threshold_fmr,
        threshold_source=terms.threshold_source,
        licence=terms.licence,
        training_set=terms.training_set,
        tools=f"realtime converter {CONVERTER}, onnx {version('onnx')}",
    )
