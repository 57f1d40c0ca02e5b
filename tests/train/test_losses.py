"""Logits of every kind, sub-centres, AdaFace, and that each row of the paper's table learns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from train.losses.adaface import first_statistics, quality, row_margins, updated_statistics
from train.losses.extra import inter, intra, triplet
from train.losses.logits import logits_BC, sub_center_cosine, target_cosine
from train.losses.margins import MARGINS, Margin, margin_of
from train.losses.table import ROWS, Row
from train.settings import FitSettings, LossSettings, load_fit_settings

# B embeddings of a batch; C classes, K centres of each; D embedding
KINDS = [kind for kind in MARGINS if kind != "triplet"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_softmax_takes_inner_products_as_they_are() -> None:
    products_BC = torch.randn(4, 7) * 30
    assert torch.equal(
        logits_BC(products_BC, torch.zeros(4, dtype=torch.long), LossSettings(kind="softmax")), products_BC
    )


def test_norm_softmax_is_the_closed_form() -> None:
    """One cosine of 1 and n - 1 of 0: loss log(1 + (n - 1) e^-s)."""
    cosine_BC = torch.eye(5, dtype=torch.float64)
    logits = logits_BC(cosine_BC, torch.arange(5), LossSettings(kind="norm_softmax", scale=3))
    got = functional.cross_entropy(logits, torch.arange(5))
    assert got.item() == pytest.approx(math.log(1 + 4 * math.exp(-3)))


def test_cosface_is_the_closed_form() -> None:
    cosine_BC = torch.eye(5, dtype=torch.float64)
    logits = logits_BC(cosine_BC, torch.arange(5), LossSettings(kind="cosface", scale=3))
    got = functional.cross_entropy(logits, torch.arange(5))
    assert got.item() == pytest.approx(math.log(1 + 4 * math.exp(-3 * (1 - 0.35))))


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_targets_column_moves_and_rows_of_minus_one_not_at_all(kind: str) -> None:
    loss = LossSettings(kind=kind)  # type: ignore[arg-type]
    cosine_BC = torch.rand(6, 4) * 1.8 - 0.9
    labels_B = torch.tensor([0, 3, -1, 1, -1, 2])
    got = logits_BC(cosine_BC, labels_B, loss, torch.rand(6) * 30)
    scale = 1 if kind == "softmax" else 64
    moved_BC = (got - cosine_BC * scale).abs() > 1e-4
    assert not moved_BC[labels_B == -1].any()
    target_BC = functional.one_hot(labels_B.clamp(min=0), 4).bool() & (labels_B >= 0)[:, None]
    assert not (moved_BC & ~target_BC).any()
    assert bool(moved_BC.any()) == (kind not in ("softmax", "norm_softmax", "combined"))


@pytest.mark.parametrize("grad", ["exact", "straight_through"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_pole_gives_a_nan(kind: str, grad: str) -> None:
    """Every combination of +-1 at the target and elsewhere, as two equal or opposite vectors give."""
    cosine_BC = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1], [1.0000001, -1.0000001]], requires_grad=True)
    for label in (0, 1, -1):
        labels_B = torch.full((5,), label)
        logits = logits_BC(cosine_BC, labels_B, LossSettings(kind=kind, margin_grad=grad), torch.ones(5))  # type: ignore[arg-type]
        functional.cross_entropy(logits, labels_B, ignore_index=-1, reduction="sum").backward()
        assert logits.isfinite().all()
        assert cosine_BC.grad is not None
        assert cosine_BC.grad.isfinite().all()


def test_equal_and_opposite_embeddings_have_finite_gradients_all_the_way() -> None:
    centres_CKD = torch.eye(4)[:, None].clone().requires_grad_()
    embeddings_BD = torch.cat([torch.eye(4), -torch.eye(4)]).requires_grad_()
    labels_B = torch.arange(8) % 4
    logits = logits_BC(sub_center_cosine(embeddings_BD, centres_CKD), labels_B, LossSettings())
    functional.cross_entropy(logits, labels_B).backward()
    assert embeddings_BD.grad is not None
    assert embeddings_BD.grad.isfinite().all()
    assert centres_CKD.grad is not None
    assert centres_CKD.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_of_all_logits(kind: str) -> None:
    cosine_BC = (torch.rand(5, 4, dtype=torch.float64) * 1.4 - 0.5).requires_grad_()
    labels_B = torch.tensor([0, 1, -1, 3, 2])
    loss = LossSettings(kind=kind, scale=4)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda c: logits_BC(c, labels_B, loss, torch.full((5,), 25.0)), (cosine_BC,))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_computed_in_half_precision(kind: str) -> None:
    loss = LossSettings(kind=kind)  # type: ignore[arg-type]
    embeddings_BD, centres_CKD = torch.randn(6, 16), torch.randn(4, 1, 16)
    labels_B = torch.arange(6) % 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosine_BC = sub_center_cosine(embeddings_BD.bfloat16(), centres_CKD)
        got = logits_BC(cosine_BC, labels_B, loss, torch.full((6,), 20.0))
        apart = triplet(embeddings_BD.bfloat16(), labels_B, 0.35)
    want_BC = sub_center_cosine(embeddings_BD.bfloat16().float(), centres_CKD)
    assert cosine_BC.dtype == got.dtype == apart.dtype == torch.float32
    assert torch.equal(cosine_BC, want_BC)
    assert torch.equal(got, logits_BC(want_BC, labels_B, loss, torch.full((6,), 20.0)))
    assert logits_BC(cosine_BC.bfloat16(), labels_B, loss, torch.ones(6)).dtype == torch.float32


@settings(deadline=None)
@given(batch=st.integers(1, 5), classes=st.integers(1, 6), centres=st.integers(1, 4), dimensions=st.integers(1, 9))
def test_sub_centres_are_the_largest_cosine_of_each_class(
    batch: int, classes: int, centres: int, dimensions: int
) -> None:
    embeddings_BD, centres_CKD = torch.randn(batch, dimensions), torch.randn(classes, centres, dimensions) * 3
    want = functional.cosine_similarity(embeddings_BD[:, None, None], centres_CKD[None], dim=3).amax(dim=2)
    torch.testing.assert_close(sub_center_cosine(embeddings_BD, centres_CKD), want)


def test_only_the_nearest_sub_centre_learns() -> None:
    centres_CKD = torch.tensor([[[1.0, 0.2], [0.0, 1.0]]], requires_grad=True)
    sub_center_cosine(torch.tensor([[1.0, 0.0]]), centres_CKD).sum().backward()
    assert centres_CKD.grad is not None
    assert centres_CKD.grad[0, 0].abs().sum() > 0
    assert centres_CKD.grad[0, 1].abs().sum() == 0


def test_a_shard_of_the_classes_has_the_columns_of_the_whole() -> None:
    cosine_BC, labels_B = torch.rand(8, 6), torch.arange(8) % 6
    whole = logits_BC(cosine_BC, labels_B, LossSettings())
    left = logits_BC(cosine_BC[:, :4], torch.where(labels_B < 4, labels_B, -1), LossSettings())
    right = logits_BC(cosine_BC[:, 4:], torch.where(labels_B >= 4, labels_B - 4, -1), LossSettings())
    assert torch.equal(torch.cat([left, right], dim=1), whole)


def test_adafaces_margins_are_the_papers_ends() -> None:
    """Equation 12: q = -1 ArcFace, q = 0 CosFace, q = 1 a negative angle and twice the additive margin."""
    m2_B, m3_B = row_margins(torch.tensor([-1.0, 0.0, 1.0]), margin_of(LossSettings(kind="adaface")))
    torch.testing.assert_close(m2_B, torch.tensor([0.4, 0.0, -0.4]))
    torch.testing.assert_close(m3_B, torch.tensor([0.0, 0.4, 0.8]))


def the_authors_adaface(cosine_BC: Tensor, labels_B: Tensor, norms_B: Tensor, mean: float, deviation: float) -> Tensor:
    """The maths of AdaFace's head.py, written down again."""
    scaler_B = ((norms_B.clamp(0.001, 100) - mean) / (deviation + 1e-3) * 0.333).clamp(-1, 1)
    hot_BC = functional.one_hot(labels_B, cosine_BC.shape[1])
    theta_BC = cosine_BC.acos() - hot_BC * (0.4 * scaler_B)[:, None]
    return 64 * (theta_BC.clamp(1e-3, math.pi - 1e-3).cos() - hot_BC * (0.4 + 0.4 * scaler_B)[:, None])


def test_adaface_is_the_authors() -> None:
    cosine_BC = torch.rand(200, 5, dtype=torch.float64) * 1.7 - 0.85
    labels_B, norms_B = torch.arange(200) % 5, torch.rand(200, dtype=torch.float64) * 60
    statistics_2 = torch.tensor([25.0, 8.0])
    got = logits_BC(cosine_BC, labels_B, LossSettings(kind="adaface"), norms_B, statistics_2)
    torch.testing.assert_close(got, the_authors_adaface(cosine_BC, labels_B, norms_B, 25, 8), atol=1e-4, rtol=0)


def test_adafaces_statistics_run_after_the_batches() -> None:
    statistics_2 = first_statistics()
    norms_B = torch.tensor([4.0, 6.0, 8.0])
    assert quality(norms_B, statistics_2).abs().max() < 0.1
    first = updated_statistics(statistics_2, norms_B)
    torch.testing.assert_close(first, torch.tensor([20 * 0.99 + 6 * 0.01, 100 * 0.99 + 2 * 0.01]))
    for _ in range(2000):
        statistics_2 = updated_statistics(statistics_2, norms_B)
    torch.testing.assert_close(statistics_2, torch.tensor([6.0, 2.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(quality(norms_B, statistics_2), torch.tensor([-0.333, 0, 0.333]), atol=1e-3, rtol=0)


def test_adaface_without_lengths_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="pass norms_B"):
        logits_BC(torch.rand(2, 3), torch.zeros(2, dtype=torch.long), LossSettings(kind="adaface"))


def settings_of(row: Row) -> FitSettings:
    return load_fit_settings(None, row.overrides)


def trained(loss: LossSettings, *, steps: int = 150) -> tuple[float, float, Tensor]:
    """48 noisy points of 6 subjects through a linear layer to 4 numbers; first and last loss, and the cosines."""
    subjects, dimensions = 6, 4
    labels_B = torch.arange(48) % subjects
    inputs_BI = torch.randn(subjects, 32)[labels_B] + 0.3 * torch.randn(48, 32)
    layer_DI = torch.nn.Parameter(torch.randn(dimensions, 32) * 0.1)
    centres_CKD = torch.nn.Parameter(torch.randn(subjects, loss.sub_centers, dimensions) * 0.1)
    optimiser = torch.optim.SGD([layer_DI, centres_CKD], lr=0.02, momentum=0.9)
    first = last = math.nan
    statistics_2 = first_statistics()
    for step in range(steps):
        embeddings_BD = inputs_BI @ layer_DI.T
        norms_B = embeddings_BD.norm(dim=1)
        statistics_2 = updated_statistics(statistics_2, norms_B)
        cosine_BC = sub_center_cosine(embeddings_BD, centres_CKD)
        plain_BC = embeddings_BD @ centres_CKD[:, 0].T if loss.kind == "softmax" else cosine_BC
        total = torch.zeros(())
        if loss.kind != "triplet":
            logits = logits_BC(plain_BC, labels_B, loss, norms_B, statistics_2)
            total = total + functional.cross_entropy(logits, labels_B)
        if loss.intra:
            total = total + loss.intra * intra(target_cosine(cosine_BC, labels_B), labels_B)
        if loss.inter:
            between_BC = sub_center_cosine(centres_CKD[labels_B, 0], centres_CKD)
            total = total + loss.inter * inter(between_BC, labels_B)
        if loss.triplet or loss.kind == "triplet":
            total = total + (loss.triplet or 1) * triplet(embeddings_BD, labels_B, loss.triplet_margin)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        first, last = (total.item() if step == 0 else first), total.item()
    unit_BD = functional.normalize(inputs_BI @ layer_DI.detach().T, dim=1)
    return first, last, unit_BD @ unit_BD.T


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_every_row_of_the_papers_table_has_a_config_line_and_learns(row: Row) -> None:
    first, last, cosine_BB = trained(settings_of(row).loss)
    assert last < 0.2 * first or last < 0.05
    labels_B = torch.arange(48) % 6
    same_BB = labels_B[:, None] == labels_B[None]
    assert cosine_BB[same_BB].mean() > cosine_BB[~same_BB].mean() + 0.5


@pytest.mark.parametrize(
    "loss",
    [
        LossSettings(kind="adaface"),
        LossSettings(kind="combined", m1=1.1, m2=0.2, m3=0.1),
        LossSettings(sub_centers=3),
        LossSettings(margin_grad="straight_through"),
    ],
    ids=["adaface", "combined", "sub-centre", "straight-through"],
)
def test_what_the_table_does_not_have_learns_too(loss: LossSettings) -> None:
    first, last, _ = trained(loss)
    assert last < 0.2 * first


def test_every_kind_of_the_settings_is_in_the_table_or_beside_it() -> None:
    kinds = {settings_of(row).loss.kind for row in ROWS}
    assert kinds | {"combined", "adaface"} == set(MARGINS)
    assert len({row.title for row in ROWS}) == len({row.overrides for row in ROWS}) == 19


def test_the_tables_margins_are_those_in_its_titles() -> None:
    by_title = {row.title: margin_of(settings_of(row).loss) for row in ROWS}
    assert by_title["ArcFace (0.45)"] == Margin(m2=0.45)
    assert by_title["CM1 (1, 0.3, 0.2)"] == Margin(1, 0.3, 0.2)
    assert by_title["SphereFace (1.35)"] == Margin(m1=1.35)


def test_the_documented_table_is_this_one() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    for row in ROWS:
        options = " ".join(f"--set {pair}" for pair in row.overrides)
        figures = " / ".join(f"{value:.2f}" for value in row.published)
        assert f"| {row.title} | `{options}` | {figures} |" in text
