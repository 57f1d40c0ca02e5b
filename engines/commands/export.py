"""``python -m engines export``: any network as one ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engines.commands.import_ import (
    ColourOption,
    FmrOption,
    LicenceOption,
    MirroredOption,
    NetworkOption,
    TemplateOption,
    ThresholdOption,
    TrainingSetOption,
    UnitLengthOption,
    read_model,
    refuse,
)
from engines.errors import ModelFileError
from engines.export import WEIGHTS_SUFFIXES, write_wanted
from engines.networks import NETWORKS

if TYPE_CHECKING:
    from engines.export import ModelFile

DLIB: Final = "dlib-resnet"
PRECISIONS: Final = ("fp32", "mixed-fp16")

_FORM: Final = frozenset({"unit_length", "mirrored"})
_SAID: Final = frozenset({"template", "threshold", "fmr", "licence", "training_set", "colour"})


def register(app: typer.Typer) -> None:
    app.command("export")(export)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to export, and the options that were given."""

    what: str
    said: dict[str, Any]

    @property
    def form(self) -> dict[str, Any]:
        return {key: self.said[key] for key in _FORM & set(self.said)}


def export(
    what: Annotated[
        str,
        typer.Argument(
            help=f"{DLIB}, a file of weights, the name or file of a model that is here, or with --random a network: "
            f"{', '.join(NETWORKS)}."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    precision: Annotated[
        str, typer.Option(help="fp32, or mixed-fp16: a body of float16 for TensorRT, its last layer in float32.")
    ] = "fp32",
    network: NetworkOption = None,
    random: Annotated[
        int | None, typer.Option(min=0, help="A seed: weights that nobody trained, to measure speed and plumbing.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="dlib's .dat file; the installed one if not given.")] = None,
    name: Annotated[str | None, typer.Option(help="Name in the manifest; the network's if not given.")] = None,
    template: TemplateOption = None,
    threshold: ThresholdOption = None,
    fmr: FmrOption = None,
    licence: LicenceOption = None,
    training_set: TrainingSetOption = None,
    colour: ColourOption = None,
    unit_length: UnitLengthOption = None,
    mirrored: MirroredOption = None,
) -> None:
    """Convert a network to one ONNX file with its manifest inside."""
    from engines.networks.model_files import in_precision

    if precision not in PRECISIONS:
        raise typer.BadParameter(f"precision is {precision!r}; known are {', '.join(PRECISIONS)}")
    said = {
        "network": network,
        "random": random,
        "weights": weights,
        "name": name,
        "template": template,
        "threshold": threshold,
        "fmr": fmr,
        "licence": licence,
        "training_set": training_set,
        "colour": colour,
        "unit_length": unit_length,
        "mirrored": mirrored,
    }
    wish = Wish(what, {key: value for key, value in said.items() if value is not None})
    model = in_precision(_model(wish), precision)
    write_wanted(output, model.content)
    manifest = model.manifest
    print(f"{output}: {manifest.name}, {len(model.content) / 1e6:.1f} MB, model {manifest.model_id}")


def _model(wish: Wish) -> ModelFile:
    """By what the argument is; options that would have no effect are refused."""
    if wish.what == DLIB:
        kind, make, taken = "dlib's network", _dlib, _FORM | {"weights"}
    elif wish.what in NETWORKS:
        kind, make, taken = "random weights", _random, _FORM | {"random"}
    elif Path(wish.what).suffix.lower() in WEIGHTS_SUFFIXES:
        kind, make, taken = "a file of weights", _weights, _FORM | _SAID | {"network", "name"}
    else:
        kind, make, taken = "a finished model", _finished, frozenset()
    refuse({key: value for key, value in wish.said.items() if key not in taken}, f"this exports {kind}")
    return make(wish)


def _dlib(wish: Wish) -> ModelFile:
    from engines.export import check_model, dlib_manifest, dlib_model
    from engines.models import DEFAULT, known_model

    known = known_model(DEFAULT)
    form = {"unit_length": True, "mirrored": True, **wish.form}
    manifest = dlib_manifest(known, **form)
    return check_model(dlib_model(known, wish.said.get("weights") or known.weights_path(), manifest), known.name)


def _random(wish: Wish) -> ModelFile:
    from engines.networks.model_files import random_model

    if "random" not in wish.said:
        raise typer.BadParameter(
            f"{wish.what} is a network without weights; give a file of weights with --network {wish.what}, "
            "or --random 0"
        )
    return random_model(NETWORKS[wish.what], wish.said["random"], **wish.form)


def _weights(wish: Wish) -> ModelFile:
    said = {key: value for key, value in wish.said.items() if key in _FORM | _SAID}
    return read_model(Path(wish.what), wish.said.get("network"), wish.said.get("name"), said)[0]


def _finished(wish: Wish) -> ModelFile:
    from engines.store import find_model

    try:
        return find_model(wish.what)
    except ModelFileError as err:
        if Path(wish.what).suffix:
            raise
        raise typer.BadParameter(f"{err}; or one of {DLIB}, {', '.join(NETWORKS)}") from err
