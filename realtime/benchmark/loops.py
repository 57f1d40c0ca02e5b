"""What is measured: this pipeline, the same without tracking, and the two loops of today, behind one call.

Enters: a ``Job``. Leaves: a loop with everything loaded, that has not touched the clip's frames yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from realtime.benchmark.answers import Answer, answers_of
from realtime.benchmark.peers import Loop, tutorial_loop, webcam_recipe
from realtime.records import Result
from realtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from realtime.flow.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of one loop, in a form that crosses a process as JSON."""

    loop: str
    clip: str
    photos: tuple[tuple[str, str], ...]
    gallery: str
    """File with the photos' people, for this pipeline."""
    config: str | None = None
    overrides: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Job:
        photos = tuple((name, file) for name, file in values["photos"])
        return cls(**{**values, "photos": photos, "overrides": tuple(values["overrides"])})

    def of(self, loop: str) -> Job:
        """The same for another loop."""
        return replace(self, loop=loop)

    def settings(self) -> Settings:
        return load_settings(self.config, self.overrides)

    def paths(self) -> list[tuple[str, Path]]:
        return [(name, Path(file)) for name, file in self.photos]


@contextmanager
def open_pipeline(job: Job) -> Iterator[Pipeline]:
    """A pipeline on the job's clip with everything loaded, not started; closes what it opened."""
    from realtime.capture.source import open_source
    from realtime.faces.embedding import open_embedder
    from realtime.flow.pipeline import Pipeline
    from realtime.people.gallery import Gallery

    settings = job.settings()
    with ExitStack() as opened:
        engine = open_embedder(settings.embed)
        opened.callback(engine.close)
        gallery = opened.enter_context(Gallery.open(Path(job.gallery), engine.manifest, create=False))
        yield Pipeline([open_source(job.clip, settings.capture)], settings, engine, gallery.references)


def pipeline_loop(job: Job) -> Loop:
    """This program's pipeline on the clip as a file: every frame, in order."""
    opened = ExitStack()
    pipeline = opened.enter_context(open_pipeline(job))

    def results() -> Iterator[Result]:
        with opened, pipeline:
            yield from (result for result in pipeline.results() if result is not None)

    return lambda: answers_of(results())


def untracked_loop(job: Job) -> Loop:
    """The same with every frame detected and every face embedded."""
    return pipeline_loop(replace(job, overrides=(*job.overrides, "track.enabled=false")))


@dataclass(frozen=True, slots=True)
class Measured:
    title: str
    prepare: Callable[[Job], Callable[[], Iterator[Answer]]]


LOOPS: Final = {
    "pipeline": Measured("this pipeline", pipeline_loop),
    "untracked": Measured("without tracking", untracked_loop),
    "recipe": Measured("webcam recipe", lambda job: webcam_recipe(Path(job.clip), job.paths())),
    "tutorial": Measured("tutorial loop", lambda job: tutorial_loop(Path(job.clip), job.paths())),
}
