"""Central differences and the error measure."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.errors import InputError, ShapeError
from chainrule.gradcheck import numeric_gradient, relative_error


def test_scalar_function_of_any_shape() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 2))
    gradient = numeric_gradient(lambda a: np.sum(np.sin(a)), x)
    assert gradient.shape == x.shape
    assert gradient.dtype == np.float64
    assert relative_error(gradient, np.cos(x)) < 1e-8


def test_array_function_with_cotangent() -> None:
    rng = np.random.default_rng(0)
    x, matrix, dout = (rng.standard_normal(shape) for shape in (4, (3, 4), 3))
    gradient = numeric_gradient(lambda a: matrix @ a, x, dout=dout)
    assert relative_error(gradient, matrix.T @ dout) < 1e-8


def test_function_that_returns_a_view_of_its_argument() -> None:
    np.testing.assert_allclose(numeric_gradient(lambda a: a, np.ones(2), dout=[2.0, 3.0]), [2, 3])


@pytest.mark.parametrize("centre", [1e-3, 1.0, 1e6])
def test_step_grows_with_x(centre: float) -> None:
    """At 1e6 a fixed step of 6e-6 would leave few digits."""
    gradient = numeric_gradient(lambda a: a[0] ** 2, np.array([centre]))
    np.testing.assert_allclose(gradient, [2 * centre], rtol=1e-7)


def test_given_step_is_used() -> None:
    """A third derivative of 6 makes the truncation error of h = 0.1 exactly 0.01."""
    gradient = numeric_gradient(lambda a: a[0] ** 3, np.array([0.0]), h=0.1)
    np.testing.assert_allclose(gradient, [0.01])


def test_x_is_left_alone_and_may_be_read_only() -> None:
    x = np.arange(3, dtype=np.float32)
    x.flags.writeable = False
    seen = []
    gradient = numeric_gradient(lambda a: seen.append(a.dtype) or a.sum(), x)
    np.testing.assert_allclose(gradient, 1)
    np.testing.assert_array_equal(x, [0, 1, 2])
    assert set(seen) == {np.dtype(np.float64)}


def test_zero_dimensional_and_empty() -> None:
    np.testing.assert_allclose(numeric_gradient(lambda a: a**2, 3.0), 6)
    assert numeric_gradient(np.sum, np.ones((0, 2))).shape == (0, 2)


def test_not_contiguous_x() -> None:
    x = np.arange(6.0).reshape(2, 3).T[::-1]
    assert relative_error(numeric_gradient(lambda a: np.sum(a**2), x), 2 * x) < 1e-8


def test_refusals() -> None:
    x = np.ones(2)
    with pytest.raises(
        InputError, match=r"dout must be given for a function that returns .*\(2,\)"
    ):
        numeric_gradient(lambda a: a, x)
    with pytest.raises(ShapeError, match=r"dout must have the shape of f\(x\), \(2,\); got \(3,\)"):
        numeric_gradient(lambda a: a, x, dout=np.ones(3))
    with pytest.raises(InputError, match="h must be above 0; got 0"):
        numeric_gradient(np.sum, x, h=0.0)
    with pytest.raises(ShapeError, match=r"b must have the shape of a, \(2,\); got \(1,\)"):
        relative_error(x, [1.0])


def test_relative_error() -> None:
    assert relative_error([0.0, 1.0], [0.0, 1.0]) == 0
    assert relative_error([1.0, 1.0], [1.0, -1.0]) == 1
    assert relative_error([0.0], [1e-9]) == pytest.approx(0.1)  # 1e-8 keeps noise near 0 small
    assert relative_error([], []) == 0
    assert np.isnan(relative_error([np.nan], [1.0]))
    assert np.isnan(relative_error([np.inf], [np.inf]))
