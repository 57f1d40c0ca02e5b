"""The margin: closed forms, poles, guard, gradients, and the tutorial's listing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from train.losses.margins import MARGINS, MIN_ANGLE, Margin, angle, margin_of, with_margin
from train.settings import LossSettings

GUARDED = {kind: margin for kind, margin in MARGINS.items() if not margin.is_none}

margins = st.builds(
    Margin, m1=st.floats(0.5, 4), m2=st.just(0.0) | st.floats(0.01, 1.5), m3=st.just(0.0) | st.floats(0.01, 1)
)


def border(margin: Margin) -> float:
    """The angle beyond which the guard holds; above pi where nothing is."""
    return (math.pi - margin.m2) / margin.m1


def value_and_slope(cosines_B: Tensor, margin: Margin, **options: object) -> tuple[Tensor, Tensor]:
    leaf_B = cosines_B.clone().requires_grad_()
    values_B = with_margin(leaf_B, margin, **options)  # type: ignore[arg-type]
    values_B.sum().backward()
    assert leaf_B.grad is not None
    return values_B.detach(), leaf_B.grad


@pytest.mark.parametrize("margin", GUARDED.values(), ids=GUARDED.keys())
def test_value_and_slope_are_the_formulas_below_the_guard(margin: Margin) -> None:
    thetas_B = torch.linspace(0.01, min(border(margin), math.pi) - 0.01, 500, dtype=torch.float64)
    values_B, slopes_B = value_and_slope(thetas_B.cos(), margin)
    moved_B = margin.m1 * thetas_B + margin.m2
    torch.testing.assert_close(values_B, moved_B.cos() - margin.m3)
    torch.testing.assert_close(slopes_B, margin.m1 * moved_B.sin() / thetas_B.sin())


def test_slopes_of_arcface_that_are_known() -> None:
    thetas_B = torch.tensor([0.05, 0.5, 1.0, 1.57, 2.0], dtype=torch.float64)
    _, slopes_B = value_and_slope(thetas_B.cos(), MARGINS["arcface"])
    known_B = torch.tensor([10.46, 1.755, 1.185, 0.878, 0.658], dtype=torch.float64)
    torch.testing.assert_close(slopes_B, known_B, atol=6e-3, rtol=0)


def test_sphereface_of_a_whole_factor_is_the_chebyshev_polynomial() -> None:
    cosines_B = torch.linspace(math.cos(math.pi / 2) + 1e-3, 0.999, 100, dtype=torch.float64)
    values_B, slopes_B = value_and_slope(cosines_B, Margin(m1=2))
    torch.testing.assert_close(values_B, 2 * cosines_B**2 - 1)
    torch.testing.assert_close(slopes_B, 4 * cosines_B)


@settings(max_examples=50, deadline=None)
@given(margin=margins, data=st.data())
def test_gradcheck_in_double_precision(margin: Margin, data: st.DataObject) -> None:
    thetas = data.draw(st.lists(st.floats(0.05, math.pi - 0.05), min_size=1, max_size=6))
    clear = [theta for theta in thetas if abs(theta - border(margin)) > 1e-3]
    cosines_B = torch.tensor(clear, dtype=torch.float64).cos().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: with_margin(c, margin), (cosines_B,))


@settings(max_examples=50, deadline=None)
@given(margin=margins, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_poles_are_finite_and_the_right_way_round(margin: Margin, dtype: torch.dtype) -> None:
    poles_B = torch.tensor([1.0, -1.0, 1.0000001, -1.0000001, math.nextafter(1, 0)], dtype=dtype)
    values_B, slopes_B = value_and_slope(poles_B, margin)
    assert values_B.isfinite().all()
    assert slopes_B.isfinite().all()
    assert (slopes_B >= 0).all()
    assert (slopes_B <= 2 * margin.m1 / MIN_ANGLE).all()
    torch.testing.assert_close(values_B[0].item(), math.cos(margin.m2) - margin.m3, atol=1e-6, rtol=0)
    assert values_B[1] < values_B[0]


@settings(max_examples=50, deadline=None)
@given(margin=margins)
def test_value_never_rises_with_the_angle(margin: Margin) -> None:
    thetas_B = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    values_B, slopes_B = value_and_slope(thetas_B.cos(), margin)
    assert (values_B.diff() <= 1e-12).all()
    assert (slopes_B >= 0).all()


@settings(max_examples=50, deadline=None)
@given(margin=margins)
def test_beyond_the_guard_the_gradient_still_pulls_to_the_centre(margin: Margin) -> None:
    if border(margin) >= math.pi - 1e-3:
        return
    thetas_B = torch.linspace(border(margin) + 1e-4, math.pi, 50, dtype=torch.float64)
    _, slopes_B = value_and_slope(thetas_B.cos(), margin)
    assert (slopes_B == 1).all()


def test_beyond_the_guard_arcface_has_the_authors_value() -> None:
    cosines_B = torch.tensor([-0.95, -1.0], dtype=torch.float64)
    torch.testing.assert_close(with_margin(cosines_B, Margin(m2=0.5)), cosines_B - 0.5 * math.sin(0.5))


def test_an_angle_beyond_the_guard_comes_down_in_descent() -> None:
    """The form without a guard pushes it to pi."""
    theta = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        (-with_margin(theta.cos(), MARGINS["arcface"]).sum()).backward()
        with torch.no_grad():
            theta -= 0.05 * theta.grad
            theta.grad = None
    assert theta.item() < 0.1


def the_listing(cosine_BC: Tensor, labels_B: Tensor, m2: float, scale: float) -> Tensor:
    """The maths of the tutorial's loss, and of insightface's since December 2022."""
    logits_BC = cosine_BC * 1.0
    rows = torch.where(labels_B != -1)[0]
    with torch.no_grad():
        target = logits_BC[rows, labels_B[rows]].arccos() + m2
        logits_BC.arccos_()
        logits_BC[rows, labels_B[rows]] = target
        logits_BC.cos_()
    return logits_BC * scale


def test_straight_through_is_the_listing_in_value_and_gradient() -> None:
    from train.losses.logits import logits_BC

    cosine_BC = (torch.rand(64, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 0.999
    labels_B = torch.arange(64) % 11 - 1
    theirs_BC, ours_BC = cosine_BC.clone().requires_grad_(), cosine_BC.clone().requires_grad_()
    loss = LossSettings(margin_grad="straight_through")
    weights_BC = torch.rand(64, 10, dtype=torch.float64)
    want, got = the_listing(theirs_BC, labels_B, 0.5, 64.0), logits_BC(ours_BC, labels_B, loss)
    torch.testing.assert_close(got, want)
    (want * weights_BC).sum().backward()
    (got * weights_BC).sum().backward()
    torch.testing.assert_close(ours_BC.grad, theirs_BC.grad)
    torch.testing.assert_close(ours_BC.grad, 64 * weights_BC)


def test_exact_has_the_listings_values_below_the_guard() -> None:
    from train.losses.logits import logits_BC

    cosine_BC = torch.rand(64, 10, dtype=torch.float64) * 1.8 - 0.85
    labels_B = torch.arange(64) % 11 - 1
    torch.testing.assert_close(
        logits_BC(cosine_BC, labels_B, LossSettings()), the_listing(cosine_BC, labels_B, 0.5, 64.0)
    )


@settings(max_examples=50, deadline=None)
@given(margin=margins)
def test_straight_through_has_the_identitys_gradient(margin: Margin) -> None:
    cosines_B = torch.linspace(-1, 1, 101)
    values_B, slopes_B = value_and_slope(cosines_B, margin, grad="straight_through")
    assert (slopes_B == 1).all()
    want_B = (margin.m1 * cosines_B.double().acos() + margin.m2).cos() - margin.m3
    torch.testing.assert_close(values_B.double(), want_B, atol=4e-6, rtol=0)


def test_margins_of_rows_are_those_of_single_margins() -> None:
    cosines_B = torch.linspace(-1, 1, 41, dtype=torch.float64)
    m2_B, m3_B = torch.linspace(0, 1.4, 41), torch.linspace(1, 0, 41)
    rows_B, slopes_B = value_and_slope(cosines_B, Margin(), m2_B=m2_B, m3_B=m3_B)
    for row in range(41):
        own = Margin(m2=m2_B[row].item(), m3=m3_B[row].item())
        value, slope = value_and_slope(cosines_B[row : row + 1], own)
        torch.testing.assert_close(rows_B[row], value[0])
        torch.testing.assert_close(slopes_B[row], slope[0])


def test_a_negative_m2_ends_at_the_top_as_adaface_does() -> None:
    cosines_B = torch.tensor([math.cos(0.1), math.cos(0.2), math.cos(0.4)], dtype=torch.float64)
    values_B, slopes_B = value_and_slope(cosines_B, Margin(), m2_B=torch.full((3,), -0.3))
    torch.testing.assert_close(values_B, torch.tensor([1.0, 1.0, math.cos(0.1)], dtype=torch.float64))
    assert (slopes_B[:2] == 0).all()
    assert slopes_B[2] > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(dtype: torch.dtype) -> None:
    cosines_B = torch.linspace(-1, 1, 21, dtype=dtype, requires_grad=True)
    values_B = with_margin(cosines_B, MARGINS["arcface"])
    assert values_B.dtype == torch.float32
    torch.testing.assert_close(values_B, with_margin(cosines_B.float(), MARGINS["arcface"]))
    values_B.sum().backward()
    assert cosines_B.grad is not None
    assert cosines_B.grad.dtype == dtype
    assert cosines_B.grad.isfinite().all()


def test_the_kinds_margins_are_the_papers_and_settings_replace_them() -> None:
    assert margin_of(LossSettings(kind="cm2")) == Margin(0.9, 0.4, 0.15)
    assert margin_of(LossSettings(kind="arcface", m2=0.4)) == Margin(m2=0.4)
    assert margin_of(LossSettings(kind="combined", m1=1.1, m2=0.2, m3=0.1)) == Margin(1.1, 0.2, 0.1)
    assert all(margin_of(LossSettings(kind=kind)) == own for kind, own in MARGINS.items())  # type: ignore[arg-type]


def test_angle_is_acos_with_finite_slopes() -> None:
    inside = torch.linspace(-0.99, 0.99, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(angle, (inside,))
    poles = torch.tensor([1.0, -1.0, 1.0000001], requires_grad=True)
    angles = angle(poles)
    angles.sum().backward()
    torch.testing.assert_close(angles.detach(), torch.tensor([0, math.pi, 0]))
    assert poles.grad is not None
    assert poles.grad.isfinite().all()
    assert (poles.grad < 0).all()
