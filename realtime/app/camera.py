"""``realtime enroll --source``: a person before a camera is enrolled while they watch the count."""

from __future__ import annotations

from pathlib import Path

import typer

from realtime.app.people_output import say, say_json
from realtime.settings import Settings


def enroll_from_camera(
    spec: str, name: str, gallery: Path | None, settings: Settings, *, force: bool, as_json: bool
) -> None:
    """Raises RealtimeError where nothing could be enrolled."""
    from tqdm import tqdm

    from realtime.capture.source import open_source
    from realtime.faces.analysis import open_analyser
    from realtime.people.camera_enrollment import Progress, views_from_source
    from realtime.people.enrollment import Enroller, reference_of_view
    from realtime.people.gallery import Gallery, default_gallery_path
    from realtime.people.names import clean_name

    name = clean_name(name)
    analyser = open_analyser(settings)
    threshold = settings.identity.threshold or analyser.manifest.threshold
    with Gallery.open(gallery or default_gallery_path(), analyser.manifest) as opened:
        source = open_source(spec, settings.capture)
        try:
            with tqdm(total=5, desc=f"enrolling {name}", unit="view", leave=False, disable=None) as bar:

                def show(progress: Progress) -> None:
                    bar.total = progress.wanted
                    bar.set_postfix_str(progress.hint, refresh=False)
                    bar.update(progress.taken - bar.n)

                views = views_from_source(source, analyser, settings.gallery, threshold=threshold, progress=show)
        finally:
            source.close()
        references = [
            reference_of_view(
                each.view,
                each.embedding_D,
                analyser.manifest,
                settings.gallery,
                source=source.name,
                rgb_HW3=each.rgb_HW3,
            )
            for each in views
        ]
        enroller = Enroller(opened, analyser, settings)
        others = {other for each in references if (other := enroller.somebody_else(each.embedding_D, name))}
        if others and not force:
            message = f"{source.name}: the face {min(others)}; if they only look alike add --force"
            if as_json:
                say_json({"source": source.name, "name": name, "accepted": False, "views": 0, "message": message})
            else:
                say(message, err=True)
            raise typer.Exit(1)
        count = opened.add(name, references)
    if as_json:
        say_json({"source": source.name, "name": name, "accepted": True, "views": count, "message": None})
    else:
        say(f"{source.name}: enrolled {name} with {count} views")
