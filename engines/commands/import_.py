"""``python -m engines import``: somebody's weights become a model that has a name here."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engines.errors import ModelFileError
from engines.networks import NETWORKS, known_network

if TYPE_CHECKING:
    from engines.export import ModelFile
    from engines.intake.adopt import Terms
    from engines.networks.matching import WeightsMismatch

GIVEN_SOURCE: Final = "given at the import"
MOST_LISTED: Final = 40
"""Lines of names that do not fit; more than that is another network, and nobody reads them."""

COLOURS: Final = ("rgb", "bgr")

NetworkOption = Annotated[
    str | None, typer.Option(help=f"Of the weights: {', '.join(NETWORKS)}. Found out if not given.")
]
TemplateOption = Annotated[
    str | None, typer.Option(help="Alignment template that it was trained on; arcface_112 if not given.")
]
ThresholdOption = Annotated[
    float | None, typer.Option(help="Squared L2 distance below which two faces may match; 1.2 if not given.")
]
FmrOption = Annotated[float | None, typer.Option(help="False match rate at which the threshold was set.")]
LicenceOption = Annotated[str | None, typer.Option(help="Licence of the weights.")]
TrainingSetOption = Annotated[str | None, typer.Option(help="What the weights were trained on.")]
ColourOption = Annotated[str | None, typer.Option(help="Channels that it was trained on: rgb (the default) or bgr.")]
UnitLengthOption = Annotated[
    bool | None,
    typer.Option("--unit-length/--no-unit-length", " /--raw", help="Divide each embedding by its length, or not."),
]
MirroredOption = Annotated[
    bool | None, typer.Option("--mirrored/--no-mirrored", help="Average the face and its mirror image.")
]


def register(app: typer.Typer) -> None:
    app.command("import")(import_)


def import_(
    file: Annotated[Path, typer.Argument(help="Weights (.pt, .pth, .safetensors), or an .onnx with a manifest.")],
    network: NetworkOption = None,
    name: Annotated[str | None, typer.Option(help="What it is called here; the network's name if not given.")] = None,
    template: TemplateOption = None,
    threshold: ThresholdOption = None,
    fmr: FmrOption = None,
    licence: LicenceOption = None,
    training_set: TrainingSetOption = None,
    colour: ColourOption = None,
    unit_length: UnitLengthOption = None,
    mirrored: MirroredOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring weights here: checked, proved by a real inference, kept under a name."""
    from engines.store import keep_named, place_of

    said = {
        "template": template,
        "threshold": threshold,
        "fmr": fmr,
        "licence": licence,
        "training_set": training_set,
        "colour": colour,
        "unit_length": unit_length,
        "mirrored": mirrored,
    }
    said = {key: value for key, value in said.items() if value is not None}
    if name is not None:
        place_of(name)  # a name that cannot be one is said before the work is done
    if file.suffix.lower() == ".onnx":
        refuse({"network": network, **said}, "an .onnx file says this in its manifest")
        model, form = _onnx_model(file), "ONNX file"
    else:
        model, form = read_model(file, network, name, said, as_json=as_json)
    called = name or model.manifest.name
    path = keep_named(called, model)
    _report(called, path, model, form, as_json)


def refuse(options: dict[str, Any], why: str) -> None:
    """Raises typer.BadParameter when an option is given that would have no effect."""
    given = [f"--{key.replace('_', '-')}" for key, value in options.items() if value is not None]
    if given:
        raise typer.BadParameter(f"{', '.join(given)} cannot be given here: {why}")


def read_model(
    file: Path, network: str | None, name: str | None, said: dict[str, Any], *, as_json: bool = False
) -> tuple[ModelFile, str]:
    """The model of a file of weights, and what the file was; ``said`` holds the options that were given.

    Raises:
        ModelFileError: as ``read_weights``, ``match`` and ``model_of``; every name that does not fit is printed.
    """
    from engines.networks.matching import WeightsMismatch, guess, match
    from engines.networks.model_files import model_of
    from engines.networks.weights import read_weights

    terms = _terms(name or "", said)
    network = network or (terms.network if terms.network in NETWORKS else None)
    try:
        wanted = known_network(network) if network else None
    except ValueError as err:
        raise typer.BadParameter(str(err)) from err
    weights = read_weights(file)
    try:
        found = match(weights.arrays, wanted, str(file)) if wanted else guess(weights.arrays, str(file))
    except WeightsMismatch as err:
        _list_mismatch(err, as_json)
        raise
    terms = replace(terms, name=name or found.name, network=found.name)
    return model_of(weights, found, terms, str(file), colour=said.get("colour", "rgb")), weights.form


def _terms(name: str, said: dict[str, Any]) -> Terms:
    """What was said, over what ``configs/models.yaml`` says of a model of that name, over what suits ArcFace."""
    from engines.intake.adopt import Terms
    from engines.manifest import crop_side
    from engines.models import known_models

    if said.get("colour", "rgb") not in COLOURS:
        raise typer.BadParameter(f"colour is {said['colour']!r}; known are {', '.join(COLOURS)}")
    if "fmr" in said and "threshold" not in said:
        raise typer.BadParameter("--fmr says at which rate a threshold was set; give --threshold too")
    if not said.get("unit_length", True) and "threshold" not in said:
        raise typer.BadParameter("--raw needs --threshold: 1.2 holds between embeddings of length 1")
    known = known_models().get(name)
    if known is not None and not known.by_hand:
        raise ModelFileError(f"{name}: is the name of a model that others published; choose another with --name")
    terms = Terms(name=name) if known is None else Terms.of(known)
    fields: dict[str, Any] = {
        key: said[key] for key in ("template", "licence", "training_set", "unit_length", "mirrored") if key in said
    }
    if "threshold" in said:
        fields |= {"threshold": said["threshold"], "threshold_fmr": said.get("fmr"), "threshold_source": GIVEN_SOURCE}
    crop_side(fields.get("template", terms.template), "--template")
    try:
        return replace(terms, **fields)
    except ValueError as err:
        raise typer.BadParameter(str(err)) from err


def _onnx_model(file: Path) -> ModelFile:
    from engines.export import load_model
    from engines.intake.contract import prove

    try:
        model = load_model(file)
    except ModelFileError as err:
        if _is_foreign(file):
            raise ModelFileError(
                f"{file}: holds no realtime manifest, so it must first be told how it takes a face; "
                f"run `python -m engines adopt {file}`"
            ) from err
        raise
    prove(model)
    return model


def _is_foreign(file: Path) -> bool:
    """A whole ONNX file without a manifest."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from engines.manifest import METADATA_KEY

    try:
        model = onnx.ModelProto.FromString(file.read_bytes())
    except (DecodeError, RecursionError, OSError):
        return False
    return model.HasField("graph") and METADATA_KEY not in {prop.key for prop in model.metadata_props}


def _list_mismatch(err: WeightsMismatch, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": str(err), **err.mismatch.as_json()}))
        return
    lines = [f"{kind:>10}  {one}" for kind, names in err.mismatch.as_json().items() for one in names]
    if len(lines) > MOST_LISTED:
        lines = [f"{len(lines)} names differ; --json prints all of them"]
    print("\n".join(lines), file=sys.stderr)


def _report(name: str, path: Path, model: ModelFile, form: str, as_json: bool) -> None:
    manifest = model.manifest
    if as_json:
        print(
            json.dumps(
                {"name": name, "path": str(path), "form": form, "model_id": manifest.model_id, **_said_by(model)}
            )
        )
        return
    print(f"{name}: {manifest.network} ({form}), {len(model.content) / 1e6:.1f} MB, model {manifest.model_id}")
    print(f"  kept as {path}")
    print(f"  licence {manifest.licence}; threshold {manifest.threshold:g}, {manifest.threshold_source}")
    print(f"  use it: realtime --source 0 --set embed.model={name}")


def _said_by(model: ModelFile) -> dict[str, Any]:
    return {"manifest": asdict(model.manifest), "bytes": len(model.content)}
