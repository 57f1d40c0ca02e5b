"""The nearest rows are those of brute force, whatever the rows are, and what is called proved is so."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.search import Found, Search, open_search
from engines.search.passes import TorchPasses
from engines.search.rows import GROUP, Exact, Kind, build_rows, quantised
from tests.pretended_gpu import pretended_gpu

CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("int8", "fp16")


def unit(count: int, dimensions: int = 64, seed: int = 0) -> Tensor:
    values = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=1)


def brute(probes_ND: Tensor, rows_MD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    scores_NM = probes_ND.double() @ rows_MD.double().T
    order = scores_NM.sort(dim=1, descending=True, stable=True)
    return order.indices[:, :k], order.values[:, :k]


def agrees(found: Found, probes_ND: Tensor, rows_MD: Tensor, k: int) -> None:
    """Scores within float32; rows the same wherever scores are further apart than that."""
    rows_NK, scores_NK = brute(probes_ND, rows_MD, k)
    tolerance = 2e-6 * float(probes_ND.norm(dim=1).max() * rows_MD.norm(dim=1).max() + 1e-30)
    assert torch.allclose(found.scores_NK.double(), scores_NK, rtol=0, atol=tolerance)
    given = (rows_MD[found.rows_NK].double() * probes_ND[:, None].double()).sum(dim=2)
    assert torch.allclose(given, scores_NK, rtol=0, atol=2 * tolerance)
    assert all(len(set(row.tolist())) == k for row in found.rows_NK)
    apart = (scores_NK.diff(dim=1).abs() > 4 * tolerance).all(dim=1) if k > 1 else torch.ones(len(rows_NK), dtype=bool)
    assert torch.equal(found.rows_NK[apart][:, : k - 1 or 1], rows_NK[apart][:, : k - 1 or 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact", ["device", "host"])
@pytest.mark.parametrize(("count", "probes"), [(1, 1), (5, 3), (GROUP, 2), (GROUP + 1, 2), (20_000, 70)])
def test_the_nearest_are_those_of_brute_force(kind: Kind, exact: Exact, count: int, probes: int) -> None:
    rows_MD, probes_ND = unit(count), unit(probes, seed=1)
    found = open_search(rows_MD.numpy(), device=CPU, kind=kind, exact=exact).search(probes_ND)
    assert found.rows_NK.shape == (probes, min(5, count))
    assert found.proved_N.all()
    agrees(found, probes_ND, rows_MD, min(5, count))


def test_rows_of_16_bits_are_compared_as_they_are_kept() -> None:
    rows_MD, probes_ND = unit(3_000), unit(9, seed=1)
    for kind in KINDS:
        found = open_search(rows_MD.numpy(), device=CPU, kind=kind, exact="fp16").search(probes_ND, 3)
        agrees(found, probes_ND, rows_MD.half().float(), 3)


@given(
    count=st.integers(1, 700),
    dimensions=st.integers(1, 70),
    k=st.integers(1, 9),
    length=st.sampled_from([1e-3, 1.0, 50.0]),
    alike=st.floats(0, 1),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_rows(count: int, dimensions: int, k: int, length: float, alike: float, kind: Kind, seed: int) -> None:
    """Of any length, and near copies of each other, which eight bits cannot tell apart."""
    centre = unit(1, dimensions, seed)
    rows_MD = length * (alike * centre + (1 - alike) * unit(count, dimensions, seed + 1))
    probes_ND = torch.cat([centre, unit(2, dimensions, seed + 2), torch.zeros(1, dimensions)])
    found = open_search(rows_MD.numpy(), device=CPU, kind=kind).search(probes_ND[:3], k)
    agrees(found, probes_ND[:3], rows_MD, min(k, count))


def test_near_copies_are_searched_further() -> None:
    centre = unit(1)
    rows_MD = torch.nn.functional.normalize(centre + 1e-4 * unit(40_000, seed=1), dim=1)
    search = open_search(rows_MD.numpy(), device=CPU, kind="int8")
    first = search.search(centre, widen=False)
    assert not first.proved_N.any()
    whole = search.search(centre)
    assert whole.widened > 0
    assert whole.proved_N.all()
    agrees(whole, centre, rows_MD, 5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_probe_that_is_not_made_of_numbers_ends_unproved(bad: float) -> None:
    probes_ND = unit(2)
    probes_ND[1, 3] = bad
    found = open_search(unit(5_000).numpy(), device=CPU).search(probes_ND)
    assert found.proved_N.tolist() == [True, False]
    agrees(open_search(unit(5_000).numpy(), device=CPU).search(probes_ND[:1]), probes_ND[:1], unit(5_000), 5)


def test_equal_rows_come_in_their_order() -> None:
    rows_MD = unit(1).expand(1_000, -1).contiguous()
    found = open_search(rows_MD.numpy(), device=CPU).search(unit(1), 5)
    assert found.rows_NK[0].tolist() == [0, 1, 2, 3, 4]


def test_rows_come_in_pieces() -> None:
    rows_MD = unit(1_000)
    pieces = (rows_MD[start : start + 300] for start in range(0, 1_000, 300))
    found = open_search(pieces, device=CPU, kind="int8", exact="fp16", count=1_000, dimensions=64).search(
        rows_MD[:3], 1
    )
    assert found.rows_NK[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="999 rows came where 1000"):
        open_search(iter([rows_MD[:999]]), device=CPU, count=1_000, dimensions=64)
    with pytest.raises(ValueError, match="do not fit"):
        open_search(iter([rows_MD, rows_MD]), device=CPU, count=1_000, dimensions=64)
    with pytest.raises(ValueError, match="need count"):
        open_search(iter([rows_MD]), device=CPU)


def test_wrong_shapes_are_named() -> None:
    search = open_search(unit(10).numpy(), device=CPU)
    with pytest.raises(ValueError, match="rows have 64 numbers"):
        search.search(unit(2, 63))
    with pytest.raises(ValueError, match="k is 0"):
        search.search(unit(2), 0)
    with pytest.raises(ValueError, match=r"\(M, D\)"):
        open_search(np.zeros(3, dtype=np.float32), device=CPU)
    assert search.search(torch.empty(0, 64)).rows_NK.shape == (0, 5)


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40))
def test_eight_bits_are_off_by_half_a_step(values: list[float]) -> None:
    row = torch.tensor([values])
    whole, scale = quantised(row)
    assert (row - whole.float() * scale[:, None]).abs().max() <= scale[0] * 0.5001


def test_the_bound_of_the_rows_is_what_they_lost() -> None:
    rows_MD = unit(500)
    rows = build_rows([rows_MD], 500, 64, device=CPU, kind="int8", exact="device")
    kept_MD = rows.coarse_QW[:500, :64].float() * rows.scales_Q[:500, None]
    assert (rows_MD - kept_MD).norm(dim=1).max() <= rows.error
    assert rows.longest >= 1 - 1e-6
    assert rows.bytes == 512 * (64 + 4)


def test_a_look_waits_for_nothing() -> None:
    with pretended_gpu() as device:
        rows_QW = torch.empty(70 * GROUP, 64, dtype=torch.int8, device=device)
        from engines.search.rows import Rows
        from engines.search.search import _Passed

        rows = Rows(
            coarse_QW=rows_QW,
            scales_Q=torch.empty(len(rows_QW), device=device),
            count=len(rows_QW) - 3,
            dimensions=64,
            error=0.01,
            longest=1.0,
            fine=torch.empty(70 * GROUP, 64, device=device),
        )
        search = Search(rows, passes=TorchPasses())
        probes_PD = torch.empty(4, 64, device=device)
        probes_PW, scale_P, bound_P = search._coarse(probes_PD)
        best_PG = TorchPasses().maxima(rows, probes_PW)
        found = search._look(_Passed(probes_PD, probes_PW, scale_P, bound_P, best_PG), 5, 64, 128)
        assert found.rows_NK.device == device


def test_the_triton_pass_is_the_reference() -> None:
    """Runs where Triton is: interpreted on a processor (TRITON_INTERPRET=1), compiled on a GPU."""
    pytest.importorskip("triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("a processor runs Triton's kernels only with TRITON_INTERPRET=1")
    triton_passes = importlib.import_module("engines.search.triton_passes")
    for kind in KINDS:
        for count, dimensions, probes in ((700, 64, 3), (1, 128, 1), (260, 512, 18)):
            rows_MD, probes_ND = unit(count, dimensions), unit(probes, dimensions, seed=1)
            search = Search(build_rows([rows_MD], count, dimensions, device=device, kind=kind, exact="device"))
            probes_PW, _, _ = search._coarse(probes_ND.to(device))
            expected = TorchPasses().maxima(search.rows, probes_PW)
            kernels = triton_passes.TritonPasses()
            assert torch.allclose(kernels.maxima(search.rows, probes_PW), expected, rtol=1e-5, atol=1e-5)
            chosen = expected.topk(min(3, expected.shape[1]), dim=1).indices
            scores = [each.scores(search.rows, probes_PW, chosen) for each in (kernels, TorchPasses())]
            assert torch.allclose(*scores, rtol=1e-5, atol=1e-5)
            for cut in triton_passes.CUTS if count == 700 else ():
                if dimensions % cut.columns == 0:
                    padded = probes_PW.new_zeros(16, dimensions)
                    padded[:probes] = probes_PW
                    assert torch.allclose(
                        triton_passes.run(search.rows, padded, cut)[:probes], expected, rtol=1e-5, atol=1e-5
                    )
