"""``python -m train prepare``: K-FACE, a folder of photos or a .rec becomes a set of aligned crops to train on."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engines.commands.shared import AlignOption, align_options, bar

if TYPE_CHECKING:
    from train.preparing.plan import Wishes
    from train.source import Source

SPLITS: Final = ("none", "tutorial", "mixface")
LAYOUTS: Final = ("recbuilder", "im2rec")

app = typer.Typer(
    help="Make a set to train on: aligned crops in one file, each image that is not there named with its reason.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _looked_up(path: Path) -> Path:
    """What may lie there or not; the system knows no answer for a name that is too long, or a link to itself."""
    try:
        path.resolve()
        path.exists()
    except (OSError, RuntimeError) as err:
        raise typer.BadParameter(f"{path} cannot be looked up ({getattr(err, 'strerror', None) or err})") from err
    return path


OutArgument = Annotated[
    Path,
    typer.Argument(metavar="OUT", help="Folder of the set; new, empty, or half done before.", callback=_looked_up),
]
MinImagesOption = Annotated[int, typer.Option(min=1, help="Leave out people with fewer usable images; they are named.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Draws the people of val, where a number is asked for.")]
ValOption = Annotated[
    int, typer.Option(min=0, max=10**9 - 1, help="Keep back so many people, drawn by --seed, to evaluate on.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=0, max=256, help="Processes; as many as cores if not given, 0 for none besides this one."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace another set, or a half of one, that lies in OUT.")]
RecOption = Annotated[
    bool, typer.Option("--rec", help="Write train.rec, .idx, .lst and val.*, too, for other trainers.")
]
LayoutOption = Annotated[
    str, typer.Option(metavar="|".join(LAYOUTS), help="Of --rec: insightface's RecBuilder or mxnet's im2rec.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="prepare")


@app.command("kface")
def kface(
    root: Annotated[
        Path,
        typer.Argument(metavar="ROOT", help="Where the zips lie, or their extracted folders.", callback=_looked_up),
    ],
    out: OutArgument,
    select: Annotated[
        str, typer.Option(help="Accessory/light/expression/camera, as S001/L1,3/E1-3/C6-9; a part left out means all.")
    ] = "S001/L1,3/E1-3/C6-9",
    crop: Annotated[
        str, typer.Option(metavar="landmarks|box", help="Align by landmarks (arcface_112), or the tutorial's face box.")
    ] = "landmarks",
    reuse_landmarks: Annotated[
        bool,
        typer.Option("--reuse-landmarks", help="Take the landmarks of S001/L1 for images that have none of their own."),
    ] = False,
    resolution: Annotated[str, typer.Option(metavar="high|middle|low", help="Which images.")] = "middle",
    split: Annotated[
        str,
        typer.Option(
            metavar="tutorial|mixface|N|none",
            help="Who is kept back: the last 10 people, MixFace's 30, N people drawn by --seed, or nobody.",
        ),
    ] = "tutorial",
    seed: SeedOption = 1,
    min_images: MinImagesOption = 1,
    rec: RecOption = False,
    rec_layout: LayoutOption = "recbuilder",
    workers: WorkersOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prepare K-FACE straight from its zips, which are never unpacked.

    ROOT holds Middle_Resolution.zip, or a folder Middle_Resolution with a zip for each person, or the same extracted.
    Stopped at any moment, the same command goes on where it was.
    """
    wishes = _wishes(split, seed, min_images)
    _one_of(crop, ("landmarks", "box"), "--crop")
    _one_of(resolution, ("high", "middle", "low"), "--resolution")
    _one_of(rec_layout, LAYOUTS, "--rec-layout")
    from train.kface.source import open_kface

    with bar("looking through the zips", "person") as told:
        source = open_kface(
            root,
            select,
            crop=crop,  # type: ignore[arg-type]
            reuse_landmarks=reuse_landmarks,
            resolution=resolution,
            progress=told,
        )
    _prepare(source, out, wishes, workers, force, rec, rec_layout, as_json)


@app.command("folder")
def folder(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of people's folders of photos, or a tar of one.", callback=_looked_up
        ),
    ],
    out: OutArgument,
    template: Annotated[str, typer.Option(help="Alignment template of the crops.")] = "arcface_112",
    aligned: Annotated[
        bool | None,
        typer.Option("--aligned/--no-aligned", help="The images are such crops already, or photos to find faces in."),
    ] = None,
    align: AlignOption = None,
    val: ValOption = 0,
    seed: SeedOption = 1,
    min_images: MinImagesOption = 1,
    rec: RecOption = False,
    rec_layout: LayoutOption = "recbuilder",
    workers: WorkersOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prepare photos, person/image.jpg; faces are found and aligned as realtime does it.

    Of several faces in a photo the largest over its centre is taken, else the largest.
    """
    from train.preparing.folder import open_folder

    if out.resolve().is_relative_to(path.resolve()):
        raise typer.BadParameter(f"{out} lies in {path}; name a folder outside of the photos", param_hint="OUT")
    _one_of(rec_layout, LAYOUTS, "--rec-layout")
    wishes = _wishes(str(val or "none"), seed, min_images)
    source = open_folder(path, template=template, options=align_options(align), aligned=aligned)
    _prepare(source, out, wishes, workers, force, rec, rec_layout, as_json)


@app.command("rec")
def rec_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A .rec of aligned crops; its .idx lies beside it.", callback=_looked_up),
    ],
    out: OutArgument,
    template: Annotated[
        str, typer.Option(help="Alignment template that its crops have; nothing in the file says so.")
    ] = "arcface_112",
    size: Annotated[
        int | None, typer.Option(min=16, max=1024, help="Side of its crops, pixels; the template's if not given.")
    ] = None,
    val: ValOption = 0,
    seed: SeedOption = 1,
    min_images: MinImagesOption = 1,
    workers: WorkersOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prepare a set that lies in MXNet's RecordIO, as CASIA, MS1MV3 and Glint360K do."""
    from train.recordio.source import open_rec_source

    if out.resolve() in (file.resolve().parent, file.absolute().parent.resolve()):
        raise typer.BadParameter(f"{file} lies in it; name another folder", param_hint="OUT")
    wishes = _wishes(str(val or "none"), seed, min_images)
    with bar("looking through the records", "image") as told:
        source = open_rec_source(file, template=template, size=size, progress=told)
    _prepare(source, out, wishes, workers, force, False, LAYOUTS[0], as_json)


def _prepare(
    source: Source,
    out: Path,
    wishes: Wishes,
    workers: int | None,
    force: bool,
    rec: bool,
    rec_layout: str,
    as_json: bool,
) -> None:
    from train.preparing.report import report_text
    from train.preparing.run import prepare

    try:
        with bar("cropping", "image") as told:
            report = prepare(source, out, wishes, workers=workers, force=force, progress=told)
        written = _export(out, rec_layout) if rec else []
    except KeyboardInterrupt as err:
        print(f"train: stopped; the same command goes on in {out} where it was", file=sys.stderr)
        raise typer.Exit(130) from err
    if as_json:
        print(json.dumps({**report.to_json(), "rec": written}))
        return
    print(report_text(report))
    if written:
        print(f"  for other trainers: {', '.join(written)}")
    print(f"  train on it: python -m train fit kface_r50 --data {shlex.quote(str(out))}")


def _export(out: Path, layout: str) -> list[str]:
    from train.prepared import open_prepared
    from train.preparing.place import locked
    from train.recordio.exporting import export_rec

    written = []
    with locked(out):
        prepared = open_prepared(out)
        for split in (prepared.train, prepared.val):
            if split is not None:
                with bar(f"writing {split.name}.rec", "image") as told:
                    export_rec(split, out / split.name, layout=layout, progress=told)  # type: ignore[arg-type]
                written.append(str(out / f"{split.name}.rec"))
    return written


def _wishes(split: str, seed: int, min_images: int) -> Wishes:
    from train.preparing.plan import Wishes

    if split in SPLITS:
        return Wishes(split=split, seed=seed, min_images=min_images)
    if not split.isascii() or not split.isdigit() or len(split) > 9 or int(split) < 1:
        known = ", ".join(SPLITS)
        raise typer.BadParameter(f"{split!r}; known are {known}, or a number of people", param_hint="--split")
    return Wishes(split="people", val_people=int(split), seed=seed, min_images=min_images)


def _one_of(given: str, known: tuple[str, ...], option: str) -> None:
    if given not in known:
        raise typer.BadParameter(f"{given!r}; known are {', '.join(known)}", param_hint=option)
