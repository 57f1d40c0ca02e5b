"""The report: the same figures as text, JSON and a page that needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.evaluation_parts import faces_of, looked_up, points
from tests.train.test_evaluation_conditions import taken
from train.errors import DataError
from train.evaluation.plots import det, roc, scores
from train.evaluation.report import HTML_NAME, JSON_NAME, Report, evaluate, lines, write_report
from train.evaluation.verification import verify_embeddings
from train.kface.codes import REFERENCE, Condition

PEOPLE = tuple(f"p{person:02d}" for person in range(20) for _ in range(5))
MODEL = {"name": "<b>points</b>", "file": "points.onnx", "runtime": "none", "threshold": None}


def report_of(**options: bool) -> Report:
    return evaluate(looked_up(points(20, 5, spread=0.1)), [faces_of(PEOPLE), faces_of(PEOPLE)], model=MODEL, **options)


class Page(HTMLParser):
    """Tags that are open, and what is asked for from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href") and value]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_and_alone(tmp_path: Path) -> None:
    embeddings_ND, kface = taken([REFERENCE, Condition(1, 1, 2, 6)], set(), people=12)
    report = evaluate(looked_up(embeddings_ND), [kface], model=MODEL, identification=True, conditions=True)
    paths = write_report(report, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [JSON_NAME, HTML_NAME]
    text = paths[1].read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "<b>points</b>" not in text  # what a manifest says is text, not markup
    pictures = [link for link in page.links if link.startswith("data:image/png;base64,")]
    assert pictures == page.links
    assert len(pictures) == 2 + 1 + 2 * 1
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as image:
            assert min(image.size) > 100
            assert np.asarray(image.convert("L")).std() > 5
    values = json.loads(paths[0].read_text(encoding="utf-8"))
    assert values["sets"][0]["identification"]["galleries"] == 10
    assert values["conditions"]["maps"][0]["rows"] == "yaw"


def test_the_text_has_the_figures_of_the_json() -> None:
    report = report_of(identification=True)
    text, values = "\n".join(lines(report)), report.to_json()
    json.dumps(values, allow_nan=False)
    first = values["sets"][0]
    assert f"{100 * first['accuracy']['mean']:.2f} +- " in text
    assert f"{100 * first['eer']['value']:.2f} [" in text
    for point in first["all"]["points"]:
        assert f"{100 * point['tar']:.2f} [" in text
    assert re.search(r"rank-1 +\d", text)
    assert values["sets"][1]["set"] == "points (2)"  # of one name, but two curves


def test_what_was_asked_for_and_cannot_be_is_a_note() -> None:
    report = evaluate(
        looked_up(points(20, 5, spread=0.1)),
        [faces_of(PEOPLE)],
        model=MODEL,
        identification=True,
        references=5,
        conditions=True,
    )
    assert report.sets[0].identification is None
    assert [note.split(":")[0] for note in report.notes] == ["no identification", "no heat maps"]
    assert all(note in "\n".join(lines(report)) for note in report.notes)


def test_an_interval_without_width_is_explained() -> None:
    clear = verify_embeddings(points(20, 5, spread=0.001), faces_of(PEOPLE))
    assert clear.eer == 0
    text = "\n".join(lines(evaluate(looked_up(points(20, 5, spread=0.001)), [faces_of(PEOPLE)], model=MODEL)))
    assert "20 people can rule out only error rates above about 0.15" in text


def test_progress_names_the_set() -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(
        looked_up(points(20, 5, spread=0.1)), [faces_of(PEOPLE)], model=MODEL, progress=lambda *each: told.append(each)
    )
    assert told == [("points", 100, 100)]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        write_report(report_of(), tmp_path / "file" / "report")


@pytest.mark.parametrize("spread", [0.0, 5.0])
def test_curves_of_any_shape_can_be_drawn(spread: float) -> None:
    curve = verify_embeddings(points(20, 5, spread=spread), faces_of(PEOPLE)).curves
    for png in (roc({"_a $b$": curve}), det({"a": curve, "b": curve}), scores(curve, title=r"$\frac$")):
        with Image.open(io.BytesIO(png)) as image:
            image.verify()
