"""Reads dlib's pretrained networks without dlib.

Enters: ``dlib_face_recognition_resnet_model_v1.dat`` or ``mmod_human_face_detector.dat``. Leaves: their layers with
float32 weights. The files nest from the outermost layer to the input and back; since the layer list is known
(``engines.dlib.layers``), one loop goes in and one comes out, and no file can make the reader recurse or allocate.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.dlib.format import Reader
from engines.dlib.layers import MMOD, RESNET, Spec
from engines.errors import ModelFileError

MAX_FILE_BYTES: Final = 64 << 20
"""The larger of the two files has 22 MB."""

_BN_EPS_MAX: Final = 1.0

# O output channels, I input channels, K side of the window
Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer and its weights; ``relu``, pools, tags and additions have none.

    con: ``weights`` (O, I, K, K), ``bias`` (O,). affine: ``weights`` (O,) and ``bias`` (O,), y = weights * x + bias.
    fc: ``weights`` (I, O), y = x @ weights.
    """

    spec: Spec
    weights: Float32 | None = None
    bias: Float32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What both files hold: the colour subtracted from RGB before dividing by 256, and the layers from the input on."""

    sha256: str
    mean_rgb: tuple[float, float, float]
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """The detector's network, the side of its window in pixels and its rule for suppressing overlapping boxes."""

    network: Network
    window: int
    nms_iou: float
    nms_covered: float


def read_resnet(path: Path) -> Network:
    """The 128-dimensional face descriptor.

    Raises:
        ModelFileError: missing, truncated, foreign or damaged file.
    """
    return parse_resnet(_load(path), path.name)


def read_mmod(path: Path) -> Detector:
    """The CNN face detector.

    Raises:
        ModelFileError: missing, truncated, foreign or damaged file.
    """
    return parse_mmod(_load(path), path.name)


def parse_resnet(data: bytes, where: str) -> Network:
    """As ``read_resnet``, from memory; ``where`` names the file in messages."""
    reader = Reader(data, where)
    _loss_tag(reader, "loss_metric_2", "dlib's face descriptor (dlib_face_recognition_resnet_model_v1.dat)")
    reader.real("the margin")
    reader.real("the distance threshold")
    return _read_subnet(reader, RESNET, "input_rgb_image_sized", data)


def parse_mmod(data: bytes, where: str) -> Detector:
    """As ``read_mmod``, from memory; ``where`` names the file in messages."""
    reader = Reader(data, where)
    _loss_tag(reader, "loss_mmod_", "dlib's face detector (mmod_human_face_detector.dat)")
    reader.integer(1, 1, "the version of the options")
    window = reader.integer(1, 4096, "the window's width")
    reader.integer(window, window, "the window's height (a square is expected)")
    for what in ("loss_per_false_alarm", "loss_per_missed_target", "truth_match_iou"):
        reader.real(what)
    nms_iou, nms_covered = (reader.real("an overlap") for _ in range(2))
    if not (0 < nms_iou <= 1 and 0 < nms_covered <= 1):
        reader.fail(f"overlaps {nms_iou} and {nms_covered} are no shares of an area")
    reader.real("an overlap to ignore")
    reader.real("an overlap to ignore")
    network = _read_subnet(reader, MMOD, "input_rgb_image_pyramid", data)
    return Detector(network=network, window=window, nms_iou=nms_iou, nms_covered=nms_covered)


def _load(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path}: {size} bytes are too many for one of dlib's networks; give the .dat file")
        return path.read_bytes()
    except OSError as err:
        raise ModelFileError(f"{path}: cannot be read ({err.strerror}); give the path of dlib's .dat file") from err


def _loss_tag(reader: Reader, tag: str, kind: str) -> None:
    try:
        reader.integer(1, 1, "the file's version")
        found = reader.text("the loss")
    except ModelFileError as err:
        raise ModelFileError(f"{err} (expected {kind})") from err
    if found != tag:
        reader.fail(f"the file starts with {found!r}, not with {tag!r}, so it is not {kind}")


def _read_subnet(reader: Reader, specs: tuple[Spec, ...], input_tag: str, data: bytes) -> Network:
    for spec in reversed(specs[1:]):
        expected = 1 if spec.bare else 2
        reader.integer(expected, expected, f"the version of layer {spec.kind}")
    reader.integer(3, 3, "the version of the first layer")
    mean_rgb = _read_input(reader, input_tag)
    layers = []
    for index, spec in enumerate(specs):
        layers.append(_read_layer(reader, spec))
        if not spec.bare:
            _skip_tail(reader, first=index == 0)
    reader.end()
    return Network(sha256=hashlib.sha256(data).hexdigest(), mean_rgb=mean_rgb, layers=tuple(layers))


def _read_input(reader: Reader, tag: str) -> tuple[float, float, float]:
    found = reader.text("the input layer")
    if found != tag:
        reader.fail(f"the input layer is {found!r}; expected {tag!r}")
    red, green, blue = (reader.real("the mean colour") for _ in range(3))
    if not all(0 <= value <= 256 for value in (red, green, blue)):
        reader.fail(f"the mean colour ({red:g}, {green:g}, {blue:g}) is outside 0 to 256")
    if tag == "input_rgb_image_sized":
        reader.integer(150, 150, "the input's height")
        reader.integer(150, 150, "the input's width")
    return red, green, blue


def _skip_tail(reader: Reader, *, first: bool) -> None:
    """Training state after a layer's details: three flags and gradients, which a published file holds empty."""
    for _ in range(3):
        reader.flag()
    for what in ("x_grad", "cached_output", "the last gradient"):
        reader.tensor(what)
    if first:
        reader.integer(1, 1 << 31, "the sample expansion factor")


def _read_layer(reader: Reader, spec: Spec) -> Layer:
    if spec.bare:
        return Layer(spec)
    tag = reader.text(f"the tag of layer {spec.kind}")
    if spec.kind == "con":
        return _read_con(reader, spec, tag)
    if spec.kind == "affine":
        return _read_bn(reader, spec) if tag == "bn_con2" else _read_affine(reader, spec, tag)
    if spec.kind == "fc":
        return _read_fc(reader, spec, tag)
    if spec.kind in ("max_pool", "avg_pool"):
        _read_pool(reader, spec, tag)
    # relu_110 and add_prev_111 are tag and version in one: older writers joined them
    elif not tag.startswith({"relu": "relu_", "add_prev": "add_prev"}[spec.kind]):
        reader.fail(f"found layer {tag!r}; expected {spec.kind}")
    elif tag == "relu_2":
        reader.flag()
    return Layer(spec)


def _read_con(reader: Reader, spec: Spec, tag: str) -> Layer:
    if tag not in ("con_4", "con_5", "con_6"):
        reader.fail(f"found layer {tag!r}; expected a convolution (con_4 to con_6)")
    params = reader.tensor("a convolution")
    for expected, what in (
        (spec.filters, "the number of filters"),
        (spec.size, "the filter's height"),
        (spec.size, "the filter's width"),
        (spec.stride, "the vertical stride"),
        (spec.stride, "the horizontal stride"),
        (spec.pad, "the vertical padding"),
        (spec.pad, "the horizontal padding"),
    ):
        reader.integer(expected, expected, what)
    shape = (spec.filters, spec.channels, spec.size, spec.size)
    if reader.alias("filters") != shape:
        reader.fail(f"the filters are not shaped {shape}")
    reader.alias("biases")
    _skip_multipliers(reader)
    for _ in range({"con_4": 0, "con_5": 1, "con_6": 2}[tag]):
        reader.flag()
    count = int(np.prod(shape))
    if params.size != count + spec.filters:
        reader.fail(f"a convolution has {params.size} weights; expected {count} and {spec.filters} biases")
    return Layer(spec, params[:count].reshape(shape), params[count:])


def _read_affine(reader: Reader, spec: Spec, tag: str) -> Layer:
    if tag not in ("affine_", "affine_2"):
        reader.fail(f"found layer {tag!r}; expected affine_ or bn_con2")
    params = reader.tensor("an affine layer")
    reader.alias("gamma")
    reader.alias("beta")
    reader.integer(0, 1, "the mode of an affine layer")
    if tag == "affine_2" and reader.flag():
        reader.fail("an affine layer is disabled")
    gamma, beta = _halves(reader, params, spec.filters)
    return Layer(spec, gamma, beta)


def _read_bn(reader: Reader, spec: Spec) -> Layer:
    """Batch normalisation as trained, folded into the affine layer that the network uses."""
    params = reader.tensor("a normalisation layer")
    reader.alias("gamma")
    reader.alias("beta")
    reader.tensor("batch means")
    reader.tensor("batch deviations")
    means, variances = reader.tensor("running means"), reader.tensor("running variances")
    reader.integer(0, 1 << 62, "the number of updates")
    reader.integer(0, 1 << 31, "the window of the running statistics")
    _skip_multipliers(reader)
    eps = reader.real("epsilon")
    gamma, beta = _halves(reader, params, spec.filters)
    if means.size != spec.filters or variances.size != spec.filters:
        reader.fail(f"{means.size} means and {variances.size} variances for {spec.filters} channels")
    if not 0 < eps <= _BN_EPS_MAX or (variances < 0).any():
        reader.fail("a variance or epsilon is negative")
    scale = gamma.astype(np.float64) / np.sqrt(variances.astype(np.float64) + eps)
    bias = beta.astype(np.float64) - scale * means.astype(np.float64)
    return Layer(spec, _as_float32(reader, scale), _as_float32(reader, bias))


def _read_fc(reader: Reader, spec: Spec, tag: str) -> Layer:
    if tag not in ("fc_2", "fc_3"):
        reader.fail(f"found layer {tag!r}; expected fc_2 or fc_3")
    reader.integer(spec.filters, spec.filters, "the number of outputs")
    reader.integer(spec.channels, spec.channels, "the number of inputs")
    params = reader.tensor("the last layer")
    reader.alias("weights")
    reader.alias("biases")
    reader.integer(1, 1, "the bias mode (no bias is expected)")
    _skip_multipliers(reader)
    if tag == "fc_3":
        reader.flag()
    if params.size != spec.filters * spec.channels:
        reader.fail(f"the last layer has {params.size} weights; expected {spec.channels} x {spec.filters}")
    return Layer(spec, params.reshape(spec.channels, spec.filters))


def _read_pool(reader: Reader, spec: Spec, tag: str) -> None:
    if tag != f"{spec.kind}_2":
        reader.fail(f"found layer {tag!r}; expected {spec.kind}_2")
    for expected in (spec.size, spec.size, spec.stride, spec.stride, spec.pad, spec.pad):
        reader.integer(expected, expected, "the size, stride or padding of a pooling window")


def _skip_multipliers(reader: Reader) -> None:
    """Learning rates and weight decays, of the weights and of the biases."""
    for _ in range(4):
        reader.real("a learning rate multiplier")


def _halves(reader: Reader, params: Float32, channels: int) -> tuple[Float32, Float32]:
    if params.size != 2 * channels:
        reader.fail(f"{params.size} scales and shifts for {channels} channels; expected {2 * channels}")
    return params[:channels], params[channels:]


def _as_float32(reader: Reader, values: NDArray[np.float64]) -> Float32:
    if not (np.abs(values) < np.finfo(np.float32).max).all():
        reader.fail("a scale is not a finite float32")
    return values.astype(np.float32)
