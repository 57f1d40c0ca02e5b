"""``python -m engines quantise``: the int8 form of a model, from aligned faces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.errors import EngineError
from engines.export import write_wanted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engines.activation_ranges import Ranges
    from engines.export import ModelFile


def register(app: typer.Typer) -> None:
    app.command("quantise")(quantise)


def quantise(
    faces: Annotated[
        Path, typer.Option(help="Faces to calibrate on: a folder of aligned crops or of photos, or an .npy of crops.")
    ],
    model: Annotated[
        str | None, typer.Argument(metavar="[FILE|NAME]", help="An fp32 model; the embedded descriptor if none.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the int8 file here; if not given it is kept and used for this model.")
    ] = None,
    ranges: Annotated[
        Path | None, typer.Option(help="Write the ranges of the activations here as JSON, and nothing else.")
    ] = None,
    detector: Annotated[
        bool, typer.Option("--detector", help="dlib's CNN detector, on whole photos; needs --ranges.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="So many faces or photos at most.")] = 300,
    threads: Annotated[int, typer.Option(min=1, help="Of the calibration.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an int8 form: a third of the time of fp32 or less, where the processor can."""
    if detector:
        if ranges is None or model is not None or output is not None:
            raise typer.BadParameter("--detector takes --ranges, and neither a model nor --output")
        _detector(faces, ranges, limit, threads, as_json)
        return
    if ranges is not None and output is not None:
        raise typer.BadParameter("give either --output or --ranges")
    from engines.store import default_model, find_model

    whole = default_model() if model is None else find_model(model)
    crops_NSSC, source = _crops(whole, faces, limit)
    if ranges is None:
        _model(whole, crops_NSSC, source, output, threads, as_json)
    else:
        _ranges(whole, crops_NSSC, source, ranges, threads, as_json)


def _crops(model: ModelFile, faces: Path, limit: int) -> tuple[NDArray[np.uint8], str]:
    from engines.verification.faces import read_faces

    manifest = model.manifest
    with _bar("reading faces") as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = read_faces(faces, template=manifest.template, size=manifest.input_size, limit=limit, progress=told)
    return found.faces_NSS3, found.source


def _model(
    model: ModelFile, crops_NSSC: NDArray[np.uint8], source: str, output: Path | None, threads: int, as_json: bool
) -> None:
    from engines import quantise as quantiser

    with _bar("calibrating", len(crops_NSSC)) as bar:
        int8 = quantiser.quantise(model, crops_NSSC, source=source, threads=threads, progress=bar.update)
    if output is None:
        quantiser.keep(model, int8)
        found = quantiser.at_hand(model)
        if found is None or found.sha256 != int8.sha256:
            raise EngineError(f"{model.where}: the int8 form cannot be kept; make room or write it with --output FILE")
    else:
        write_wanted(output, int8.content)
    said = {
        "output": None if output is None else str(output),
        "bytes": len(int8.content),
        "calibrated_on": int8.manifest.calibrated_on,
        "model_id": int8.manifest.model_id,
    }
    if output is None:
        place = f"{model.manifest.name}: int8 form kept"
        next_step = "prove it with `python -m engines verify`; --set embed.precision=int8 takes it"
    else:
        place = str(output)
        next_step = f"use it: realtime --source 0 --set embed.model={output}"
    on = f"{len(int8.content) / 1e6:.1f} MB, calibrated on {int8.manifest.calibrated_on}"
    _say(said, f"{place}, {on}\n  {next_step}", as_json)


def _ranges(
    model: ModelFile, crops_NSSC: NDArray[np.uint8], source: str, path: Path, threads: int, as_json: bool
) -> None:
    from engines.activation_ranges import observed
    from engines.quantise import calibrated_on, checked_faces

    faces = checked_faces(model, crops_NSSC)
    with _bar("calibrating", len(faces)) as bar:
        found = observed(model.content, model.where, faces, threads=threads, progress=bar.update)
    _write_ranges(path, model.manifest.weights_sha256, found, calibrated_on(faces, source), as_json)


def _detector(photos: Path, path: Path, limit: int, threads: int, as_json: bool) -> None:
    from engines.dlib.detector import observe_detector

    images = list(_photos(photos, limit))
    if not images:
        raise EngineError(f"{photos}: holds no photo that can be read; give a folder or tar of photos with faces")
    with _bar("calibrating", len(images)) as bar:
        sha256, found = observe_detector(images, threads=threads, progress=bar.update)
    _write_ranges(path, sha256, found, f"{len(images)} photos of {photos.name}", as_json)


def _photos(path: Path, limit: int) -> Iterator[NDArray[np.uint8]]:
    """RGB photos of a folder or of a tar, in the order of their names or of the archive."""
    import cv2
    import numpy as np

    left = limit
    for content in _files(path):
        if not left:
            return
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR) if content else None
        if image is not None:
            left -= 1
            yield np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)


def _files(path: Path) -> Iterator[bytes]:
    import tarfile

    try:
        if path.is_dir():
            yield from (file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())
            return
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    yield file.read()
    except (OSError, tarfile.TarError) as err:
        raise EngineError(f"{path}: cannot be read as a folder or tar of photos ({err}); give another") from err


def _write_ranges(path: Path, sha256: str, found: Ranges, calibrated_on: str, as_json: bool) -> None:
    values = {"weights_sha256": sha256, "calibrated_on": calibrated_on, "ranges": found}
    lines = json.dumps({**values, "ranges": "?"}, indent=1)
    rows = ",\n".join(f"  {json.dumps(role)}: {json.dumps(bounds)}" for role, bounds in found.items())
    write_wanted(path, (lines.replace('"?"', f"{{\n{rows}\n }}") + "\n").encode())
    _say({"output": str(path), **values}, f"{path}: {len(found)} ranges, calibrated on {calibrated_on}", as_json)


def _bar(what: str, total: int | None = None) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="face", disable=None, leave=False)


def _say(values: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(values) if as_json else text)
