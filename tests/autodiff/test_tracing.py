"""Traced values in ordinary NumPy code: operators, protocols, and what they refuse."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest

from chainrule.autodiff import Rule, grad, jvp, stop_gradient, trace, value_and_grad, vjp
from chainrule.autodiff.tracing import FUNCTIONS, METHODS, UFUNCS, Tracer, apply
from chainrule.errors import NoRuleError, TracerError

X = np.array([1.6, 0.7, 2.3])
MATRIX = np.array([[2.0, 1.0, 0.5], [0.3, 1.0, 2.0], [1.0, 1.0, 3.0]])


def numeric(f: Any, x: Any) -> Any:
    """The derivative of an elementwise function of x."""
    h = 1e-5
    return (f(x + h) - f(x - h)) / (2 * h)


def traced(f: Any, x: Any = X) -> Any:
    """Run f on a traced value, for what it does rather than for its derivative."""
    return jvp(f, (x,), (np.ones_like(x),))


def seen(f: Any, x: Any = X) -> Any:
    """What f returns for a traced value, whatever that is."""
    results = []
    grad(lambda x: results.append(f(x)) or 0.0)(x)
    return results[0]


# --- operators ------------------------------------------------------------------------------

OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.mod,
    operator.floordiv,
]
OTHERS = [
    2,
    2.2,
    True,
    np.float64(2.2),
    np.float32(2.25),
    np.int64(2),
    np.array(2.2),
    np.array([2.2, 1.2, 1.1]),
    np.array([[2], [3]]),
    [2.2, 1.2, 1.1],
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: f"{type(other).__name__} {other!r}")
@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("x", [X, np.float64(1.7)], ids=["array", "number"])
def test_operators_with_values_of_every_kind(op, other, x):
    for f in (lambda x: op(x, other), lambda x: op(other, x)):
        if isinstance(x, float) and isinstance(other, list):
            continue  # NumPy has no such operation
        out, tangent = jvp(f, (x,), (np.ones_like(x),))
        np.testing.assert_array_equal(out, f(x))
        slope = np.broadcast_to(numeric(f, x), np.shape(out))
        np.testing.assert_allclose(tangent, slope, rtol=1e-7, atol=1e-9)
        assert not isinstance(out, Tracer)
        back, pull_back = vjp(f, x)
        np.testing.assert_array_equal(back, out)
        assert np.shape(pull_back(np.ones_like(back))[0]) == np.shape(x)


@pytest.mark.parametrize("other", [X, MATRIX, list(X)], ids=["vector", "matrix", "list"])
def test_matrix_products_from_either_side(other):
    for f in (lambda x: x @ other, lambda x: other @ x):
        out, tangent = jvp(f, (X,), (X,))
        np.testing.assert_allclose(out, f(X))
        np.testing.assert_allclose(tangent, f(X))


def test_unary_operators():
    assert grad(lambda x: -x)(2.0) == -1.0
    assert grad(lambda x: +x)(2.0) == 1.0
    assert grad(abs)(-2.0) == -1.0
    quotient, rest = jvp(lambda x: divmod(x, 2.0), (5.5,), (1.0,))
    assert (quotient, rest) == ((2.0, 1.5), (0.0, 1.0))
    assert jvp(lambda x: divmod(5.5, x), (2.0,), (1.0,)) == ((2.0, 1.5), (0.0, -2.0))


def test_comparisons_are_plain():
    for op in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        for other in (1.5, X, X[::-1]):
            results = seen(lambda x, op=op, other=other: (op(x, other), op(other, x)))
            for result, expected in zip(results, (op(X, other), op(other, X)), strict=True):
                assert type(result) is np.ndarray
                np.testing.assert_array_equal(result, expected)
    assert type(seen(lambda x: x > 1.0, 2.0)) in (bool, np.bool)
    assert seen(lambda x: x == x, 2.0)
    assert not seen(lambda x: x is None or x == "text", 2.0)


def test_branches_follow_the_value():
    def relu(x):
        return x * x if x > 0 else 0.0 * x

    assert grad(relu)(3.0) == 6.0
    assert grad(relu)(-3.0) == 0.0
    assert grad(lambda x: x if x else 5 * x)(0.0) == 5.0
    assert grad(lambda x: x * 2 if not x.any() else x)(np.float64(0)) == 2.0
    with pytest.raises(ValueError, match="truth value of an array"):
        traced(lambda x: x if x > 1 else -x)
    assert grad(lambda x: max(x, 2 * x))(3.0) == 2.0
    assert grad(lambda x: sum([x, x, x]))(3.0) == 3.0


def test_loops_and_recursion():
    def power(x, n):
        return 1.0 if n == 0 else x * power(x, n - 1)

    assert grad(lambda x: power(x, 5))(2.0) == 80.0

    def newton(a):
        x = a
        while abs(x * x - a) > 1e-12:
            x = (x + a / x) / 2
        return x

    assert grad(newton)(2.0) == pytest.approx(0.5 / np.sqrt(2))


def test_augmented_assignment_makes_a_new_value():
    def f(x):
        y = x
        y *= x
        y += 1.0
        return np.sum(y * x)

    np.testing.assert_allclose(grad(f)(X), 3 * X**2 + 1)
    np.testing.assert_array_equal(X, [1.6, 0.7, 2.3])


# --- what an array knows of itself ----------------------------------------------------------


def test_attributes():
    x = np.ones((2, 3), np.float32)
    for name in ("shape", "ndim", "size", "dtype"):
        assert seen(lambda x, name=name: getattr(x, name), x) == getattr(x, name)
    assert seen(len, x) == 2
    assert seen(lambda x: x.T.shape, x) == (3, 2)
    assert seen(lambda x: x.mT.shape, np.ones((4, 2, 3))) == (4, 3, 2)
    assert seen(lambda x: x.flags.writeable, x)
    with pytest.raises(TypeError, match="unsized"):
        traced(len, 1.0)


def test_unpacking_and_iteration():
    def f(x):
        a, b, c = x
        return a * b + sum(item * item for item in x) + c

    np.testing.assert_allclose(grad(f)(X), 2 * X + [X[1], X[0], 1])
    assert grad(lambda m: sum(row @ row for row in m))(np.ones((2, 2))).shape == (2, 2)


def test_printing_shows_the_value():
    text = seen(lambda x: (repr(x), str(x), f"{x:.2f}", f"{x}"), 1.5)
    assert text == ("Node(np.float64(1.5))", "Node(np.float64(1.5))", "1.50", "1.5")
    assert seen(str) == "Node(array([1.6, 0.7, 2.3]))"
    assert seen(lambda x: f"{x}") == "[1.6 0.7 2.3]"


def test_traced_values_can_be_keys_and_copies():
    assert seen(lambda x: {x: 1}[x]) == 1
    assert grad(lambda x: copy.copy(x) * x)(3.0) == 6.0
    assert grad(lambda x: copy.deepcopy({"x": x})["x"] * x)(3.0) == 6.0
    assert not seen(lambda x: hasattr(x, "__array_interface__"))
    assert not seen(lambda x: hasattr(x, "no_such_thing"))


def test_single_precision_with_python_numbers():
    x = np.float32([1, 2])
    value, gradient = value_and_grad(lambda x: np.sum(2.5 * x**3 / 7 + 1 - 3.0 / x))(x)
    assert (value.dtype, gradient.dtype) == (np.float32, np.float32)
    mixed = grad(lambda x, y: np.sum(x * y), (0, 1))(x, np.array([1.0, 2.0]))
    assert [g.dtype for g in mixed] == [np.float32, np.float64]


def test_stop_gradient():
    assert grad(lambda x: x * stop_gradient(x) + stop_gradient(x) ** 2)(3.0) == 3.0
    assert grad(grad(lambda x: x**2 * stop_gradient(x)))(3.0) == 6.0
    assert stop_gradient(2.0) == 2.0
    assert type(seen(stop_gradient)) is np.ndarray


# --- methods and reductions -----------------------------------------------------------------

ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "__getitem__": [(0,), (slice(1, None),), (np.array([True, False, True]),)],
    "reshape": [(1, 9), ((9,),), (-1,)],
    "transpose": [(), (1, 0), ((1, 0),)],
    "astype": [(np.float32,), (float,)],
    "clip": [(0.4, 1.2)],
    "dot": [(MATRIX,)],
    "swapaxes": [(0, 1)],
    "repeat": [(2,)],
    "round": [(), (1,)],
    "searchsorted": [(1.0,)],
    "take": [([0, 2],)],
    "sum": [(), (0,), (-1,)],
    "mean": [(), (0,), (-1,)],
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_do_what_they_do_on_arrays(name):
    for arguments in ARGUMENTS.get(name, [()]):

        def f(x, arguments=arguments):
            return getattr(x, name)(*arguments)

        x = MATRIX + 0.02 * np.arange(9).reshape(3, 3) + 0.011
        x = x[0] if name == "searchsorted" else x
        plain = f(x)
        if not isinstance(plain, np.ndarray | np.floating) or plain.dtype.kind != "f":
            result = seen(f, x)
            np.testing.assert_array_equal(result, plain)
            continue
        out, tangent = jvp(f, (x,), (np.cos(x),))
        np.testing.assert_array_equal(out, plain)
        h = 1e-2 if plain.dtype == np.float32 else 1e-5
        ahead, behind = f(x + h * np.cos(x)), f(x - h * np.cos(x))
        np.testing.assert_allclose(
            tangent, (ahead - behind) / (2 * h), rtol=1e-3 if h > 1e-3 else 1e-7, atol=1e-8
        )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (lambda x: np.add.reduce(x), np.ones((3, 3))),
        (lambda x: np.add.reduce(x, axis=(0, 1)), np.ones((3, 3))),
        (lambda x: np.maximum.reduce(x, axis=1), [[1, 0, 0], [0, 0, 1], [0, 0, 1]]),
        (lambda x: np.minimum.reduce(x, axis=1), [[0, 0, 1], [1, 0, 0], [0.5, 0.5, 0]]),
    ],
)
def test_reductions_by_ufuncs(method, expected):
    out, pull_back = vjp(method, MATRIX)
    np.testing.assert_array_equal(out, method(MATRIX))
    np.testing.assert_allclose(pull_back(np.ones_like(out))[0], expected)


# --- a rule of one's own --------------------------------------------------------------------

CUBE = Rule(
    "cube",
    lambda x: x**3,
    (lambda t, out, x: 3 * t * x**2,),
    (lambda g, out, x: 3 * g * x**2,),
)


def test_apply_records_on_any_level():
    assert apply(CUBE, (2.0,)) == 8.0
    assert grad(lambda x: apply(CUBE, (x,)))(2.0) == 12.0
    assert grad(grad(grad(lambda x: apply(CUBE, (x,)))))(2.0) == 6.0
    assert jvp(grad(lambda x: apply(CUBE, (x,))), (2.0,), (1.0,))[1] == 12.0


# --- refusals -------------------------------------------------------------------------------

LOST = {
    "an array": [lambda x: np.asarray(x), lambda x: np.array([x[0], x[1]]), lambda x: np.array(x)],
    "a float": [lambda x: float(x[0]), lambda x: math.sin(x[0])],
    "an int": [lambda x: int(x[0])],
    "an index": [lambda x: range(x[0]), lambda x: [1, 2, 3][x[0]]],
    "a complex number": [lambda x: complex(x[0])],
    "a pickle": [pickle.dumps],
}


@pytest.mark.parametrize(
    ("kind", "f"), [(kind, f) for kind, functions in LOST.items() for f in functions]
)
def test_conversions_would_lose_the_derivative(kind, f):
    with pytest.raises(TracerError, match=f"must not become {kind}, where .*numpy.stack"):
        traced(f)


def test_arrays_take_no_traced_elements():
    def f(x):
        out = np.zeros(3)
        out[0] = x[0]
        return out

    for run in (grad(f), partial(vjp, f), partial(trace, f), lambda x: jvp(f, (x,), (x,))):
        with pytest.raises(TracerError, match=r"written into an array; got y\[\.\.\.\] = value"):
            run(X)
    with pytest.raises(ValueError, match="setting an array element with a sequence"):
        grad(lambda x: np.array([[1.0], [1.0, 2.0]]))(X)  # NumPy's own stays what it is


def test_traced_arrays_are_not_written_into():
    def f(x):
        x[0] = 1.0
        return x

    with pytest.raises(TracerError, match=r"must not be written into; got x\[\.\.\.\] = value"):
        traced(f)


def accumulate(x: Any) -> Any:
    total = np.zeros(3)
    total += x
    return total


@pytest.mark.parametrize("f", [accumulate, lambda x: np.add(x, 1, out=np.zeros(3))])
def test_results_are_not_written_into_arrays(f):
    with pytest.raises(TracerError, match=r"numpy.add must not write .*\+=.* x = x \+ y instead"):
        traced(f)


@pytest.mark.parametrize(
    ("f", "option"),
    [
        (lambda x: np.exp(x, where=x > 1), "where"),
        (lambda x: np.exp(x, dtype=np.float64), "dtype"),
        (lambda x: np.add(x, 1, casting="no"), "casting"),
    ],
)
def test_ufuncs_are_differentiated_without_options(f, option):
    with pytest.raises(NoRuleError, match=f"without options; got {option}. Leave them out"):
        traced(f)


@pytest.mark.parametrize(
    "f", [lambda x: np.sum(x, where=X > 1), lambda x: np.sum(x, out=np.zeros(()))]
)
def test_functions_are_differentiated_without_some_options(f):
    with pytest.raises(NoRuleError, match=r"numpy\.sum .*without some .*(where|out).*Leave them"):
        traced(f)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: np.fft.fft(x), "numpy.fft.fft"),
        (lambda x: np.spacing(x), "numpy.spacing"),
        (lambda x: np.nextafter(x, 1.0), "numpy.nextafter"),
    ],
)
def test_what_has_no_rule_is_named(f, name):
    message = rf"{name} has no derivative rule. Add one, as in chainrule.autodiff.define\({name}, "
    with pytest.raises(NoRuleError, match=message.replace(".", r"\.")):
        traced(f)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: np.subtract.reduce(x), "numpy.subtract.reduce"),
        (lambda x: np.add.reduceat(x, [0, 1]), "numpy.add.reduceat"),
        (lambda x: np.add.at(x, 0, 1.0), "numpy.add.at"),
    ],
)
def test_methods_of_ufuncs_without_a_rule(f, name):
    with pytest.raises(NoRuleError, match=f"{name} has no derivative rule.*numpy.cumsum"):
        traced(f)


@pytest.mark.parametrize("name", ["tolist", "item", "fill", "view", "tobytes"])
def test_array_methods_without_a_rule(name):
    with pytest.raises(TracerError, match=rf"array method \.{name} cannot.*stop_gradient"):
        traced(lambda x: getattr(x, name)())


def test_names_that_arrays_do_not_have():
    with pytest.raises(AttributeError, match="no attribute 'numpy'"):
        traced(lambda x: x.numpy())


def test_errors_inside_rules_come_through():
    with pytest.raises(ValueError, match="could not be broadcast"):
        traced(lambda x: x + np.ones(2))
    with pytest.raises(IndexError, match="out of bounds"):
        traced(lambda x: x[7])
    with pytest.raises(TypeError, match="NoneType"):
        traced(lambda x: x + None)


def test_the_tables_hold_what_they_should():
    assert all(isinstance(key, np.ufunc) for key in UFUNCS)
    assert all(isinstance(rule, Rule) or callable(rule) for rule in UFUNCS.values())
    assert all(callable(key) and callable(value) for key, value in FUNCTIONS.items())
    assert all(hasattr(np.ndarray, name) for name in METHODS)
