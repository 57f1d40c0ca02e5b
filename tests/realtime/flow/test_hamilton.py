"""The real clip, end to end: who is named, and that nobody ever bears a wrong name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from realtime.bench import make_gallery
from realtime.benchmark.answers import Answer
from realtime.benchmark.clips import upscale
from realtime.benchmark.loops import Job, pipeline_loop
from realtime.benchmark.truth import Score, Truth, load_truth, pair_names, score
from realtime.settings import Settings
from tests.paths import SHARED, needs_shared

pytestmark = needs_shared

HAMILTON = SHARED / "hamilton"
PHOTOS = (
    ("Lin-Manuel Miranda", HAMILTON / "lin-manuel-miranda.png"),
    ("Alex Lacamoire", HAMILTON / "alex-lacamoire.png"),
)
NAMES = {"Lin-Manuel Miranda": "miranda", "Alex Lacamoire": "lacamoire"}

Run = Callable[..., list[Answer]]


@pytest.fixture(scope="module")
def truth() -> Truth:
    return load_truth(HAMILTON / "truth.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The pipeline's answers for every frame of the clip at 1280x720, by settings that differ from the defaults."""
    folder = tmp_path_factory.mktemp("hamilton")
    clip, gallery = folder / "720p.mp4", folder / "people.sqlite"
    upscale(HAMILTON / "short_hamilton_clip.mp4", (1280, 720), clip)
    make_gallery(PHOTOS, Settings(), gallery)
    photos = tuple((name, str(path)) for name, path in PHOTOS)

    @cache
    def answers(*overrides: str) -> list[Answer]:
        job = Job(loop="pipeline", clip=str(clip), photos=photos, gallery=str(gallery), overrides=overrides)
        return list(pipeline_loop(job)())

    return answers


def scored(answers: list[Answer], truth: Truth) -> Score:
    return score(answers, truth, NAMES)


def right(found: Score, who: str, first: int) -> int:
    """Frames of the scene that begins at ``first`` in which ``who`` bears the right name."""
    (person,) = [person for person in found.people if person.who == who]
    return next(scene.right for scene in person.scenes if scene.first == first)


def test_the_names_are_the_truths(truth: Truth) -> None:
    assert pair_names(truth.people, NAMES) == NAMES


def test_every_frame_comes_once_and_in_order(run: Run, truth: Truth) -> None:
    assert [answer.frame for answer in run()] == list(range(len(truth.frames)))
    assert all((answer.width, answer.height) == (1280, 720) for answer in run())


@pytest.mark.parametrize("overrides", [(), ("identity.hindsight_s=0",)], ids=["hindsight", "as it comes"])
def test_nobody_ever_bears_a_wrong_name(run: Run, truth: Truth, overrides: tuple[str, ...]) -> None:
    assert scored(run(*overrides), truth).wrong == ()


def test_miranda_is_named_on_his_own_face(run: Run, truth: Truth) -> None:
    assert right(scored(run(), truth), "miranda", 82) >= 122
    assert right(scored(run("identity.hindsight_s=0"), truth), "miranda", 82) >= 105


def test_hindsight_takes_no_right_name_away(run: Run, truth: Truth) -> None:
    with_it, without = scored(run(), truth), scored(run("identity.hindsight_s=0"), truth)
    assert with_it.right >= without.right


def test_more_detector_threads_give_the_same_answers(run: Run) -> None:
    assert run("detect.threads=1") == run()


def test_int8_names_as_fp32_does(run: Run, truth: Truth) -> None:
    """Faces move by a few hundredths of the threshold: a frame may gain or lose a name, nobody gets a wrong one."""
    exact, rounded = (scored(run(f"embed.precision={precision}"), truth) for precision in ("fp32", "int8"))
    assert rounded.wrong == ()
    assert abs(rounded.right - exact.right) <= 5
