"""The gallery of ``--source demo``: Eileen Collins, from the portrait that the demo shows."""

from __future__ import annotations

from pathlib import Path

from engines.engine import Engine
from engines.store import cache_dir
from realtime.errors import RealtimeError
from realtime.settings import Settings


def demo_gallery_path(settings: Settings, engine: Engine) -> Path:
    """A gallery in the cache directory with one person in it, made when it is not there. The user's own stays as it is.

    Raises:
        RealtimeError: the portrait is missing, or no face is found in it.
    """
    from realtime.capture.demo import DEMO_NAME, demo_photo
    from realtime.faces.analysis import FaceAnalyser
    from realtime.faces.detection import open_detector
    from realtime.faces.landmarks import Landmarker
    from realtime.people.enrollment import Accepted, Enroller, Wish
    from realtime.people.gallery import Gallery

    path = cache_dir() / f"demo-{engine.manifest.model_id}.sqlite"
    photo = demo_photo()
    with Gallery.open(path, engine.manifest) as gallery:
        if gallery.people():
            return path
        analyser = FaceAnalyser(
            open_detector(settings.detect, photos=True), Landmarker(settings.align.landmarks), engine
        )
        outcome = Enroller(gallery, analyser, settings).enroll(Wish(path=photo, name=DEMO_NAME))
        if not isinstance(outcome, Accepted) and not gallery.people():  # another process may have been first
            raise RealtimeError(f"the demo's portrait was refused: {outcome.message}")
    return path
