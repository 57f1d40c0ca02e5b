"""Intra, inter and triplet against closed forms, plain loops and numeric gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from train.losses.extra import inter, intra, triplet
from train.losses.logits import sub_center_cosine

# B embeddings of a batch; C classes; D embedding


def between(centres_CD: Tensor, labels_B: Tensor) -> Tensor:
    return sub_center_cosine(centres_CD[labels_B.clamp(min=0)], centres_CD[:, None])


def test_intra_of_right_angles_is_a_half() -> None:
    assert intra(torch.zeros(4), torch.zeros(4, dtype=torch.long)).item() == pytest.approx(0.5)
    assert intra(torch.tensor([1.0, -1.0]), torch.zeros(2, dtype=torch.long)).item() == pytest.approx(0.5)
    assert intra(torch.tensor([-1.0]), torch.zeros(1, dtype=torch.long)).item() == pytest.approx(1)


def test_inter_of_right_angles_is_less_a_half_and_of_opposites_less_one() -> None:
    labels_B = torch.tensor([0, 1, 2, 2])
    assert inter(between(torch.eye(3), labels_B), labels_B).item() == pytest.approx(-0.5)
    opposite_CD = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert inter(between(opposite_CD, labels_B[:2]), labels_B[:2]).item() == pytest.approx(-1, abs=1e-3)


@settings(deadline=None)
@given(batch=st.integers(1, 6), classes=st.integers(2, 6), seed=st.integers(0, 1000))
def test_equations_5_and_6_term_by_term(batch: int, classes: int, seed: int) -> None:
    torch.manual_seed(seed)
    embeddings_BD, centres_CD = torch.randn(batch, 5).double(), torch.randn(classes, 5).double()
    labels_B = torch.randint(classes, (batch,))
    theta = functional.cosine_similarity(embeddings_BD[:, None], centres_CD[None], dim=2).acos()
    apart = functional.cosine_similarity(centres_CD[:, None], centres_CD[None], dim=2).clamp(-1, 1).acos()
    own = [theta[row, label].item() for row, label in enumerate(labels_B.tolist())]
    others = [
        apart[label, column].item() for label in labels_B.tolist() for column in range(classes) if column != label
    ]
    cosine_B = theta.cos().gather(1, labels_B[:, None])[:, 0]
    assert intra(cosine_B, labels_B).item() == pytest.approx(sum(own) / (math.pi * batch))
    got = inter(between(centres_CD, labels_B), labels_B).item()
    assert got == pytest.approx(-sum(others) / (math.pi * batch * (classes - 1)))


def test_rows_without_a_label_take_no_part() -> None:
    torch.manual_seed(1)
    embeddings_BD, centres_CD = torch.randn(6, 4), torch.randn(3, 4)
    labels_B = torch.tensor([0, -1, 2, 0, -1, 2])
    kept = labels_B >= 0
    cosine_B = torch.rand(6)
    torch.testing.assert_close(intra(cosine_B, labels_B), intra(cosine_B[kept], labels_B[kept]))
    between_BC = between(centres_CD, labels_B)
    torch.testing.assert_close(inter(between_BC, labels_B), inter(between_BC[kept], labels_B[kept]))
    torch.testing.assert_close(
        triplet(embeddings_BD, labels_B, 0.35), triplet(embeddings_BD[kept], labels_B[kept], 0.35)
    )


def test_sums_over_shards_are_the_whole() -> None:
    torch.manual_seed(1)
    labels_B, cosine_BC = torch.tensor([0, 4, 2, -1, 3]), torch.rand(5, 6)
    target_B = cosine_BC.gather(1, labels_B.clamp(min=0)[:, None])[:, 0]
    shards = (slice(0, 2), slice(2, 6))
    parts_intra, parts_inter = [], []
    for shard in shards:
        here_B = torch.where((labels_B >= shard.start) & (labels_B < shard.stop), labels_B - shard.start, -1)
        parts_intra.append(intra(target_B, here_B, rows=4))
        parts_inter.append(inter(cosine_BC[:, shard], here_B, classes=6, rows=4, counted_B=labels_B >= 0))
    torch.testing.assert_close(sum(parts_intra), intra(target_B, labels_B))
    torch.testing.assert_close(sum(parts_inter), inter(cosine_BC, labels_B))


def by_loops(embeddings_BD: Tensor, labels: list[int], margin: float) -> float:
    angles = functional.cosine_similarity(embeddings_BD[:, None], embeddings_BD[None], dim=2).clamp(-1, 1).acos()
    harms = []
    for anchor, label in enumerate(labels):
        rows = [row for row in range(len(labels)) if row != anchor and label >= 0 and labels[row] >= 0]
        mates = [angles[anchor, row].item() for row in rows if labels[row] == label]
        others = [angles[anchor, row].item() for row in rows if labels[row] != label]
        if mates and others:
            harms.append(max(0.0, max(mates) + margin - min(others)))
    return sum(harms) / len(harms) if harms else 0.0


@settings(deadline=None)
@given(labels=st.lists(st.integers(-1, 3), min_size=1, max_size=9), seed=st.integers(0, 1000), margin=st.floats(0, 2))
def test_triplet_is_the_hardest_of_the_batch(labels: list[int], seed: int, margin: float) -> None:
    embeddings_BD = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed)).double()
    got = triplet(embeddings_BD, torch.tensor(labels), margin)
    assert got.item() == pytest.approx(by_loops(embeddings_BD, labels, margin), abs=1e-9)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0], [-1, -1, -1], [0, 0, -1]])
def test_triplet_without_an_anchor_is_zero_with_a_zero_gradient(labels: list[int]) -> None:
    embeddings_BD = torch.randn(3, 4, requires_grad=True)
    got = triplet(embeddings_BD, torch.tensor(labels), 0.35)
    got.backward()
    assert got.item() == 0
    assert embeddings_BD.grad is not None
    assert (embeddings_BD.grad == 0).all()


def test_gradients_are_the_numeric_ones() -> None:
    torch.manual_seed(3)
    labels_B = torch.tensor([0, 1, 2, 0, 1, -1])
    embeddings_BD = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    centres_CD = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: triplet(e, labels_B, 1.0), (embeddings_BD,))
    assert torch.autograd.gradcheck(lambda c: inter(between(c, labels_B), labels_B), (centres_CD,))
    cosine_B = (torch.rand(6, dtype=torch.float64) * 1.8 - 0.9).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: intra(c, labels_B), (cosine_B,))


def test_the_same_photo_twice_gives_no_nan() -> None:
    one_D = torch.randn(4)
    embeddings_BD = torch.stack([one_D, one_D, -one_D, one_D]).requires_grad_()
    centres_CD = torch.stack([one_D, -one_D, one_D]).requires_grad_()
    labels_B = torch.tensor([0, 0, 1, 2])
    total = triplet(embeddings_BD, labels_B, 0.35) + inter(between(centres_CD, labels_B), labels_B)
    cosine_BC = sub_center_cosine(embeddings_BD, centres_CD[:, None])
    (total + intra(cosine_BC[:, 0], labels_B)).backward()
    for leaf in (embeddings_BD, centres_CD):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_inter_parts_the_centres() -> None:
    torch.manual_seed(0)
    centres_CD = (torch.tensor([1.0, 0.0]) + 0.1 * torch.randn(3, 2)).requires_grad_()
    labels_B = torch.arange(3)
    optimiser = torch.optim.SGD([centres_CD], lr=0.3)
    for _ in range(300):
        optimiser.zero_grad()
        inter(between(centres_CD, labels_B), labels_B).backward()
        optimiser.step()
    unit_CD = functional.normalize(centres_CD.detach(), dim=1)
    turns = [math.acos(max(-1, min(1, float(unit_CD[a] @ unit_CD[b])))) for a, b in itertools.combinations(range(3), 2)]
    assert sum(turns) == pytest.approx(2 * math.pi, abs=0.05)
