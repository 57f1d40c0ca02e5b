"""Which crops a step sees, and how they come to the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.sets import tiny_set
from train.errors import ConfigError, DataError
from train.fit.crops import Feed, Mapped, Resident, as_images, keeper_for
from train.fit.order import FLIPS, ORDER, Order, Share, raw_words
from train.prepared import PreparedSet, Split, open_prepared

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return open_prepared(tiny_set(tmp_path_factory.mktemp("set"), train_people=5, images=5, size=32))


@st.composite
def shared_out(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Rows, ranks, parts and a batch that they can share."""
    ranks, parts = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    batch = ranks * parts * draw(st.integers(2, 5))
    return draw(st.integers(batch, 4 * batch)), ranks, parts, batch


@given(shared_out(), st.integers(0, 2**31 - 1), st.integers(0, 50))
def test_ranks_and_parts_share_one_global_order(sizes: tuple[int, int, int, int], seed: int, step: int) -> None:
    rows, ranks, parts, batch = sizes
    labels_N = np.zeros(rows, dtype=np.int64)
    whole = Order(labels_N, batch=batch, seed=seed)
    shares = [
        Order(labels_N, batch=batch, seed=seed, share=Share(rank, ranks, parts)).parts(step) for rank in range(ranks)
    ]
    rejoined = [piece for part in zip(*shares, strict=True) for piece in part]
    assert np.array_equal(np.concatenate([rows_M for rows_M, _ in rejoined]), whole.rows_B(step))
    assert np.array_equal(np.concatenate([flips_M for _, flips_M in rejoined]), whole.flips_B(step))


@given(st.integers(2, 60), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_an_epoch_shows_each_crop_once_at_most(rows: int, seed: int, epoch: int) -> None:
    order = Order(np.zeros(rows, dtype=np.int64), batch=2, seed=seed)
    seen = np.concatenate([order.rows_B(epoch * order.steps + step) for step in range(order.steps)])
    assert len(set(seen.tolist())) == len(seen) == rows - rows % 2


def test_order_depends_on_seed_and_epoch_alone() -> None:
    labels_N = np.zeros(40, dtype=np.int64)
    one, again, other = (Order(labels_N, batch=40, seed=seed) for seed in (1, 1, 2))
    again.rows_B(7)
    assert np.array_equal(one.rows_B(3), again.rows_B(3))
    assert not np.array_equal(one.rows_B(3), one.rows_B(4))
    assert not np.array_equal(one.rows_B(3), other.rows_B(3))


def test_the_draws_never_change() -> None:
    """A checkpoint of today goes on tomorrow, with another numpy."""
    assert raw_words(1, 0, ORDER, 2).tolist() == [9441442522235856127, 17532960557476522086]
    assert Order(np.zeros(8, dtype=np.int64), batch=8, seed=1).rows_B(0).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]


def test_half_of_the_crops_are_mirrored_or_none() -> None:
    labels_N = np.zeros(4000, dtype=np.int64)
    assert 0.45 < Order(labels_N, batch=4000, seed=1).flips_B(0).mean() < 0.55
    assert not Order(labels_N, batch=4000, seed=1, flip=False).flips_B(0).any()
    assert not np.array_equal(raw_words(1, 0, ORDER, 9), raw_words(1, 0, FLIPS, 9))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(2, 4), st.integers(0, 1000))
def test_groups_of_a_subject_lie_beside_each_other(counts: list[int], per_subject: int, seed: int) -> None:
    labels_N = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(seed)
    random.shuffle(labels_N)
    if max(counts) < 2:
        with pytest.raises(DataError, match="nobody in the set has two crops"):
            Order(labels_N, batch=per_subject, seed=seed, per_subject=per_subject)
        return
    order = Order(labels_N, batch=per_subject, seed=seed, per_subject=per_subject)
    epoch = [order.rows_B(step) for step in range(order.steps)]
    assert all(len(set(labels_N[rows_B].tolist())) == 1 for rows_B in epoch)
    paired = {row for row, label in enumerate(labels_N) if counts[label] >= 2}
    assert {int(row) for rows_B in epoch for row in rows_B} == paired


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 7, "share": Share(0, 2, 1)}, "cannot share evenly; take a multiple of 2"),
        ({"batch": 4, "share": Share(0, 2, 2)}, "BatchNorm has no variance"),
        ({"batch": 50}, "an epoch has only 40 crops; set it to 40 or less"),
        ({"batch": 8, "per_subject": 3}, "no multiple of data.per_subject 3"),
        ({"batch": 8, "per_subject": 1}, "which makes no pair"),
    ],
)
def test_batches_that_cannot_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Order(np.arange(40) // 4, seed=1, **options)  # type: ignore[arg-type]


def test_images_are_mirrored_and_normalised_as_the_engines_do() -> None:
    crops = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    flips = torch.tensor([False, True, False])
    images = as_images(crops, flips, channels_last=True)
    wanted = (crops.numpy().transpose(0, 3, 1, 2).astype(np.float32) - np.float32(127.5)) * np.float32(1 / 127.5)
    wanted[1] = wanted[1, :, :, ::-1]
    assert np.array_equal(images.numpy(), wanted)
    assert images.is_contiguous(memory_format=torch.channels_last)
    planes = as_images(crops, flips, channels_last=False)
    assert planes.is_contiguous()
    assert torch.equal(planes, images)


@pytest.mark.parametrize("wish", ["auto", "device", "host"])
def test_the_feed_gives_the_crops_of_the_order(prepared: PreparedSet, wish: str) -> None:
    split = prepared.train
    order = Order(split.labels_N, batch=8, seed=3, share=Share(0, 1, 2))
    keeper = keeper_for(split, wish, CPU)
    assert isinstance(keeper, Resident if wish == "device" else Mapped)
    for step, parts in enumerate(Feed(split, order, keeper, CPU).steps(2, 6), 2):
        assert len(parts) == 2
        for part, (rows_M, flips_M) in zip(parts, order.parts(step), strict=True):
            assert np.array_equal(part.crops_MSSC.numpy(), split.crops_NSS3[rows_M])
            assert np.array_equal(part.flips_M.numpy(), flips_M)
            assert np.array_equal(part.labels_M.numpy(), split.labels_N[rows_M])


def test_what_fails_while_reading_ahead_comes_out_where_crops_are_taken(prepared: PreparedSet) -> None:
    """There is no worker process that could be killed: crops are read by one thread."""

    class Broken(Mapped):
        def take(self, rows_M: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
            raise OSError(5, "Input/output error")

    split: Split = prepared.train
    feed = Feed(split, Order(split.labels_N, batch=8, seed=3), Broken(split, pinned=False), CPU)
    with pytest.raises(OSError, match="Input/output error"):
        list(feed.steps(0, 2))


def test_a_set_is_read_in_the_order_of_its_file(prepared: PreparedSet, tmp_path: Path) -> None:
    rows_M = np.array([9, 2, 2, 17])
    crops = Mapped(prepared.train, pinned=False).take(rows_M)
    assert np.array_equal(crops.numpy(), prepared.train.crops_NSS3[rows_M])
