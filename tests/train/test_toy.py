"""The toy: who is taken, what training reaches, what the pictures hold, and the command."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from tests.paths import SHARED
from tests.train.sets import tiny_set
from train.commands import prepare
from train.commands import toy as command
from train.errors import ConfigError, TrainError
from train.losses.margins import MARGINS, Margin
from train.prepared import LABELS, open_prepared
from train.settings import LossSettings
from train.toy.circle import Circle, train_circle
from train.toy.drawing import TITLES, draw_circles, draw_decision_margins, draw_target_logits, regions
from train.toy.faces import SIDE, ToyFaces, toy_faces

app = typer.Typer()
command.register(app)
prepare.register(app)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_set(tmp_path_factory.mktemp("set") / "set", train_people=4, images=12)


@pytest.fixture(scope="module")
def faces(folder: Path) -> ToyFaces:
    return toy_faces(open_prepared(folder), 3)


def circle_of(angles: list[float], centres: list[float], labels: list[int]) -> Circle:
    return Circle("arcface", np.array(angles), np.array(centres), np.array(labels))


def test_people_with_the_most_crops_are_taken_in_that_order(folder: Path, tmp_path: Path) -> None:
    whole = tiny_set(tmp_path / "set", train_people=3, images=8)
    labels_N = np.load(whole / LABELS)
    labels_N[:4] = 2  # person 0 has 4 crops then, person 1 has 8, person 2 has 12
    np.save(whole / LABELS, labels_N)
    taken = toy_faces(open_prepared(whole), 2)
    assert taken.subjects == ("p002", "p001")
    assert np.bincount(taken.labels_N).tolist() == [12, 8]
    assert taken.crops_NSS3.shape == (20, SIDE, SIDE, 3)
    assert taken.crops_NSS3.dtype == np.uint8


def test_nobody_kept_back_is_taken(folder: Path) -> None:
    taken = toy_faces(open_prepared(folder), 4)
    assert taken.subjects == ("p000", "p001", "p002", "p003")


def test_too_few_people_are_named_with_the_number_that_would_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="4 people have 4 crops or more, 8 are asked for; give --classes 4"):
        toy_faces(open_prepared(folder), 8)
    alone = tiny_set(tmp_path / "alone", train_people=3, images=2)
    with pytest.raises(ConfigError, match="the toy needs two"):
        toy_faces(open_prepared(alone), 2)


@pytest.mark.parametrize("kind", ["softmax", "norm_softmax", "arcface"])
def test_faces_come_to_their_own_centres(faces: ToyFaces, kind: str) -> None:
    told: list[tuple[int, int]] = []
    found = train_circle(
        faces,
        LossSettings.model_validate({"kind": kind}),
        epochs=20,
        seed=1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert found.nearest > 0.9
    assert found.apart_deg > 60
    assert told == [(step + 1, 30) for step in range(30)]


def test_the_same_seed_gives_the_same_circle_and_leaves_torch_as_it_was(faces: ToyFaces) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    first, second = (train_circle(faces, LossSettings(), epochs=2, seed=3) for _ in range(2))
    assert np.array_equal(first.angles_N, second.angles_N)
    assert not np.array_equal(first.angles_N, train_circle(faces, LossSettings(), epochs=2, seed=4).angles_N)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_angles_are_taken_the_short_way_round() -> None:
    found = circle_of([math.pi - 0.1, 0.2], [-math.pi + 0.1, 0.0], [0, 1])
    assert found.own_deg == pytest.approx(math.degrees(0.2))
    assert found.apart_deg == pytest.approx(math.degrees(math.pi - 0.1))
    assert found.nearest == 1
    assert circle_of([0.1, 0.2], [0.0, 3.0], [1, 0]).nearest == 0.5


def test_regions_are_those_of_the_boundaries_that_the_paper_draws() -> None:
    """theta_1 and theta_2 at which class 1 begins: theta_2 = m1 theta_1 + m2 without an m3."""
    thetas_G = np.linspace(0.01, 1.4, 60)
    first_GG = regions(Margin(m1=1.2, m2=0.3), thetas_G) == -1
    assert np.array_equal(first_GG, thetas_G[:, None] > 1.2 * thetas_G[None] + 0.3)
    first_GG = regions(MARGINS["cosface"], thetas_G) == -1
    assert np.array_equal(first_GG, np.cos(thetas_G[None]) - 0.35 > np.cos(thetas_G[:, None]))


@given(
    margin=st.builds(Margin, m1=st.floats(1, 2), m2=st.floats(0, 1), m3=st.floats(0, 0.9)), points=st.integers(2, 40)
)
@settings(max_examples=50, deadline=None)
def test_regions_are_symmetric_and_the_margin_is_nobodys(margin: Margin, points: int) -> None:
    thetas_G = np.linspace(0, math.pi, points)
    found_GG = regions(margin, thetas_G)
    assert np.array_equal(found_GG, -found_GG.T)
    assert (np.diag(found_GG) == 0).all()


def opened(png: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(png), formats=("PNG",))
    picture.load()
    return picture


def coloured(picture: Image.Image, rgb: tuple[int, int, int]) -> int:
    pixels = np.asarray(picture.convert("RGB"), dtype=np.int64)
    return int((np.abs(pixels - rgb).max(axis=2) <= 3).sum())


def test_the_pictures_of_margins_have_their_regions_and_lines() -> None:
    shown = opened(draw_decision_margins())
    for region in ((0xCF, 0xE3, 0xF5), (0xC4, 0xC4, 0xC4), (0xFB, 0xE3, 0xCF)):
        assert coloured(shown, region) > 20_000
    assert coloured(opened(draw_target_logits()), (0xD5, 0x5E, 0x00)) > 200


def test_the_circles_have_a_panel_a_loss_and_a_colour_a_person() -> None:
    turns = [0.0, 2.0, -2.0]
    angles = [turn + shift for turn in turns for shift in np.linspace(-0.1, 0.1, 30)]
    found = circle_of(angles, turns, list(np.repeat(np.arange(3), 30)))
    names = ("a$b", "_c", "김철수")
    one, two = opened(draw_circles([found], names)), opened(draw_circles([found, found], names))
    assert 1.8 < two.width / one.width < 2.2
    for colour in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)):
        assert coloured(one, colour) > 300


def test_every_loss_with_centres_of_the_paper_can_be_drawn() -> None:
    assert set(TITLES) == set(MARGINS) - {"combined", "adaface", "triplet"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["toy", *map(str, arguments)])


def run_prepare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def test_the_command_writes_three_pictures_and_says_what_it_found(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "toy"
    done = run(folder, out, "--classes", "3", "--epochs", "2", "--losses", "arcface, cm2", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["crops"] == 36
    assert set(facts["losses"]) == {"arcface", "cm2"}
    assert sorted(path.name for path in out.iterdir()) == ["circles.png", "logits.png", "margins.png"]
    for path in out.iterdir():
        opened(path.read_bytes())


def test_the_command_refuses_an_unknown_loss_and_a_file_as_folder(folder: Path, tmp_path: Path) -> None:
    wrong = run(folder, tmp_path, "--losses", "arcfase")
    assert wrong.exit_code == 2
    assert "known are softmax" in wrong.stderr
    (tmp_path / "file").write_text("")
    taken = run(folder, tmp_path / "file", "--classes", "3").exception
    assert isinstance(taken, TrainError)
    assert "cannot be made a folder" in str(taken)


def test_the_table_has_a_line_a_loss(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path / "out", "--classes", "2", "--epochs", "1", "--losses", "cosface,arcface")
    assert done.exit_code == 0, done.output
    for kind in ("cosface", "arcface"):
        assert f"\n{kind} " in done.stdout


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="measurement data (../shared/data) is not here")
def test_on_real_faces_arcface_is_the_tighter_one(tmp_path: Path) -> None:
    people = tmp_path / "johns"
    prepared = run_prepare("folder", SHARED / "johns", people, "--workers", "0")
    assert prepared.exit_code == 0, prepared.output
    done = run(
        people, tmp_path / "out", "--classes", "5", "--epochs", "40", "--losses", "norm_softmax,arcface", "--json"
    )
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["crops"] > 50
    losses = facts["losses"]
    assert all(loss["nearest"] > 0.9 for loss in losses.values())
    assert losses["arcface"]["own_deg"] < losses["norm_softmax"]["own_deg"]
