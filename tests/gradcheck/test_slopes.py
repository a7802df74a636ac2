"""Slopes along a line: accuracy, error estimates, kinks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from chainrule.gradcheck.slopes import Slope, slope_along


def slope_of(f: Callable[[float], float], x: float = 0.0, scale: float = 1.0) -> Slope:
    return slope_along(lambda t: np.array([f(x + t)]), np.array([f(x)]), scale)


@pytest.mark.parametrize(
    ("f", "x", "right"),
    [
        (np.exp, 0.3, np.exp(0.3)),
        (np.sin, 2.0, np.cos(2.0)),
        (lambda x: x**3, 5.0, 75.0),
        (np.log, 1e-3, 1e3),
        (np.log, 1e-6, 1e6),
        (lambda x: np.sin(1e3 * x), 0.2, 1e3 * np.cos(200.0)),
        (lambda x: 1e6 + 1e-3 * x, 0.5, 1e-3),
    ],
)
def test_the_error_estimate_holds(f: Callable[[float], float], x: float, right: float) -> None:
    slope = slope_of(f, x)
    assert not slope.kink
    assert abs(slope.value - right) <= 4 * slope.error + 1e-15
    assert slope.error <= 1e-2 * abs(right)


def test_smooth_functions_are_accurate_to_many_digits() -> None:
    assert slope_of(np.tanh, 0.4).value == pytest.approx(1 - np.tanh(0.4) ** 2, rel=1e-11)


@pytest.mark.parametrize("distance", [0.0, 1e-13])
def test_a_kink_that_no_step_resolves(distance: float) -> None:
    slope = slope_of(abs, distance)
    assert slope.kink
    assert slope.low == pytest.approx(-1, abs=1e-3)
    assert slope.high == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("distance", [1e-3, 1e-4, 1e-5, 1e-6])
def test_a_kink_at_a_distance_is_stepped_around(distance: float) -> None:
    slope = slope_of(abs, distance)
    assert not slope.kink
    assert slope.value == pytest.approx(1, rel=1e-7)


def test_kinks_that_cancel_in_the_sum_are_seen() -> None:
    slope = slope_along(lambda t: np.array([max(t, 0), -max(t, 0)]), np.zeros(2))
    assert slope.kink
    assert slope.value == pytest.approx(0, abs=1e-9)


def test_not_finite_everywhere() -> None:
    slope = slope_of(lambda x: np.nan)
    assert slope.kink
    assert np.isinf(slope.error)
