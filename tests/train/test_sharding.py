"""Class centres in one process: against torch's own cross-entropy, and what a sampled step leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from train.errors import ConfigError
from train.losses.logits import logits_BC, sub_center_cosine
from train.settings import LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks
from train.sharding.rows import RowSgd
from train.sharding.sampling import derived_seed, sampled_classes, shard_of
from train.sharding.softmax import sharded_cross_entropy, share_nearest

torch.set_num_threads(1)
ALONE = Ranks.alone()


def head_of(classes: int, dimensions: int = 8, *, seed: int = 1, **loss: Any) -> ClassCentres:
    return ClassCentres(classes, dimensions, LossSettings(**loss), ALONE, seed=seed)


def faces_of(rows: int, dimensions: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))


@given(rows=st.integers(1, 9), classes=st.integers(1, 12), seed=st.integers(0, 99), size=st.sampled_from([1.0, 200.0]))
@settings(max_examples=40, deadline=None)
def test_cross_entropy_and_its_gradient_are_torchs(rows: int, classes: int, seed: int, size: float) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, classes, generator=random, dtype=torch.float64) * size).requires_grad_()
    labels = torch.randint(-1, classes, (rows,), generator=random)
    labels[0] = 0
    ours = sharded_cross_entropy(logits, labels, labels >= 0, ALONE)
    (ours * 3).backward()
    found, logits.grad = logits.grad, None
    theirs = functional.cross_entropy(logits, labels, ignore_index=-1)
    (theirs * 3).backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found, logits.grad)


def test_cross_entropy_of_no_labelled_row_is_zero() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    labels = torch.full((3,), -1)
    loss = sharded_cross_entropy(logits, labels, labels >= 0, ALONE)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_accuracy_is_the_share_of_labelled_rows_nearest_to_their_own_class() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.3], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, -1])
    assert share_nearest(scores, labels, labels >= 0, ALONE).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", ["norm_softmax", "arcface", "cosface", "sphereface", "cm1", "cm2"])
@pytest.mark.parametrize("centres", [1, 3])
def test_loss_is_the_dense_one(kind: Any, centres: int) -> None:
    head = head_of(6, kind=kind, sub_centers=centres)
    faces, labels = faces_of(10), torch.arange(10) % 6
    cosine = sub_center_cosine(faces, head.weight.view(6, centres, 8))
    expected = functional.cross_entropy(logits_BC(cosine, labels, head.loss), labels)
    output = head(faces, labels, step=0)
    torch.testing.assert_close(output.loss, expected)
    assert output.parts.keys() == {"softmax"}
    torch.testing.assert_close(output.accuracy, (cosine.argmax(1) == labels).float().mean())


def test_plain_softmax_has_a_bias_and_no_unit_length() -> None:
    head = head_of(4, kind="softmax")
    with torch.no_grad():
        head.bias += torch.arange(4.0)[:, None]
    faces, labels = faces_of(5) * 7, torch.tensor([0, 1, 2, 3, 0])
    expected = functional.cross_entropy(faces @ head.weight.T + torch.arange(4.0), labels)
    torch.testing.assert_close(head(faces, labels, step=0).loss, expected)


def test_terms_are_added_with_their_weights() -> None:
    head = head_of(4, kind="norm_softmax", intra=2.0, inter=3.0, triplet=0.5)
    output = head(faces_of(8), torch.arange(8) % 4, step=0)
    parts = output.parts
    assert parts.keys() == {"softmax", "intra", "inter", "triplet"}
    expected = parts["softmax"] + 2 * parts["intra"] + 3 * parts["inter"] + 0.5 * parts["triplet"]
    torch.testing.assert_close(output.loss, expected)
    unit = functional.normalize(head.weight, dim=1)
    angles = torch.acos((unit @ unit.T).clamp(-1, 1))[~torch.eye(4, dtype=torch.bool)]
    torch.testing.assert_close(parts["inter"], -angles.mean() / torch.pi)


def test_triplet_has_no_centres_and_counts_neighbours() -> None:
    head = head_of(3, kind="triplet")
    assert head.weight.shape == (0, 8)
    faces = torch.eye(8)[[0, 0, 1, 1, 2, 0]].requires_grad_()
    output = head(faces, torch.tensor([0, 0, 1, 1, 2, -1]), step=0)
    output.loss.backward()
    assert faces.grad is not None
    assert output.accuracy.item() == 1
    assert output.parts.keys() == {"triplet"}


def test_half_precision_is_raised_and_autocast_is_off() -> None:
    head = head_of(4)
    faces, labels = faces_of(6).bfloat16(), torch.arange(6) % 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(faces, labels, step=0)
    torch.testing.assert_close(output.loss, head(faces.float(), labels, step=0).loss, rtol=0, atol=0)


def test_adaface_notes_lengths_in_training_only() -> None:
    head = head_of(4, kind="adaface")
    before = head.statistics.clone()
    head.eval()(faces_of(6), torch.arange(6) % 4, step=0)
    assert torch.equal(head.statistics, before)
    head.train()(faces_of(6), torch.arange(6) % 4, step=0)
    assert not torch.equal(head.statistics, before)


def test_a_label_beyond_the_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="label 4 is beyond the 4 classes"):
        head_of(4)(faces_of(2), torch.tensor([0, 4]), step=0)


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        ({"kind": "softmax", "sub_centers": 2}, "loss.sub_centers"),
        ({"inter": 1.0, "sub_centers": 2}, "loss.inter"),
        ({"kind": "triplet", "sample_rate": 0.5}, "loss.sample_rate"),
        ({"kind": "triplet", "intra": 1.0}, "loss.intra"),
        ({"kind": "softmax", "m2": 0.5}, "loss.m2 is 0.5, but loss.kind softmax has no margin"),
        ({"kind": "triplet", "m3": 0.3}, "loss.m3"),
    ],
)
def test_options_that_do_not_go_together(loss: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        head_of(4, **loss)


@given(classes=st.integers(0, 50), size=st.integers(1, 9))
def test_shards_hold_every_class_once_and_evenly(classes: int, size: int) -> None:
    shards = [shard_of(classes, rank, size) for rank in range(size)]
    assert [number for shard in shards for number in range(shard.start, shard.stop)] == list(range(classes))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_fresh_centres_do_not_depend_on_the_number_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.sharding.centres.BLOCK", 4)
    loss = LossSettings(sub_centers=2)
    whole = ClassCentres(11, 8, loss, ALONE, seed=5).weight
    assert whole.std().item() == pytest.approx(0.01, rel=0.2)
    assert len(whole.unique(dim=0)) == 22
    pieces = [ClassCentres(11, 8, loss, Ranks(rank, 3, ALONE.device), seed=5).weight for rank in range(3)]
    assert torch.equal(torch.cat(pieces), whole)
    assert not torch.equal(ClassCentres(11, 8, loss, ALONE, seed=6).weight, whole)


def test_centres_of_another_shape_are_not_taken() -> None:
    head = head_of(4)
    with pytest.raises(ValueError, match="do not fit"):
        head.load_whole(torch.zeros(5, 8))
    with pytest.raises(ValueError, match="momentum"):
        head.load_whole_state({"weight": torch.zeros(4, 8)}, {"weight": torch.zeros(4, 8)})
    head.load_whole(torch.ones(4, 8))
    assert torch.equal(head.whole_weight(), torch.ones(4, 8))


@given(
    classes=st.integers(1, 60),
    rate=st.floats(0.01, 1),
    step=st.integers(0, 1000),
    labels=st.lists(st.integers(-1, 59), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_the_classes_of_the_batch_always_take_part(classes: int, rate: float, step: int, labels: list[int]) -> None:
    present = {label % classes for label in labels if label >= 0}
    labels_B = torch.tensor([label % classes if label >= 0 else -1 for label in labels], dtype=torch.int64)
    chosen = sampled_classes(labels_B, classes, rate, seed=1, step=step).tolist()
    assert chosen == sorted(set(chosen))
    assert present <= set(chosen) <= set(range(classes))
    assert len(chosen) == max(int(rate * classes), len(present), 1)


def test_another_step_and_another_seed_draw_others() -> None:
    labels = torch.tensor([3])
    draws = {
        tuple(sampled_classes(labels, 100, 0.2, seed=seed, step=step).tolist()) for seed in (1, 2) for step in (0, 1)
    }
    assert len(draws) == 4
    assert torch.equal(
        sampled_classes(labels, 100, 0.2, seed=1, step=0), sampled_classes(labels, 100, 0.2, seed=1, step=0)
    )
    counts = torch.zeros(100)
    for step in range(300):
        counts[sampled_classes(labels, 100, 0.2, seed=1, step=step)] += 1
    assert counts[3] == 300
    others = counts[torch.arange(100) != 3]
    assert 30 < others.min() <= others.max() < 90  # 19 of 99, 300 times: 58 in the mean


def test_seeds_of_different_uses_differ() -> None:
    assert len({derived_seed(1, "sample", 2), derived_seed(1, "sample", 3), derived_seed(12, "sample"), 0}) == 4
    assert derived_seed(1, "sample", 2) == derived_seed(1, "sample", 2) < 1 << 63


@pytest.mark.parametrize("centres", [1, 2])
def test_what_a_step_has_not_looked_at_does_not_move(centres: int) -> None:
    head = head_of(20, sample_rate=0.3, sub_centers=centres)
    assert head.sampled
    learner = RowSgd(dict(head.named_parameters()), momentum=0.9, weight_decay=0.1)
    labels = torch.tensor([0, 1, 0, 2])
    seen_before: set[int] = set()
    for step in range(6):
        weight, momentum = head.weight.detach().clone(), learner.momentum["weight"].clone()
        chosen = set(sampled_classes(labels, 20, 0.3, seed=1, step=step).tolist())
        learner.clear()
        head(faces_of(4, seed=step), labels, step=step).loss.backward()
        assert head.weight.grad is not None
        assert head.weight.grad.is_sparse
        learner.step(0.1)
        moved = (head.weight != weight).any(dim=1).view(20, centres).any(dim=1)
        assert set(moved.nonzero()[:, 0].tolist()) == chosen
        still = torch.tensor([number not in chosen for number in range(20)]).repeat_interleave(centres)
        assert torch.equal(learner.momentum["weight"][still], momentum[still])
        seen_before |= chosen
    assert len(seen_before) > 6


def test_rows_that_take_part_step_as_torchs_sgd_does() -> None:
    rows = torch.nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    dense = torch.nn.Parameter(rows.detach().clone()[[1, 3]])
    ours = RowSgd({"weight": rows}, momentum=0.9, weight_decay=0.01)
    theirs = torch.optim.SGD([dense], lr=0.1, momentum=0.9, weight_decay=0.01)
    before = rows.detach().clone()
    for step in range(4):
        grad = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        # rows twice, as two parts of a step leave them
        index = torch.tensor([[1, 3, 3, 1]])
        rows.grad = torch.sparse_coo_tensor(index, torch.cat([grad, grad.flip(0)]) / 2, (5, 3), check_invariants=True)
        dense.grad = grad
        assert [value.shape for value in ours.gradients] == [(2, 3)]
        ours.step(torch.tensor(0.1, dtype=torch.float64))
        theirs.step()
    torch.testing.assert_close(rows[[1, 3]], dense)
    assert torch.equal(rows[[0, 2, 4]], before[[0, 2, 4]])
    kept = {name: value.clone() for name, value in ours.momentum.items()}
    ours.clear()
    assert rows.grad is None
    assert ours.gradients == []
    ours.step(0.1)
    ours.load(kept)
    assert torch.equal(ours.momentum["weight"], kept["weight"])


def test_gradients_can_be_scaled_where_they_lie() -> None:
    head = head_of(20, sample_rate=0.3)
    learner = RowSgd(dict(head.named_parameters()), momentum=0.0, weight_decay=0.0)
    head(faces_of(4), torch.arange(4), step=0).loss.backward()
    before = learner.gradients[0].clone()
    learner.gradients[0].mul_(0.5)
    torch.testing.assert_close(learner.gradients[0], before / 2)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_centres_learn_to_tell_classes_apart(rate: float) -> None:
    head = head_of(6, kind="arcface", scale=16.0, sample_rate=rate)
    named = dict(head.named_parameters())
    faces, labels = torch.eye(8)[:6].repeat(2, 1), torch.arange(6).repeat(2)
    learner = RowSgd(named, momentum=0.9, weight_decay=0.0)
    plain = torch.optim.SGD(named.values(), lr=0.002, momentum=0.9)
    for step in range(60):
        output = head(faces, labels, step=step)
        learner.clear()
        output.loss.backward()
        learner.step(0.002) if head.sampled else plain.step()
    assert output.accuracy.item() == 1
    assert output.loss.item() < 1


def test_one_process_needs_no_group() -> None:
    with Ranks.alone() as ranks:
        ranks.wait()
        assert ranks.any(True)
        assert ranks.first
        value = torch.tensor([2.0])
        for call in (ranks.sum_, ranks.max_, ranks.mean_, ranks.gather, ranks.broadcast_):
            assert torch.equal(call(value), torch.tensor([2.0]))
    assert not torch.distributed.is_initialized()
