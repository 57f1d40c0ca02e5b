"""``realtime gallery ...``: look at who is enrolled, and change it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from realtime.app.people_output import say, say_json, table
from realtime.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Look at who is enrolled, and change it.")

GalleryOption = Annotated[
    Path | None,
    typer.Option("--gallery", metavar="FILE", help="Gallery file; the one in your data folder if not given."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, one line for each.")]
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="YAML", help="Preset or YAML file of settings.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the person, in any case.")]


def _path(gallery: Path | None) -> Path:
    from realtime.people.gallery import default_gallery_path

    return gallery or default_gallery_path()


@app.command("list")
def list_people(gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """Everybody who is enrolled."""
    from realtime.people.gallery import Gallery

    with Gallery.open(_path(gallery), create=False, read_only=True) as opened:
        people = opened.people()
    if as_json:
        for person in people:
            say_json({"name": person.name, "photos": person.references, "since": person.created_at})
    elif people:
        table(("name", "photos", "since"), [(each.name, str(each.references), each.created_at[:10]) for each in people])
    else:
        say("nobody is enrolled; start with `realtime enroll PHOTO`", err=True)


@app.command("show")
def show(name: NameArgument, gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """One person's photos and what they are worth."""
    from realtime.people.gallery import Gallery

    with Gallery.open(_path(gallery), create=False, read_only=True) as opened:
        person = opened.person(name)
        references = opened.references_of(name)
    values = [
        {
            "source": each.source,
            "photo_sha256": each.photo_sha256,
            "quality": round(each.quality, 3),
            "size_px": round(each.size_px, 1),
            "sharpness": round(each.sharpness, 1),
            "yaw_deg": round(each.yaw_deg, 1),
            "crop": each.crop is not None,
            "since": each.created_at,
        }
        for each in references
    ]
    if as_json:
        say_json({"name": person.name, "since": person.created_at, "photos": values})
        return
    say(f"{person.name}, since {person.created_at[:10]}")
    columns = ("source", "quality", "size_px", "sharpness", "yaw_deg", "since")
    table(columns, [tuple(str(value[column]) for column in columns) for value in values])


@app.command("rename")
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Name now.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Name from now on.")],
    merge: Annotated[bool, typer.Option("--merge", help="NEW is enrolled, too: both are one person.")] = False,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a person another name, or make two entries one person."""
    from realtime.people.gallery import Gallery

    with Gallery.open(_path(gallery), create=False) as opened:
        person = opened.rename(old, new, merge=merge)
    if as_json:
        say_json({"name": person.name, "photos": person.references, "since": person.created_at})
    else:
        say(f"{person.name}: {person.references} photos")


@app.command("remove")
def remove(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a person; their photos are overwritten in the file."""
    from realtime.people.gallery import Gallery

    with Gallery.open(_path(gallery), create=False) as opened:
        person = opened.person(name)
        if not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter("nobody is there to ask; add --yes", param_hint="remove")
            typer.confirm(f"Forget {person.name} and their {person.references} photos?", abort=True, err=True)
        removed = opened.remove(person.name)
    if as_json:
        say_json({"name": removed.name, "photos": removed.references})
    else:
        say(f"{removed.name}: removed, with {removed.references} photos")


@app.command("export")
def export(
    archive: Annotated[Path, typer.Argument(metavar="FILE.zip", help="Where to; replaced if it is there.")],
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everybody to one file, to keep or for another machine. It holds faces: keep it safe."""
    from realtime.people.gallery import Gallery
    from realtime.people.gallery_archive import export_gallery

    if archive.suffix.lower() != ".zip":
        raise typer.BadParameter(f"{archive}: the archive is a .zip file", param_hint="FILE.zip")
    with Gallery.open(_path(gallery), create=False, read_only=True) as opened:
        count = export_gallery(opened, archive)
    if as_json:
        say_json({"file": str(archive), "photos": count})
    else:
        say(f"{archive}: {count} photos written")


@app.command("import")
def import_(
    archive: Annotated[Path, typer.Argument(metavar="FILE.zip", help="Written by `realtime gallery export`.")],
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add everybody of an exported file; photos that are there already are skipped."""
    from realtime.people.gallery import Gallery
    from realtime.people.gallery_archive import import_gallery

    with Gallery.open(_path(gallery)) as opened:
        result = import_gallery(opened, archive)
    if as_json:
        say_json({"people": result.people, "photos": result.references, "new": result.new})
    else:
        say(f"{archive}: {result.people} people, {result.references} photos, {result.new} of them new")


@app.command("check")
def check(
    gallery: GalleryOption = None, as_json: JsonOption = False, config: ConfigOption = None, set_: SetOption = None
) -> None:
    """Look for damage, for people who will be confused, and for what could be better.

    Exit code 1: something is wrong, not only advice.
    """
    from realtime.people.gallery import Gallery
    from realtime.people.gallery_check import check as problems_of

    settings = load_settings(config, set_ or ())
    path = _path(gallery)
    with Gallery.open(path, create=False, read_only=True) as opened:
        problems = problems_of(opened, settings.identity.threshold)
    for problem in problems:
        if as_json:
            say_json({"severity": problem.severity, "kind": problem.kind, "message": problem.message})
        else:
            say(f"{problem.severity}: {problem.message}")
    if not problems and not as_json:
        say(f"{path}: nothing is wrong")
    if any(problem.severity != "advice" for problem in problems):
        raise typer.Exit(1)


@app.command("reembed")
def reembed(
    gallery: GalleryOption = None,
    drop: Annotated[bool, typer.Option("--drop", help="Forget photos that were stored without a crop.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Move the gallery to the model of --config and --set, from the stored crops."""
    from tqdm import tqdm

    from realtime.faces.embedding import embed_in_batches, open_embedder
    from realtime.people.enrolled_crops import enrolled_crops
    from realtime.people.gallery import Gallery
    from realtime.people.reembedding import reembed as move

    embed = load_settings(config, set_ or ()).embed
    path = _path(gallery)
    with Gallery.open(path, create=False) as opened:
        engine = open_embedder(embed, enrolled=lambda template, limit: enrolled_crops(path, template, limit))
        try:
            with tqdm(desc="embedding", unit="photo", leave=False, disable=None, delay=2.0) as bar:
                count = move(
                    opened,
                    lambda crops: embed_in_batches(engine, crops, embed.max_batch),
                    engine.manifest,
                    drop_without_crop=drop,
                    progress=bar.update,
                )
        finally:
            engine.close()
    if as_json:
        say_json({"gallery": str(path), "model": engine.manifest.name, "photos": count})
    else:
        say(f"{path}: {count} photo{'' if count == 1 else 's'} embedded with {engine.manifest.name}")
