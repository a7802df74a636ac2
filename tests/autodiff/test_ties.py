"""Who receives the derivative where arguments tie, and other points without one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from chainrule.autodiff import grad, hvp, jvp, relu, ties, vjp
from chainrule.errors import InputError

# What the first, second, ... of tied arguments or elements get under each convention.
PAIRS: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("maximum", np.maximum),
    ("minimum", np.minimum),
    ("fmax", np.fmax),
    ("fmin", np.fmin),
]
REDUCTIONS: list[tuple[str, Callable[[Any], Any]]] = [
    ("max", np.max),
    ("min", lambda x: np.min(-x)),
    ("method", lambda x: x.max()),
    ("reduce", lambda x: np.maximum.reduce(x)),
    ("nanmax", np.nanmax),
    ("norm", lambda x: np.linalg.norm(x, np.inf)),
]
both_modes = pytest.mark.parametrize("mode", ["forward", "reverse"])


def gradient(f: Callable[[Any], Any], x: np.ndarray, mode: str) -> np.ndarray:
    if mode == "reverse":
        return np.asarray(grad(f)(x))
    return np.array([jvp(f, (x,), (unit,))[1] for unit in np.eye(x.size)])


@both_modes
@pytest.mark.parametrize(
    ("convention", "expected"), [("split", [0.5, 0.5]), ("first", [1, 0]), ("last", [0, 1])]
)
@pytest.mark.parametrize("function", [pair[1] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_of_two_tied_arguments(function, convention, expected, mode):
    with ties(convention):
        found = gradient(lambda x: function(x[0], x[1]), np.array([2.0, 2.0]), mode)
        untied = gradient(lambda x: function(x[0], x[1]), np.array([2.0, 3.0]), mode)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.sort(untied), [0, 1])


@both_modes
@pytest.mark.parametrize(
    ("convention", "share"),
    [("split", [0, 1 / 3, 1 / 3, 0, 1 / 3]), ("first", [0, 1, 0, 0, 0]), ("last", [0, 0, 0, 0, 1])],
)
@pytest.mark.parametrize("function", [r[1] for r in REDUCTIONS], ids=[r[0] for r in REDUCTIONS])
def test_of_tied_elements(function, convention, share, mode):
    x = np.array([1.0, 2.0, 2.0, 0.0, 2.0])
    sign = -1 if function is REDUCTIONS[1][1] else 1
    with ties(convention):
        found = gradient(function, x, mode)
    np.testing.assert_allclose(found, sign * np.array(share))


@pytest.mark.parametrize(
    ("convention", "expected"),
    [("split", [0.5, 1, 0.5]), ("first", [1, 1, 1]), ("last", [0, 1, 0])],
)
def test_at_the_ends_of_a_clip(convention, expected):
    with ties(convention):
        _, pull_back = vjp(lambda x: np.clip(x, 0.0, 1.0), np.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(pull_back(np.ones(3))[0], expected)


def test_ties_in_row_major_order_over_several_axes():
    x = np.zeros((2, 3, 2))
    for convention, where in (("first", (0, 0)), ("last", (1, 1))):
        with ties(convention):
            found = grad(lambda x: np.sum(np.max(x, axis=(0, 2))))(x)
        expected = np.zeros_like(x)
        expected[where[0], :, where[1]] = 1
        np.testing.assert_array_equal(found, expected)


@both_modes
def test_shares_add_up_to_one(mode):
    x = np.random.default_rng(0).integers(0, 3, 12).astype(float)
    for convention in ("split", "first", "last"):
        with ties(convention):
            for f in (np.max, np.min, lambda x: np.max(np.maximum(x, x))):
                assert np.sum(gradient(f, x, mode)) == pytest.approx(1)


def test_the_convention_holds_where_the_operation_is_carried_out():
    with ties("first"):
        _, pull_back = vjp(lambda x: np.maximum(x, 0.0), 0.0)
    assert pull_back(1.0) == (1.0,)
    with ties("last"):
        with ties("first"):
            assert grad(lambda x: np.maximum(x, 0.0))(0.0) == 1.0
        assert grad(lambda x: np.maximum(x, 0.0))(0.0) == 0.0
    assert grad(lambda x: np.maximum(x, 0.0))(0.0) == 0.5


def test_each_thread_has_its_own_convention():
    def work(convention):
        with ties(convention):
            return {float(grad(lambda x: np.maximum(x, 0.0))(0.0)) for _ in range(300)}

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, ["split", "first", "last"])) == [{0.5}, {1.0}, {0.0}]


def test_an_error_ends_the_convention():
    with pytest.raises(KeyError, match="mine"), ties("first"):
        raise KeyError("mine")
    assert grad(lambda x: np.maximum(x, 0.0))(0.0) == 0.5


def test_there_are_three_conventions():
    message = 'ties: convention must be "split", "first" or "last"; got \'both\''
    with pytest.raises(InputError, match=message), ties("both"):
        pass


def test_second_derivatives_at_ties_are_finite():
    x = np.array([0.0, 1.0, 1.0])
    for f in (
        lambda x: np.max(x * x),
        lambda x: np.sum(np.maximum(x, 0) ** 2),
        lambda x: np.sum(np.abs(x) * x),
        lambda x: np.sum(np.clip(x, 0, 1) ** 2),
    ):
        assert np.all(np.isfinite(hvp(f, x, np.ones(3))))


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (np.abs, 0.0, 0.0),
        (np.fabs, 0.0, 0.0),
        (relu, 0.0, 0.0),
        (np.sign, 0.0, 0.0),
        (np.floor, 1.0, 0.0),
        (lambda x: x**2, 0.0, 0.0),
        (lambda x: x**1, 0.0, 1.0),
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**1.5, 0.0, 0.0),
        (lambda x: x ** np.array(2.0), 0.0, 0.0),
        (lambda x: 0.0**x, 2.0, 0.0),
        (lambda x: np.hypot(x, 0.0), 0.0, 0.0),
        (lambda x: np.linalg.norm(np.stack([x, 0.0])), 0.0, 0.0),
        (lambda x: np.std(np.stack([x, x])), 3.0, 0.0),
        (lambda x: np.prod(np.stack([x, 0.0, 2.0])), 3.0, 0.0),
        (lambda x: np.prod(np.stack([x, 3.0])), 0.0, 3.0),
        (np.sinc, 0.0, 0.0),
        (lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), 0.0), 0.0, 0.0),
    ],
)
def test_values_at_points_that_want_care(f, x, expected):
    assert grad(f)(x) == expected
    assert jvp(f, (x,), (1.0,))[1] == expected


def test_extreme_arguments_do_not_overflow():
    from scipy import special

    from chainrule.autodiff import log_softmax, logsumexp, sigmoid, softmax, softplus

    for x in (-1000.0, 1000.0):
        for f in (sigmoid, softplus, special.expit, np.tanh, special.log_expit):
            assert np.isfinite(f(x))
            assert np.isfinite(grad(f)(x))
            assert np.isfinite(grad(grad(f))(x))
    wide = np.array([-1000.0, 0.0, 1000.0])
    for f in (softmax, log_softmax):
        assert np.all(np.isfinite(vjp(f, wide)[1](np.ones(3))[0]))
    np.testing.assert_array_equal(grad(logsumexp)(wide), [0, 0, 1])
    np.testing.assert_array_equal(grad(logsumexp)(np.array([-np.inf, 0.0])), [0, 1])
    assert grad(lambda x: np.logaddexp(x, 0.0))(-1000.0) == 0.0
