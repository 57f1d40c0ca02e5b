"""``realtime enroll``, ``gallery ...``, ``identify`` and ``compare``: the commands about people.

Enters: the command line. Leaves: lines for people, or with --json for programs. Exit codes: 0 done, 1 failed, 2 usage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from realtime.app import gallery as gallery_commands
from realtime.app.people_output import counted, say, say_json, with_progress
from realtime.settings import Settings, load_settings

GalleryOption = Annotated[
    Path | None, typer.Option("--gallery", help="Gallery file; the one in your data folder if not given.")
]
ConfigOption = Annotated[str | None, typer.Option("--config", help="Preset or YAML file of settings.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as gallery.min_face_px=60.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One line of JSON for each.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("enroll")(enroll)
    app.command("identify")(identify)
    app.command("compare")(compare)
    app.add_typer(gallery_commands.app, name="gallery")


def enroll(
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Photos, or folders of them.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="The person in all of these photos, or before the camera.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", "-s", help="Enrol from a camera, file or stream instead; needs --name.")
    ] = None,
    gallery: GalleryOption = None,
    largest: Annotated[bool, typer.Option("--largest", help="Of several faces in a photo take the largest.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Enrol although another person looks the same.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Tell the program who somebody is, from photos or from a camera.

    A folder in PATH is the person of all its photos (people/Ana Silva/1.jpg); a loose photo is named after its person
    (Ana_Silva.jpg, "ana (2).jpg"). Each photo is accepted, or refused with a reason. Exit code 1: nobody was enrolled.
    """
    if bool(photos) == (source is not None):
        raise typer.BadParameter("give photos, or a camera with --source", param_hint="PATH...")
    if source is not None and name is None:
        raise typer.BadParameter("goes with --name, whose face it is", param_hint="--source")
    settings = load_settings(config, set_ or ())
    if source is not None and name is not None:
        from realtime.app.camera import enroll_from_camera

        enroll_from_camera(source, name, gallery, settings, force=force, as_json=as_json)
        return
    _enroll_photos(photos or [], name, gallery, settings, largest=largest, force=force, as_json=as_json)


def _enroll_photos(
    photos: list[Path],
    name: str | None,
    gallery: Path | None,
    settings: Settings,
    *,
    largest: bool,
    force: bool,
    as_json: bool,
) -> None:
    from realtime.faces.analysis import open_analyser
    from realtime.people.enrollment import Accepted, Enroller, as_json_line, wishes
    from realtime.people.gallery import Gallery, default_gallery_path

    wanted = wishes(photos, name)
    analyser = open_analyser(settings)
    counts = {"accepted": 0, "already there": 0, "refused": 0}
    with Gallery.open(gallery or default_gallery_path(), analyser.manifest) as opened:
        enroller = Enroller(opened, analyser, settings, largest=largest, force=force)
        for wish in with_progress(wanted, "enrolling"):
            outcome = enroller.enroll(wish)
            if as_json:
                say_json(as_json_line(outcome))
            if isinstance(outcome, Accepted):
                counts["accepted"] += 1
                if not as_json:
                    say(f"{outcome.source}: enrolled as {outcome.name}")
            else:
                counts["already there" if outcome.reason == "already there" else "refused"] += 1
                if not as_json:
                    say(outcome.message, err=True)
        people = len(opened.people())
    if not as_json:
        done = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        say(f"{done}; {counted(people, 'person')} in {gallery or default_gallery_path()}")
    if not counts["accepted"] and not counts["already there"]:
        raise typer.Exit(1)


def identify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photos, or folders of them.")],
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Say who is in photos: one line an image."""
    from realtime.capture.photo import find_photos, load_photo
    from realtime.errors import PhotoError
    from realtime.faces.analysis import open_analyser
    from realtime.people.gallery import Gallery, default_gallery_path
    from realtime.people.identification import describe
    from realtime.people.identification import identify as name_faces

    settings = load_settings(config, set_ or ())
    paths = [path for image in images for path in find_photos(image)]
    failed = 0
    analyser = open_analyser(settings)
    threshold = settings.identity.threshold or analyser.manifest.threshold
    with Gallery.open(gallery or default_gallery_path(), analyser.manifest, create=False, read_only=True) as opened:
        references = opened.references()
    for path in with_progress(paths, "identifying"):
        try:
            views = analyser.views(load_photo(path))
        except PhotoError as err:
            failed += 1
            if as_json:
                say_json({"source": str(path), "faces": [], "error": str(err)})
            else:
                say(str(err), err=True)
            continue
        embeddings = analyser.embed([view.crop_SS3 for view in views])
        answers = name_faces(views, embeddings, references, threshold=threshold, margin=settings.identity.margin)
        if as_json:
            say_json({"source": str(path), "faces": [answer.to_json() for answer in answers]})
        else:
            say(f"{path}: {describe(answers)}")
    if failed:
        raise typer.Exit(1)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A photo.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another photo.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Say whether two photos show the same person (of several faces in a photo, the largest)."""
    from realtime.capture.photo import load_photo
    from realtime.errors import PhotoError
    from realtime.faces.analysis import open_analyser
    from realtime.people.identification import verify

    settings = load_settings(config, set_ or ())
    photos = [load_photo(path) for path in (a, b)]
    analyser = open_analyser(settings)
    crops = []
    for path, photo in zip((a, b), photos, strict=True):
        views = analyser.views(photo)
        if not views:
            raise PhotoError(
                f"{path}: no face was found; use a photo where it is larger, upright and turned to the camera"
            )
        if len(views) > 1:
            say(f"{path}: {len(views)} faces are in it; the largest is compared", err=True)
        crops.append(views[0].crop_SS3)
    embeddings = analyser.embed(crops)
    verdict = verify(embeddings[0], embeddings[1], analyser.manifest, settings.identity.threshold)
    if as_json:
        say_json({"a": str(a), "b": str(b), **verdict.to_json()})
    else:
        say(verdict.sentence())
