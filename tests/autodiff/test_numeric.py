"""Jacobians from differences: exact where they should be, and clear where they cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from chainrule.autodiff import numeric
from chainrule.errors import DTypeError, InputError, ShapeError

METHODS = ("central", "forward", "backward", "richardson", "complex")
ACCURACY = {
    "central": 2e-9,
    "forward": 2e-7,
    "backward": 2e-7,
    "richardson": 1e-12,
    "complex": 1e-15,
}
SMOOTH: dict[str, tuple[Callable[..., Any], Callable[..., Any], float]] = {
    "exp": (np.exp, np.exp, 1.0),
    "sin": (np.sin, np.cos, -0.7),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2, 0.3),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2, 1.7),
    "ninth power": (lambda x: x**9, lambda x: 9 * x**8, 1.1),
    "square far away": (lambda x: x**2, lambda x: 2 * x, 1e8),
    "at zero": (np.expm1, np.exp, 0.0),
}
every_method = pytest.mark.parametrize("method", METHODS)


# --- what all methods have in common --------------------------------------------------------


@every_method
@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_of_smooth_functions(name: str, method: Any) -> None:
    f, slope, x = SMOOTH[name]
    found = numeric.jacobian(f, x, method)
    assert (found.shape, found.dtype) == ((), np.float64)
    np.testing.assert_allclose(found, slope(x), rtol=20 * ACCURACY[method])


@every_method
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("out_shape", [(), (2,), (0, 2), (2, 1, 2)])
def test_shapes(shape: tuple[int, ...], out_shape: tuple[int, ...], method: Any) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((*out_shape, *shape))
    x = rng.standard_normal(shape)
    axes = tuple(range(len(out_shape), matrix.ndim))
    found = numeric.jacobian(lambda x: np.sum(matrix * x, axis=axes), x, method)
    assert (found.shape, found.dtype) == (matrix.shape, np.float64)
    np.testing.assert_allclose(found, matrix, atol=10 * ACCURACY[method])


@every_method
@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_computes_in_float64_whatever_comes_in(dtype: Any, method: Any) -> None:
    seen = []

    def f(x: Any) -> Any:
        seen.append(x.dtype)
        return x**3

    found = numeric.jacobian(f, np.ones(2, dtype), method)
    np.testing.assert_allclose(found, 3 * np.eye(2), atol=20 * ACCURACY[method])
    assert set(seen) <= {np.dtype(np.float64), np.dtype(np.complex128)}


@every_method
def test_leaves_its_argument_alone(method: Any) -> None:
    x = np.array([1.0, 2.0])

    def f(x: Any) -> Any:
        x *= 3
        return x

    np.testing.assert_allclose(numeric.jacobian(f, x, method), 3 * np.eye(2), rtol=1e-6)
    np.testing.assert_array_equal(x, [1, 2])


@every_method
def test_functions_that_return_their_argument_or_a_constant(method: Any) -> None:
    np.testing.assert_allclose(
        numeric.jacobian(lambda x: x, np.ones(2), method), np.eye(2), rtol=1e-7
    )
    constant = np.array([1, 2])  # integers, and the same array each time
    np.testing.assert_array_equal(numeric.jacobian(lambda x: constant, np.ones(3), method), 0)


def test_functions_of_pythons_math_module() -> None:
    for method in ("central", "forward", "backward", "richardson"):
        found = numeric.jacobian(math.exp, 0.5, method)
        np.testing.assert_allclose(found, math.exp(0.5), rtol=1e-7)


# --- steps ----------------------------------------------------------------------------------


def test_given_step_gives_the_textbook_error() -> None:
    """Of x^3 at 1: one-sided 3 +- 3 h + h^2, central 3 + h^2."""

    def cube(x: Any) -> Any:
        return x**3

    for method, expected in (("forward", 3.0301), ("backward", 2.9701), ("central", 3.0001)):
        np.testing.assert_allclose(numeric.jacobian(cube, 1.0, method, step=0.01), expected)
    np.testing.assert_allclose(numeric.jacobian(cube, 1.0, "complex", step=0.01), 3 - 0.01**2)
    np.testing.assert_allclose(numeric.richardson(cube, 1.0, step=0.01)[0], 3, rtol=1e-12)


def test_steps_grow_with_x() -> None:
    """At 1e10 a step for numbers near 1 would change nothing."""
    for method in METHODS:
        np.testing.assert_allclose(numeric.jacobian(np.sqrt, 1e10, method), 5e-6, rtol=1e-6)


def test_complex_step_follows_small_x() -> None:
    for x in (1e-30, 1e-5, 1e5):
        np.testing.assert_allclose(numeric.jacobian(np.log, x, "complex"), 1 / x, rtol=1e-15)


def test_complex_step_survives_single_precision() -> None:
    slope = numeric.jacobian(
        lambda x: x.astype(np.complex64) ** 2 if np.iscomplexobj(x) else x**2,
        np.array([3.0]),
        "complex",
    )
    np.testing.assert_allclose(slope, [[6.0]], rtol=1e-6)


# --- Ridders' extrapolation -----------------------------------------------------------------


@pytest.mark.parametrize("name", SMOOTH)
def test_error_estimate_covers_the_error(name: str) -> None:
    f, slope, x = SMOOTH[name]
    found, error = numeric.richardson(f, x)
    assert abs(found - slope(x)) <= error < 1e-11 * max(1, abs(slope(x)))


@pytest.mark.parametrize(
    ("f", "slope", "x"),
    [
        (np.log, lambda x: 1 / x, 0.01),  # the first steps leave the domain
        (np.log, lambda x: 1 / x, 1e-8),
        (math.log, lambda x: 1 / x, 0.01),  # which raises ValueError there
        (lambda x: 1 / x, lambda x: -1 / x**2, 3e-5),  # a pole within the first steps
        (np.abs, np.sign, 0.01),  # a kink within the first steps
        (np.abs, np.sign, -1e-5),
        (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x), 0.3),
        (np.sin, np.cos, 1e-8),
    ],
)
def test_extrapolation_finds_its_way(f: Any, slope: Any, x: float) -> None:
    found, error = numeric.richardson(f, x)
    assert abs(found - slope(x)) <= error < 1e-11 * abs(slope(x))


def test_error_is_estimated_for_each_element() -> None:
    found, error = numeric.richardson(lambda x: np.stack([x[0], 1e6 * np.sin(x[1])]), [1.0, 1.0])
    np.testing.assert_allclose(found, [[1, 0], [0, 1e6 * np.cos(1)]], rtol=1e-12, atol=1e-30)
    assert error.shape == (2, 2)
    assert np.all(error[0] < 1e-13)
    assert 1e-12 < error[1, 1] < 1e-5


# --- the complex step on functions that do not allow it -------------------------------------


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.abs, -1.0),
        (np.abs, 0.0),
        (lambda x: np.abs(x) * x, 2.0),
        (lambda x: np.maximum(x, 0), 0.0),
        (np.sqrt, 0.0),
        (np.real, 1.0),
        (lambda x: x * np.conj(x), 1.0),
        (lambda x: np.sum(x + 0.1 * np.abs(x)), np.array([1.0, -2.0])),
    ],
)
def test_functions_that_are_not_analytic_are_found_out(f: Any, x: Any) -> None:
    with pytest.raises(InputError, match=r"f must be analytic at x .* at x.*method=\"richardson\""):
        numeric.jacobian(f, x, "complex")


@pytest.mark.parametrize(
    "f",
    [
        math.exp,
        np.floor,
        lambda x: np.arctan2(x, 1.0),
        lambda x: np.asarray(x).astype(float),
    ],
)
def test_functions_that_take_no_complex_numbers_are_found_out(f: Any) -> None:
    with pytest.raises(InputError, match=r"f must take complex numbers .*method=\"richardson\""):
        numeric.jacobian(f, 0.5, "complex")


def test_maximum_is_analytic_away_from_ties() -> None:
    found = numeric.jacobian(lambda x: np.maximum(x, 0), [1.0, -1.0], "complex")
    np.testing.assert_array_equal(found, [[1, 0], [0, 0]])


def test_complex_results_that_are_not_finite() -> None:
    with pytest.raises(InputError, match="f must be finite at x \\+ i h; got nan"):
        numeric.jacobian(lambda x: x * np.nan if np.iscomplexobj(x) else x, 1.0, "complex")


def test_complex_results_of_another_shape_or_kind() -> None:
    with pytest.raises(ShapeError, match=r"f must return one shape, \(\); got \(2,\)"):
        numeric.jacobian(lambda x: [x, x] if np.iscomplexobj(x) else x, 1.0, "complex")
    with pytest.raises(DTypeError, match="f must return numbers; got dtype <U1"):
        numeric.jacobian(lambda x: "a" if np.iscomplexobj(x) else x, 1.0, "complex")


# --- refusals -------------------------------------------------------------------------------


def test_methods_and_steps_are_checked() -> None:
    with pytest.raises(InputError, match=r"method must be one of 'central', .*; got 'spectral'"):
        numeric.jacobian(np.exp, 1.0, "spectral")
    for step in (0, -1e-3, np.inf, np.nan, "small", True):
        with pytest.raises(InputError, match="step must be a finite number above 0"):
            numeric.jacobian(np.exp, 1.0, step=step)
    with pytest.raises(InputError, match=r"step must be large enough to change 1.0; got 1e-20"):
        numeric.jacobian(np.exp, 1.0, step=1e-20)


@every_method
def test_arguments_are_checked(method: Any) -> None:
    for x in (1j, "one", [object()]):
        with pytest.raises(DTypeError, match="x must be real numbers; got dtype"):
            numeric.jacobian(np.exp, x, method)
    with pytest.raises(InputError, match=r"^(jacobian|richardson): x must be finite; got nan"):
        numeric.jacobian(np.exp, [1.0, np.nan], method)


@every_method
def test_results_are_checked(method: Any) -> None:
    with pytest.raises(DTypeError, match="f must return real numbers; got dtype complex128"):
        numeric.jacobian(lambda x: x + 1j, 1.0, method)
    with pytest.raises(DTypeError, match="f must return real numbers; got dtype object"):
        numeric.jacobian(lambda x: None, 1.0, method)
    with pytest.raises(ShapeError, match=r"f must return one shape, \(1,\); got \((0|2),\)"):
        numeric.jacobian(lambda x: x[np.real(x) >= 1], [1.0, np.nextafter(1, 0)], method)
    with pytest.raises(InputError, match="f at x must be finite; got -inf"):
        numeric.jacobian(np.log, 0.0, method)


@pytest.mark.parametrize("method", ["central", "backward"])
def test_domain_ends_within_the_step(method: Any) -> None:
    with pytest.raises(InputError, match=r"f at x\[1\] = -.* must be finite; got nan\. Take a sm"):
        numeric.jacobian(np.log, [1.0, 1e-9], method)


def test_domain_ends_at_x() -> None:
    with pytest.raises(InputError, match=r"richardson: f at x = -.* must be finite; got nan"):
        numeric.richardson(np.sqrt, 0.0)
    with pytest.raises(ValueError, match=r"math domain error|expected a nonnegative input"):
        numeric.richardson(math.sqrt, 0.0)
