"""Measures this program beside the two loops that people use today, on one clip, in one run.

Enters: a clip, photos of the people in it, and the truth about it where somebody knows it. Leaves: a ``Bench``: what
each loop costs and whom it names, ready for a table and for JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from realtime.benchmark.loops import LOOPS, Job
from realtime.benchmark.measure import Measurement, measure_apart
from realtime.benchmark.results import Bench, row_of
from realtime.benchmark.truth import Truth, pair_names
from realtime.errors import PhotoError, RealtimeError
from realtime.settings import Settings

Photos = Sequence[tuple[str, Path]]
Progress = Callable[[str], None]
"""Told what runs next."""


def bench(
    clip: Path,
    photos: Photos,
    gallery: Path,
    *,
    truth: Truth | None = None,
    loops: Sequence[str] = tuple(LOOPS),
    repeat: int = 3,
    config: str | None = None,
    overrides: Sequence[str] = (),
    run: Callable[[Job], Measurement] = measure_apart,
    progress: Progress = lambda title: None,
) -> Bench:
    """Run every loop ``repeat`` times, one after the other and round again, so that a slow minute hits all of them.

    Args:
        gallery: file that knows the photos' people, as ``make_gallery`` writes it.
        truth: of this clip; without it, only how much was named is told, not how right.

    Raises:
        RealtimeError: a loop failed, or the photos' names do not go with the truth.
    """
    names = {} if truth is None else pair_names(truth.people, dict.fromkeys(name for name, _ in photos))
    job = Job(
        loop="",
        clip=str(clip.resolve()),
        photos=tuple((name, str(path.resolve())) for name, path in photos),
        gallery=str(gallery.resolve()),
        config=config,
        overrides=tuple(overrides),
    )
    runs: dict[str, list[Measurement]] = {loop: [] for loop in loops}
    for round_number in range(repeat):
        for loop in loops:
            progress(f"{LOOPS[loop].title}, run {round_number + 1} of {repeat}")
            runs[loop].append(run(job.of(loop)))
    first = next(iter(runs.values()))[0].answers[0]
    return Bench(
        clip=clip.name,
        width=first.width,
        height=first.height,
        people=tuple(dict.fromkeys(name for name, _ in photos)),
        rows=tuple(row_of(loop, found, truth, names) for loop, found in runs.items()),
    )


def make_gallery(photos: Photos, settings: Settings, path: Path) -> None:
    """Enrol the largest face of each photo in a gallery file.

    Raises:
        PhotoError: a photo is refused, and why.
        GalleryError: the gallery cannot be written.
    """
    from realtime.faces.analysis import open_analyser
    from realtime.people.enrollment import Enroller, Refused, Wish
    from realtime.people.gallery import Gallery

    if not photos:
        raise RealtimeError("no photo of anybody; add --photo NAME=FILE for each person in the clip")
    with closing(open_analyser(settings)) as analyser, Gallery.open(path, analyser.manifest) as gallery:
        enroller = Enroller(gallery, analyser, settings, largest=True)
        for name, photo in photos:
            outcome = enroller.enroll(Wish(path=photo, name=name))
            if isinstance(outcome, Refused):
                raise PhotoError(outcome.message)
