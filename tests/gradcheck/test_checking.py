"""What check_gradients and check_layer say of right, wrong and strange functions."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

from chainrule.errors import GradientMismatchError, InputError, ShapeError
from chainrule.gradcheck import GradientReport, check_gradients, check_layer

RNG = np.random.default_rng(0)
X, W, B = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 2)), RNG.standard_normal(2)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> Any:
    return x @ w + b, (x, w)


def linear_back(dout: np.ndarray, cache: Any) -> Any:
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def codes(report: GradientReport) -> set[str]:
    return {problem.code for problem in report.problems}


def test_a_right_layer() -> None:
    report = check_layer(linear, linear_back, [X, W, B])
    assert report.ok
    assert report.worst < 1e-9
    assert [entry.name for entry in report.entries] == ["x", "w", "b"]
    assert [entry.checked for entry in report.entries] == [12, 6, 2]
    assert report.notes == ()
    report.raise_if_failed()


def test_a_wrong_element_is_found() -> None:
    def back(dout: np.ndarray, cache: Any) -> Any:
        dx, dw, db = linear_back(dout, cache)
        dw[2, 1] += 1e-5
        return dx, dw, db

    report = check_layer(linear, back, [X, W, B])
    assert not report.ok
    assert [entry.ok for entry in report.entries] == [True, False, True]
    worst = report.entries[1].worst
    assert worst is not None
    assert worst.index == (2, 1)
    assert worst.analytic - worst.numeric == pytest.approx(1e-5, rel=1e-4)
    assert report.worst == report.entries[1].relative_error
    with pytest.raises(GradientMismatchError, match=r"linear: WRONG\n(.*\n)*.*\[2, 1\]"):
        report.raise_if_failed()


def test_tiny_gradients_are_judged_by_the_error_of_the_differences() -> None:
    """1e-11 beside a function value of 1e4: rounding is a hundred times that."""

    def f(x: np.ndarray) -> float:
        return float(1e4 + 1e-11 * x.sum())

    assert check_gradients(f, [np.ones(3)], np.full(3, 1e-11)).ok
    assert not check_gradients(f, [np.ones(3)], np.full(3, 1e-3)).ok


def test_gradients_by_name_and_callable() -> None:
    def f(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(a * b))

    a, b = RNG.standard_normal((2, 3))
    assert check_gradients(f, {"a": a, "b": b}, {"b": a, "a": b}).ok
    assert check_gradients(f, [a, b], lambda a, b: (b, a)).ok
    assert not check_gradients(f, [a, b], lambda a, b: (a, b)).ok
    assert check_gradients(f, [a, b], [None, a]).ok
    assert check_gradients(f, [a, b], a, wrt=["b"]).ok
    assert check_gradients(np.sin, [a], np.cos(a) * b, dout=b).ok


def test_large_arrays_are_sampled_and_a_single_wrong_element_is_found() -> None:
    x = RNG.standard_normal(3000)
    right = np.cos(x)
    report = check_gradients(lambda x: np.sum(np.sin(x)), [x], right)
    assert report.ok
    assert report.entries[0].projections == 4
    assert report.entries[0].checked < 100
    wrong = right.copy()
    wrong[1234] += 0.01
    (entry,) = check_gradients(lambda x: np.sum(np.sin(x)), [x], wrong).entries
    assert not entry.ok
    assert entry.worst is not None
    assert entry.worst.index == (1234,)


def test_complex_step_gives_digits_that_differences_lose() -> None:
    """Near a pole rounding and truncation leave few digits."""

    def f(x: np.ndarray) -> Any:
        return np.sum(1e6 * (1 + 1e-7 * np.sin(1e3 * x)))

    x = RNG.standard_normal(3)
    right = 1e2 * np.cos(1e3 * x)
    assert check_gradients(f, [x], right).ok
    assert not check_gradients(f, [x], right * (1 + 3e-6)).ok


def test_kinks_are_counted_and_left_out() -> None:
    x = np.array([1.0, 0.0, -1.0, 0.0])
    for at_zero in (0.0, 1.0, 0.5):
        slope = np.where(x == 0, at_zero, x > 0)
        report = check_layer(lambda x: (np.maximum(x, 0), 0), lambda d, _, s=slope: d * s, [x])
        assert report.ok
        assert report.excluded == 2
        assert report.entries[0].checked == 2


def test_a_gradient_outside_both_slopes_is_wrong_at_a_kink() -> None:
    x = np.array([1.0, 0.0])
    slope = np.array([1.0, 3.0])
    assert not check_layer(lambda x: (np.maximum(x, 0), 0), lambda d, _: d * slope, [x]).ok


def test_ties_that_all_get_the_whole_gradient() -> None:
    x = np.array([2.0, 2.0, 1.0])
    right = check_gradients(np.max, [x], np.array([1.0, 0, 0]))
    assert right.ok
    assert right.excluded == 2
    wrong = check_gradients(np.max, [x], np.array([1.0, 1.0, 0]))
    assert not wrong.ok
    assert codes(wrong) == {"ties"}


def test_nondeterminism_and_a_fixed_generator() -> None:
    def forward(x: np.ndarray, rng: np.random.Generator) -> Any:
        mask = rng.random(x.shape) < 0.5
        return x * mask, mask

    shared = np.random.default_rng(0)
    report = check_layer(lambda x: forward(x, shared), lambda d, m: d * m, [X])
    assert not report.ok
    assert codes(report) == {"nondeterministic"}
    fixed = [X, np.random.default_rng(0)]
    assert check_layer(forward, lambda d, m: d * m, fixed).ok
    kwargs = {"rng": np.random.default_rng(0)}
    assert check_layer(forward, lambda d, m: d * m, [X], forward_kwargs=kwargs).ok
    partial = functools.partial(forward, rng=np.random.default_rng(0))
    assert check_layer(partial, lambda d, m: d * m, [X]).ok


def test_float32_inputs() -> None:
    narrow = [a.astype(np.float32) for a in (X, W, B)]
    assert check_layer(linear, linear_back, narrow).ok

    def back(dout: np.ndarray, cache: Any) -> Any:
        return [np.asarray(g, np.float64) for g in linear_back(dout, cache)]

    report = check_layer(linear, back, narrow)
    assert report.ok
    assert codes(report) == {"dtype"}


def test_too_few_digits_in_float32_only() -> None:
    def square(x: np.ndarray) -> Any:
        return x**2, x

    def back(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
        digits = 1 if x.dtype == np.float32 else 12
        return np.round(2 * dout * x, digits)

    report = check_layer(square, back, [X.astype(np.float32)])
    assert codes(report) == {"float32"}
    assert not report.ok


def test_arguments_that_are_written_into() -> None:
    def forward(x: np.ndarray) -> Any:
        x *= 2
        return x.copy(), None

    report = check_layer(forward, lambda dout, _: 2 * dout, [X])
    assert report.notes == ("forward writes into its argument x.",)
    assert not report.ok

    def back(dout: np.ndarray, _: Any) -> np.ndarray:
        dout *= 2
        return dout

    report = check_layer(lambda x: (2 * x, None), back, [X])
    assert "backward writes into dout." in report.notes

    def back_x(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
        dx = dout * 2 * x
        x[:] = 0
        return dx

    report = check_layer(lambda x: (x**2, x), back_x, [X])
    assert {"modifies_input", "changes_cache"} <= codes(report)


def test_a_stale_cache() -> None:
    last = {}

    def forward(x: np.ndarray) -> Any:
        last["x"] = x.copy()
        return x**2, None

    report = check_layer(forward, lambda dout, _: 2 * last["x"] * dout, [X])
    assert codes(report) == {"stale_cache"}
    assert not report.ok


@pytest.mark.parametrize(
    ("back", "code", "words"),
    [
        (lambda d, c: None, "none", "return statement"),
        (lambda d, c: (None, None, None), "none", "all gradients are None"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d), "count", "2 gradients for 3 inputs"),
        (lambda d, c: linear_back(d, c)[0], "count", "1 gradient for 3 inputs"),
        (lambda d, c: (d @ c[1].T, d.T @ c[0], d.sum(0)), "shape", r"by w has shape \(2, 3\)"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d, d.sum(0) * np.nan), "nan", "2 of 2 elements NaN"),
        (lambda d, c: (d @ c[1], c[0].T @ d, d.sum(0)), "raises", "backward raises ValueError"),
        (lambda d, c: ("a", c[0].T @ d, d.sum(0)), "shape", "by x has shape"),
    ],
)
def test_what_is_told_apart(back: Any, code: str, words: str) -> None:
    report = check_layer(linear, back, [X, W, B])
    assert not report.ok
    assert code in codes(report)
    assert re.search(words, str(report))


def test_one_gradient_left_out() -> None:
    report = check_layer(linear, lambda d, c: (None, *linear_back(d, c)[1:]), [X, W, B])
    assert report.ok
    assert codes(report) == {"skipped"}


def test_optional_inputs_that_are_none_may_have_a_place() -> None:
    def forward(x: np.ndarray, b: np.ndarray | None, w: np.ndarray) -> Any:
        return x @ w, (x, w)

    def back(dout: np.ndarray, cache: Any) -> Any:
        x, w = cache
        return dout @ w.T, None, x.T @ dout

    assert check_layer(forward, back, [X, None, W]).ok
    named = check_layer(
        forward,
        lambda d, c: {"dx": d @ c[1].T, "w": c[0].T @ d},
        {"x": X, "b": None, "w": W},
    )
    assert named.ok


def test_losses_take_the_cache_alone() -> None:
    def loss(x: np.ndarray) -> Any:
        return np.sum(x**2), x

    assert check_layer(loss, lambda x: 2 * x, [X]).ok
    assert check_layer(loss, lambda dloss, x: dloss * 2 * x, [X]).ok
    assert not check_layer(loss, lambda dloss, x: 2 * x, [X]).ok
    with pytest.raises(InputError, match=r"backward must take \(dout, cache\)"):
        check_layer(lambda x: (x, x), lambda x: x, [X])


def test_an_output_that_is_not_finite() -> None:
    report = check_layer(lambda x: (np.log(x), x), lambda d, x: d / x, [np.array([1.0, -1.0])])
    assert not report.ok
    assert report.notes == ("1 of 2 elements of the output are NaN or infinite.",)


def test_nothing_to_compare_is_said() -> None:
    report = check_layer(lambda x: (np.maximum(x, 0), x), lambda d, x: d * (x > 0), [np.zeros(3)])
    assert report.ok
    assert report.notes == ("no element of x could be compared: the function has a kink at each.",)


def test_numbers_and_empty_arrays() -> None:
    assert check_gradients(lambda x: x**2, [np.float64(3.0)], 6.0).ok
    assert not check_gradients(lambda x: x**2, [np.array(3.0)], 7.0).ok
    assert check_layer(linear, linear_back, [X[:0], W, B]).ok


def test_refusals() -> None:
    with pytest.raises(InputError, match="inputs must hold an array of floats"):
        check_layer(linear, linear_back, [1, 2])
    with pytest.raises(InputError, match=r"forward must return \(out, cache\); got ndarray"):
        check_layer(lambda x: x, lambda d, c: d, [X])
    with pytest.raises(ShapeError, match=r"dout must have the shape of the output, \(4, 2\)"):
        check_layer(linear, linear_back, [X, W, B], dout=np.ones(3))
    with pytest.raises(InputError, match="wrt must name inputs"):
        check_layer(linear, linear_back, [X, W, B], wrt=["weight"])
    with pytest.raises(InputError, match="wrt must name arrays of floats"):
        check_layer(linear, linear_back, [X, W, 1], wrt=[2])
    with pytest.raises(InputError, match="tolerance must be above 0; got 0"):
        check_layer(linear, linear_back, [X, W, B], tolerance=0)
    with pytest.raises(InputError, match="dout must be given for a function that returns"):
        check_gradients(np.sin, [X], np.cos(X))
    with pytest.raises(InputError, match="must return an array or a number"):
        check_gradients(lambda x: "text", [X], X)


def test_the_report_in_a_notebook() -> None:
    html = check_layer(linear, lambda d, c: (d @ c[1].T, c[0].T @ d, d[0]), [X, W, B])._repr_html_()
    assert "<table>" in html
    assert "<td>b</td><td>wrong</td>" in html
