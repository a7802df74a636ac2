"""Rules that users add, the advice on how to, and the list of all that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
from scipy import special

import chainrule.autodiff
from chainrule.autodiff import define, extend, grad, hvp, jvp, primitive, supported, trace, vjp
from chainrule.autodiff.rules import SCIPY
from chainrule.autodiff.tracing import FUNCTIONS, UFUNCS, Tracer
from chainrule.errors import DTypeError, InputError, NoRuleError, ShapeError, TracerError

X = np.array([0.5, 1.0, 1.5])


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Leave the tables as they were."""
    tables = (UFUNCS, FUNCTIONS, SCIPY, extend._DEFINED)
    before = [table.copy() for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def exprel_slope(v: Any, out: Any, x: Any) -> Any:
    """Of (exp(x) - 1) / x."""
    return v * (np.exp(x) - out) / x


# --- define ---------------------------------------------------------------------------------


def test_ufunc_gets_a_rule_for_both_modes_and_any_order() -> None:
    define(special.exprel, jvp=exprel_slope, vjp=[exprel_slope], name="relative exponential")
    slope = (np.exp(X) - special.exprel(X)) / X
    np.testing.assert_allclose(grad(lambda x: np.sum(special.exprel(x)))(X), slope)
    out, tangent = jvp(special.exprel, (X,), (np.ones(3),))
    np.testing.assert_array_equal(out, special.exprel(X))
    np.testing.assert_allclose(tangent, slope)
    curvature = (np.exp(X) - 2 * slope) / X
    np.testing.assert_allclose(
        hvp(lambda x: np.sum(special.exprel(x)), X, np.ones(3)), curvature, rtol=1e-12
    )
    assert trace(special.exprel, 1.0).outputs[0].rule.name == "relative exponential"


def test_cotangents_of_ufuncs_are_summed_over_broadcast_axes() -> None:
    define(
        special.powm1,
        vjp=[
            lambda g, out, x, y: g * y * x ** (y - 1),
            lambda g, out, x, y: g * (out + 1) * np.log(x),
        ],
    )
    y = np.array([[2.0], [3.0]])
    _, pull_back = vjp(special.powm1, X, y)
    dx, dy = pull_back(np.ones((2, 3)))
    np.testing.assert_allclose(dx, 2 * X + 3 * X**2)
    np.testing.assert_allclose(dy, np.sum(X**y * np.log(X), axis=1, keepdims=True))


def test_none_lets_nothing_through() -> None:
    define(special.powm1, jvp=[lambda t, out, x, y: t * y * x ** (y - 1), None])
    _, tangent = jvp(special.powm1, (2.0, 3.0), (1.0, 100.0))
    assert tangent == 12.0


def test_numpy_function_with_options() -> None:
    define(np.fft.fftshift, jvp=lambda t, out, x, axes: np.fft.fftshift(t, axes))
    out, tangent = jvp(lambda x: np.fft.fftshift(x, axes=0), (X,), (10 * X,))
    np.testing.assert_array_equal(out, [1.5, 0.5, 1.0])
    np.testing.assert_array_equal(tangent, [15, 5, 10])


def test_traced_keywords_are_moved_to_their_position() -> None:
    define(np.i0, vjp=lambda g, out, x: g * special.i1(x))
    assert grad(lambda x: np.i0(x=x))(0.5) == special.i1(0.5)


def test_missing_derivative_is_named() -> None:
    define(special.exprel, jvp=exprel_slope)
    with pytest.raises(NoRuleError, match="exprel has no vjp for argument 0, which reverse mode"):
        grad(special.exprel)(1.0)
    define(special.exprel, vjp=exprel_slope, replace=True)
    with pytest.raises(NoRuleError, match="exprel has no jvp for argument 0, which forward mode"):
        jvp(special.exprel, (1.0,), (1.0,))
    define(special.powm1, vjp=lambda g, out, x, y: g * y * x ** (y - 1))
    assert grad(special.powm1)(2.0, 3.0) == 12.0
    with pytest.raises(NoRuleError, match="powm1 has no vjp for argument 1"):
        grad(special.powm1, 1)(2.0, 3.0)


@pytest.mark.parametrize("function", [np.exp, special.erf, np.sum, np.linalg.inv, np.isnan])
def test_rules_are_not_replaced_by_accident(function: Any) -> None:
    with pytest.raises(InputError, match=r"must have no rule yet.*replace=True"):
        define(function, vjp=lambda g, out, x: g)


def test_rule_is_replaced_on_demand() -> None:
    define(np.exp, vjp=lambda g, out, x: g * 100, replace=True)
    assert grad(np.exp)(0.0) == 100.0


@pytest.mark.parametrize("function", [len, lambda x: x, special.logsumexp, np.modf, "exp"])
def test_what_cannot_have_a_rule_is_refused(function: Any) -> None:
    with pytest.raises(DTypeError, match=r"must be a ufunc or NumPy function .*autodiff.primitive"):
        define(function, vjp=lambda g, out, x: g, replace=True)


def test_derivatives_are_checked() -> None:
    with pytest.raises(InputError, match="jvp and vjp must be given, at least one of them"):
        define(special.exprel)
    with pytest.raises(DTypeError, match=r"vjp must be a callable, or a sequence .*; got 3"):
        define(special.exprel, vjp=[3])


def test_results_of_derivatives_are_checked() -> None:
    define(np.i0, vjp=lambda g, out, x: np.sum(g), jvp=lambda t, out, x: np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"i0: the vjp of argument 0 must return shape \(3,\)"):
        grad(lambda x: np.sum(np.i0(x)))(X)
    with pytest.raises(ShapeError, match=r"i0: the jvp of argument 0 must return shape \(3,\)"):
        jvp(np.i0, (X,), (X,))
    define(np.i0, vjp=lambda g, out, x: None, replace=True)
    with pytest.raises(DTypeError, match="the vjp of argument 0 must return an array; got None"):
        grad(np.i0)(1.0)


def test_several_results_are_refused() -> None:
    define(np.linalg.qr, vjp=lambda g, out, x: g)
    with pytest.raises(DTypeError, match=r"qr: the result must be one array .* got 2 results"):
        grad(lambda x: np.sum(np.linalg.qr(x)[0]))(np.eye(2))


# --- the advice given where a rule is missing -----------------------------------------------


@pytest.mark.parametrize(
    ("f", "factors", "slope"),
    [
        (np.i0, ["scipy.special.i1(x)"], special.i1(0.7)),
        (special.exprel, ["(numpy.exp(x) - out) / x"], (np.exp(0.7) - special.exprel(0.7)) / 0.7),
        (
            lambda x: special.powm1(x, 3.0),
            ["y * x ** (y - 1)", "(out + 1) * numpy.log(x)"],
            3 * 0.7**2,
        ),
        (lambda x: special.powm1(3.0, x), ["0", "(out + 1) * numpy.log(x)"], 3**0.7 * np.log(3)),
        (lambda x: np.fft.fftshift(np.stack([x, x]), axes=0)[0], ["1"], 1.0),
    ],
)
def test_advice_can_be_followed_as_it_stands(f: Any, factors: list[str], slope: float) -> None:
    with pytest.raises(NoRuleError, match="Add one, as in") as caught:
        grad(f)(0.7)
    advice = re.search(r"chainrule\.autodiff\.define\(.*\)(?=, or use)", str(caught.value))
    assert advice is not None
    code = advice[0]
    for factor in (*factors, *factors):  # of the jvp, then of the vjp
        code = code.replace("...", f"({factor})", 1)
    assert "..." not in code
    exec(code, {"chainrule": chainrule, "numpy": np, "scipy": scipy})
    np.testing.assert_allclose(grad(f)(0.7), slope, rtol=1e-12)
    np.testing.assert_allclose(jvp(f, (0.7,), (1.0,))[1], slope, rtol=1e-12)


def test_several_results_have_no_advice() -> None:
    with pytest.raises(NoRuleError, match="frexp has several results and no derivative rule"):
        grad(lambda x: np.frexp(x)[0])(1.0)


# --- primitive ------------------------------------------------------------------------------


def half_over_root(v: Any, out: Any, x: Any) -> Any:
    return v / (2 * out)


@primitive(jvp=half_over_root, vjp=half_over_root)
def newton_root(x: Any) -> Any:
    """The square root, by Newton's method."""
    assert not isinstance(x, Tracer)
    guess = np.array(x, dtype=float)
    for _ in range(30):
        guess[...] = (guess + x / guess) / 2  # in place, which nothing traced could be
    return guess


def test_primitive_sees_plain_values_at_any_order() -> None:
    assert newton_root(4.0) == 2.0
    np.testing.assert_allclose(grad(newton_root)(4.0), 0.25)
    np.testing.assert_allclose(grad(grad(newton_root))(4.0), -1 / 32)
    np.testing.assert_allclose(jvp(grad(grad(newton_root)), (4.0,), (1.0,))[1], 3 / 256)
    np.testing.assert_allclose(vjp(newton_root, X)[1](np.ones(3))[0], 0.5 / np.sqrt(X))
    assert (newton_root.__name__, newton_root.__doc__) == (
        "newton_root",
        "The square root, by Newton's method.",
    )
    assert trace(newton_root, 4.0).outputs[0].rule.name == "newton_root"


def test_primitive_of_a_function_that_exists() -> None:
    logsumexp = primitive(special.logsumexp, vjp=lambda g, out, x: g * np.exp(x - out), name="lse")
    np.testing.assert_allclose(grad(logsumexp)(X), special.softmax(X))
    assert trace(logsumexp, X).outputs[0].rule.name == "lse"
    with pytest.raises(NoRuleError, match="lse has no jvp for argument 0"):
        jvp(logsumexp, (X,), (X,))


def test_keyword_arguments_of_primitives() -> None:
    @primitive(vjp=[lambda g, out, x, y, *, power: g * power * x ** (power - 1) * y, None])
    def scaled(x: Any, y: float = 2.0, *, power: int) -> Any:
        return x**power * y

    assert grad(lambda x: scaled(x, 2.0, power=3))(2.0) == 24.0
    assert grad(lambda x: scaled(y=5.0, x=x, power=3))(2.0) == 60.0
    with pytest.raises(TracerError, match=r"scaled is differentiated by positional .* got power="):
        grad(lambda p: scaled(2.0, 2.0, power=p))(3.0)


@pytest.mark.parametrize("value", [(1.0, 2.0), "text", None])
def test_primitive_returns_one_array(value: Any) -> None:
    bad = primitive(lambda x: value, vjp=lambda g, out, x: g, name="bad")
    with pytest.raises(DTypeError, match="bad must return one real number or array"):
        grad(bad)(1.0)


def test_primitive_needs_a_derivative() -> None:
    with pytest.raises(InputError, match="primitive: jvp and vjp must be given"):
        primitive(lambda x: x)


# --- the list -------------------------------------------------------------------------------


def test_supported_lists_what_has_a_rule() -> None:
    found = supported()
    assert "numpy.exp" in found["elementwise"]
    assert "numpy.linalg.solve" in found["linear algebra"]
    assert "numpy.matmul" in found["products"]
    assert "numpy.einsum" in found["products"]
    assert "numpy.argmax" in found["constants"]
    assert "numpy.less" in found["constants"]
    assert "scipy.special.erf" in found["scipy.special"]
    assert found["defined"] == []
    grad(special.erf)(1.0)  # which enters the ufunc among NumPy's
    assert supported() == found
    define(special.exprel, vjp=exprel_slope)
    assert supported()["defined"] == ["scipy.special.exprel"]


def test_documentation_lists_what_has_a_rule() -> None:
    text = Path(__file__).parents[2].joinpath("docs/autodiff.md").read_text(encoding="utf-8")
    found = supported()
    del found["defined"]
    for kind, names in found.items():
        row = re.search(rf"^\| {kind} \| (.*) \|$", text, re.MULTILINE)
        assert row is not None, kind
        listed = set(re.findall(r"`([\w.]+)`", row[1]))
        assert sorted(set(names) - listed) == [], "not in docs/autodiff.md"
        extra = [name for name in sorted(listed - set(names)) if _exists(name)]
        assert extra == [], "without a rule"


def _exists(name: str) -> bool:
    """Whether this version of NumPy or SciPy has a function."""
    found: Any = {"numpy": np, "scipy": scipy}[name.split(".")[0]]
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found is not None
