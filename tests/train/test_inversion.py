"""Model inversion: each term against its closed form, a tiny network given away, and the consent that it needs."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner, Result

from engines.networks import build
from tests.train.checkpoint_parts import NETWORK, SUBJECTS, small_checkpoint
from tests.train.sets import tiny_set
from train.checkpoints import save_checkpoint
from train.commands import invert as command
from train.errors import ConfigError, DataError
from train.inversion import invert as inversion
from train.inversion.audit import WARNING, aim_at_embedding, aim_at_subjects, audit, grid
from train.inversion.invert import as_pictures, invert, length, total_variation
from train.inversion.norms import NormDistance, norm_distance
from train.inversion.targets import ClosedSet, OpenSet
from train.runs import Run, open_run

app = typer.Typer()
command.register(app)
app.command("other")(lambda: None)


def run_command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["invert", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def network() -> nn.Module:
    """Its norms have seen drawn images, so that its layers neither die nor burst."""
    torch.manual_seed(0)
    module = build(NETWORK)
    with torch.no_grad():
        for _ in range(30):
            module.train()(torch.randn(16, 3, 32, 32))
    return module.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's."""
    path = tmp_path_factory.mktemp("run")
    save_checkpoint(path / "checkpoint.pt", small_checkpoint())
    return path


@pytest.fixture
def run(folder: Path) -> Run:
    return open_run(folder)


# terms


def test_the_distance_of_a_norm_is_that_of_numpys_statistics() -> None:
    norm = nn.BatchNorm2d(5).eval()
    random = np.random.default_rng(0)
    mean_C, variance_C = random.normal(size=5), random.uniform(0.5, 2, 5)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.from_numpy(mean_C))
    norm.running_var.copy_(torch.from_numpy(variance_C))
    maps_BCHW = random.normal(1, 3, (4, 5, 6, 7)).astype(np.float32)
    found = norm_distance(norm, torch.from_numpy(maps_BCHW))
    means = maps_BCHW.mean(axis=(0, 2, 3)) - mean_C
    deviations = np.sqrt(maps_BCHW.var(axis=(0, 2, 3)) + norm.eps) - np.sqrt(variance_C + norm.eps)
    assert float(found) == pytest.approx((means**2).sum() + (deviations**2).sum(), rel=1e-5)


def test_inputs_of_all_norms_are_looked_at_and_only_while_asked(network: nn.Module) -> None:
    images = torch.randn(2, 3, 32, 32)
    inputs: list[tuple[nn.BatchNorm2d, Tensor]] = []
    hooks = [
        norm.register_forward_hook(lambda norm, given, _: inputs.append((norm, given[0])))
        for norm in network.modules()
        if isinstance(norm, nn.BatchNorm2d)
    ]
    with NormDistance(network) as norms:
        plain = network(images)
        found = norms.take()
        assert float(norms.take()) == 0  # taken is gone
    assert len(norms) == len(hooks) == len(inputs)
    assert float(found.detach()) == pytest.approx(
        sum(float(norm_distance(*each).detach()) for each in inputs), rel=1e-5
    )
    assert torch.equal(network(images), plain)  # looking changes nothing
    assert float(norms.take()) == 0


def test_iresnet50_has_78_norms_to_look_at() -> None:
    from engines.networks import known_network

    with torch.device("meta"):
        module = build(known_network("iresnet50"))
    assert len(NormDistance(module)) == 78


def test_total_variation_of_a_step_and_of_a_chessboard() -> None:
    images = torch.zeros(2, 3, 4, 4)
    assert float(total_variation(images)) == 0
    images[:, :, :, 2:] = 1.0  # one edge of height 4 in 3 channels
    assert float(total_variation(images)) == 12
    board = (torch.arange(4)[:, None] + torch.arange(4)[None]) % 2
    assert float(total_variation(board.float().expand(1, 3, 4, 4))) == 3 * 2 * 12


def test_length_is_the_euclidean_norm() -> None:
    images = torch.stack([torch.full((3, 2, 2), 1.0), torch.full((3, 2, 2), -3.0)])
    assert float(length(images)) == pytest.approx((math.sqrt(12) + 3 * math.sqrt(12)) / 2)


def test_pictures_are_cut_off_at_black_and_white() -> None:
    images = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0]).expand(1, 3, 1, 5)
    assert as_pictures(images)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


# targets


def test_the_closed_set_is_arcfaces_cross_entropy() -> None:
    torch.manual_seed(0)
    faces_BD, centres_CKD = torch.randn(3, 8), torch.randn(4, 2, 8)
    labels_B = torch.tensor([0, 3, 3])
    target = ClosedSet(centres_CKD, labels_B)
    cosine_BC = torch.stack(
        [functional.cosine_similarity(faces_BD[:, None], centres, dim=2).amax(dim=1) for centres in centres_CKD], dim=1
    )
    own_B = cosine_BC[torch.arange(3), labels_B]
    assert torch.allclose(target.cosine(faces_BD), own_B, atol=1e-6)
    logits_BC = 64 * cosine_BC
    logits_BC[torch.arange(3), labels_B] = 64 * torch.cos(torch.acos(own_B) + 0.5)
    assert float(target.loss(faces_BD)) == pytest.approx(float(functional.cross_entropy(logits_BC, labels_B)), rel=1e-4)


def test_the_open_set_is_the_squared_distance_of_directions() -> None:
    torch.manual_seed(0)
    faces_BD, wanted_BD = torch.randn(3, 8), torch.randn(3, 8)
    target = OpenSet(5 * wanted_BD)
    between = functional.normalize(faces_BD, dim=1) - functional.normalize(wanted_BD, dim=1)
    assert float(target.loss(faces_BD)) == pytest.approx(8 * float(between.square().sum(dim=1).mean()), rel=1e-5)
    assert float(target.loss(3 * wanted_BD)) == pytest.approx(0, abs=1e-5)


# drawing


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_what_is_drawn_nears_its_target(network: nn.Module, kind: str) -> None:
    torch.manual_seed(1)
    centres = torch.randn(6, 1, NETWORK.dimensions)
    labels = torch.arange(4)
    target = ClosedSet(centres, labels) if kind == "closed" else OpenSet(centres[:4, 0])
    told: list[tuple[int, int]] = []
    found = invert(
        network, target, images=4, size=32, steps=60, progress=lambda done, total: told.append((done, total))
    )
    assert found.losses_T[-1] < 0.5 * found.losses_T[0]
    assert found.cosines_B.min() > 0.6
    assert found.cosines_B.mean() > found.noise_cosines_B.mean() + 0.4
    assert found.pictures_BSS3.shape == (4, 32, 32, 3)
    assert told[-1] == (60, 60)
    assert not found.stopped


def test_the_network_is_left_as_it_was(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wanted = [value.requires_grad for value in network.parameters()]
    network.train()
    invert(network, OpenSet(torch.ones(2, NETWORK.dimensions)), images=2, size=32, steps=3)
    assert network.training
    assert [value.requires_grad for value in network.parameters()] == wanted
    assert all(value.grad is None for value in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_seed_decides_what_is_drawn(network: nn.Module) -> None:
    target = OpenSet(torch.ones(2, NETWORK.dimensions))
    first, again, other = (
        invert(network, target, images=2, size=32, steps=3, seed=seed).pictures_BSS3 for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_ctrl_c_leaves_what_there_is(network: nn.Module) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    target = OpenSet(torch.ones(2, NETWORK.dimensions))
    found = invert(network, target, images=2, size=32, steps=50, progress=interrupt)
    assert found.stopped
    assert len(found.losses_T) == 4
    assert not any(value.grad_fn for value in network.parameters())


# audits


def test_a_subjects_row_aims_at_its_class(run: Run) -> None:
    aim = aim_at_subjects(run, ["eve", "bob"], 3, None)
    assert isinstance(aim.target, ClosedSet)
    assert aim.target.labels_B.tolist() == [4, 4, 4, 1, 1, 1]
    assert aim.names == ("eve", "bob")
    assert aim.real_WSS3 == (None, None)


def test_the_grid_shows_the_real_face_and_what_was_drawn(run: Run, tmp_path: Path) -> None:
    from train.prepared import open_prepared

    prepared = open_prepared(tiny_set(tmp_path / "set", train_people=2, val_people=0, size=32))
    real = np.array(prepared.train.crops_NSS3[5])  # the first of the second person
    torch.manual_seed(0)
    aim = aim_at_embedding(run, "somebody", np.arange(1, 9, dtype=np.float32), 2, real)
    result = audit(run, aim, steps=2, seed=1)
    with Image.open(io.BytesIO(grid(result))) as image:
        shown = np.array(image)
    for picture in (real, *result.found.pictures_BSS3):
        windows = np.lib.stride_tricks.sliding_window_view(shown, (1, 32, 3))[:, :, 0, 0]
        assert len(np.argwhere((windows == picture[0]).all(axis=(2, 3)))) == 1
    facts = json.loads(json.dumps(result.to_json()))
    assert (facts["kind"], facts["steps"], len(facts["people"]["somebody"]["cosines"])) == ("open set", 2, 2)


def test_a_run_without_centres_has_no_closed_set(run: Run) -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match="without class centres"):
        aim_at_subjects(replace(run, centres_CKD=None), ["bob"], 1, None)


@pytest.mark.parametrize("wrong", [np.ones(7), np.zeros(8), np.full(8, np.nan)])
def test_an_embedding_that_is_no_direction_is_refused(run: Run, wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match="8 finite numbers"):
        aim_at_embedding(run, "x.npy", wrong.astype(np.float32), 1, None)


# the command


def test_without_consent_nothing_is_drawn(folder: Path, tmp_path: Path) -> None:
    found = run_command(folder, "--subject", "bob", "--output", tmp_path / "grid.png")
    assert isinstance(found.exception, ConfigError)
    assert str(found.exception).startswith(WARNING)
    assert "--i-understand" in str(found.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("aims", [(), ("--subject", "bob", "--embedding", "x.npy")])
def test_one_way_of_aiming_is_needed(folder: Path, tmp_path: Path, aims: tuple[str, ...]) -> None:
    found = run_command(folder, *aims, "--output", tmp_path / "grid.png", "--i-understand")
    assert isinstance(found.exception, ConfigError)
    assert "one of --subject" in str(found.exception)


def test_an_unknown_subject_is_refused(folder: Path, tmp_path: Path) -> None:
    found = run_command(folder, "--subject", "zoe", "--output", tmp_path / "grid.png", "--i-understand")
    assert isinstance(found.exception, ConfigError)
    assert "--subject zoe" in str(found.exception)
    assert SUBJECTS[0] in str(found.exception)


def test_the_command_draws_subjects_and_an_embedding(folder: Path, tmp_path: Path) -> None:
    options = ("--output", tmp_path / "grid.png", "--steps", 3, "--images", 2, "--device", "cpu", "--i-understand")
    found = run_command(folder, "--subject", "bob", "--subject", "dörte", *options, "--json")
    assert found.exit_code == 0, found.output
    facts = json.loads(found.stdout)
    assert WARNING in found.stderr
    assert set(facts["people"]) == {"bob", "dörte"}
    np.save(tmp_path / "one.npy", np.arange(1, 9))
    found = run_command(folder, "--embedding", tmp_path / "one.npy", *options)
    assert found.exit_code == 0, found.output
    assert "open set, 3 steps" in found.stdout
    with Image.open(tmp_path / "grid.png") as image:
        assert image.format == "PNG"


def test_a_crop_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(crops / "one.png")
    options = ("--output", tmp_path / "grid.png", "--steps", 2, "--images", 1, "--device", "cpu", "--i-understand")
    found = run_command(folder, "--photo", crops / "one.png", *options, "--json")
    assert found.exit_code == 0, found.output
    assert list(json.loads(found.stdout)["people"]) == ["one.png"]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array", b"x" * (1 << 17)])
def test_a_file_that_is_no_embedding_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.npy").write_bytes(content)
    options = ("--output", tmp_path / "grid.png", "--i-understand")
    found = run_command(folder, "--embedding", tmp_path / "one.npy", *options)
    assert isinstance(found.exception, DataError)


def test_the_weights_of_the_terms_are_the_papers() -> None:
    weights = (inversion.LR, inversion.NORM_WEIGHT, inversion.VARIATION_WEIGHT, inversion.LENGTH_WEIGHT)
    assert weights == (0.25, 0.05, 1e-3, 1e-4)
