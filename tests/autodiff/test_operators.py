"""What a user calls: arguments and results of every kind, nesting, errors."""

from __future__ import annotations

import gc
import weakref
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import pytest

from chainrule.autodiff import (
    Node,
    Tracer,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    trace,
    value_and_grad,
    vjp,
)
from chainrule.errors import DTypeError, InputError, ShapeError

Pair = namedtuple("Pair", ["left", "right"])
RNG = np.random.default_rng(0)


def derivative(f: Any) -> Any:
    """Of a function of one number, in forward mode."""
    return lambda x: jvp(f, (x,), (1.0,))[1]


both_modes = pytest.mark.parametrize("d", [grad, derivative], ids=["reverse", "forward"])
again = pytest.mark.parametrize("e", [grad, derivative], ids=["reverse", "forward"])


def frozen(*shape: int) -> np.ndarray:
    """Writing into it raises."""
    array = RNG.standard_normal(shape)
    array.flags.writeable = False
    return array


# --- the course's example -------------------------------------------------------------------


def course(w: Any) -> Any:
    s = np.exp(w[0]) + np.exp(2 * w[1])
    f1 = np.exp(s) + 1 / (1 + np.exp(-s))
    return np.stack([f1, w[0] * w[1] + np.maximum(w[0], w[1])])


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_the_jacobian_of_the_course(mode):
    e, e2 = np.exp(1.0), np.exp(-2.0)
    s = e + e2
    ds = np.exp(s) + np.exp(-s) / (1 + np.exp(-s)) ** 2
    expected = [[ds * e, ds * 2 * e2], [-1.0 + 1.0, 1.0]]
    found = jacobian(course, mode=mode)(np.array([1.0, -1.0]))
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


# --- arguments and results ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "kind", "dtype"),
    [
        (3, np.float64, np.float64),
        (True, np.float64, np.float64),
        (3.0, np.float64, np.float64),
        (np.float64(3), np.float64, np.float64),
        (np.float32(3), np.float32, np.float32),
        (np.int32(3), np.float64, np.float64),
        (np.array(3.0), np.ndarray, np.float64),
        (np.float16([3]), np.ndarray, np.float16),
        (np.float32([3, 4]), np.ndarray, np.float32),
        (np.array([3, 4]), np.ndarray, np.float64),
        (np.longdouble([3]), np.ndarray, np.longdouble),
    ],
)
def test_a_gradient_has_kind_shape_and_dtype_of_its_argument(x, kind, dtype):
    gradient = grad(lambda x: np.sum(x * x))(x)
    assert type(gradient) is kind
    assert (gradient.shape, gradient.dtype) == (np.shape(x), dtype)
    np.testing.assert_array_equal(gradient, 2 * np.asarray(x, dtype))
    _, tangent = jvp(lambda x: x * x, (x,), (np.ones_like(x),))
    assert tangent.dtype == dtype
    np.testing.assert_array_equal(tangent, 2 * np.asarray(x, dtype))


def test_directions_take_the_dtype_of_their_value():
    """So that no rule computes in double precision."""
    x, v = np.float32([1, 2]), np.array([1.0, 2.0])
    seen = []
    jvp(lambda x: seen.append(x.tangent.dtype), (x,), (v,))
    assert seen == [np.float32]

    def through_a_probe(x):
        return jvp(lambda y: y * x, (x,), (v,))[1]

    assert jvp(through_a_probe, (x,), (x,))[1].dtype == np.float32


def test_arguments_are_chosen_by_number():
    def f(x, y, *, factor=1.0):
        return factor * x * y * y

    assert grad(f)(3.0, 2.0) == 4.0
    assert grad(f, 1)(3.0, 2.0) == 12.0
    assert grad(f, -1)(3.0, 2.0) == 12.0
    assert grad(f, np.int64(1))(3.0, 2.0) == 12.0
    assert grad(f, (1, 0))(3.0, 2.0) == (12.0, 4.0)
    assert grad(f, [0])(3.0, 2.0, factor=2.0) == (8.0,)
    assert grad(f, ())(3.0, 2.0) == ()
    value, gradient = value_and_grad(f, (0, 1))(3.0, 2.0, factor=2.0)
    assert (value, gradient) == (24.0, (8.0, 24.0))


TREE = {
    "weights": [frozen(2, 3), frozen(3)],
    "pair": Pair(frozen(3), 2.0),
    "nothing": None,
    "empty": (),
    "nested": ({"one": 1.5},),
}


def loss(tree):
    hidden = tree["weights"][0] @ tree["weights"][1] * tree["pair"].right
    return np.sum(hidden**2) + tree["nested"][0]["one"] * np.sum(tree["pair"].left)


def test_gradients_of_trees_have_their_structure():
    found = grad(loss)(TREE)
    assert isinstance(found["pair"], Pair)
    assert (found["nothing"], found["empty"]) == (None, ())
    w, v = TREE["weights"]
    np.testing.assert_allclose(found["weights"][0], 8 * np.outer(w @ v, v))
    np.testing.assert_allclose(found["weights"][1], 8 * w.T @ w @ v)
    np.testing.assert_array_equal(found["pair"].left, [1.5] * 3)
    np.testing.assert_allclose(found["pair"].right, 4 * np.sum((w @ v) ** 2))
    assert found["nested"] == ({"one": np.sum(TREE["pair"].left)},)


def test_trees_through_jvp_and_vjp():
    def f(tree, x):
        return {"out": Pair(tree["a"] * x, [tree["b"], None]), "constant": 1.0}

    out, tangent = jvp(f, ({"a": 2.0, "b": 3.0}, 5.0), ({"a": 1.0, "b": 10.0}, 100.0))
    assert out == {"out": Pair(10.0, [3.0, None]), "constant": 1.0}
    assert tangent == {"out": Pair(205.0, [10.0, None]), "constant": 0.0}
    back, pull_back = vjp(f, {"a": 2.0, "b": 3.0}, 5.0)
    assert back == out
    cotangent = {"out": Pair(1.0, [10.0, None]), "constant": 7.0}
    assert pull_back(cotangent) == ({"a": 5.0, "b": 10.0}, 2.0)


def test_a_function_may_return_its_argument_twice():
    x = frozen(3)
    (first, second), pull_back = vjp(lambda x: (x, x), x)
    np.testing.assert_array_equal(first, second)
    (found,) = pull_back((np.array([1.0, 2, 3]), np.array([10.0, 20, 30])))
    np.testing.assert_array_equal(found, [11, 22, 33])


def test_a_pull_back_can_be_called_again():
    _, pull_back = vjp(lambda x: np.tanh(x) ** 2, frozen(3))
    first, second = pull_back(np.ones(3)), pull_back(np.ones(3))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(pull_back(2 * np.ones(3))[0], 2 * first[0])


@pytest.mark.parametrize("constant", [3, 3.0, np.float64(3), np.array(3.0), True])
def test_what_does_not_depend_on_an_argument_has_the_gradient_zero(constant):
    value, gradient = value_and_grad(lambda x: constant)(frozen(2))
    assert value == constant
    np.testing.assert_array_equal(gradient, [0, 0])
    np.testing.assert_array_equal(grad(lambda x, y: y * y)(frozen(2), 3.0), [0, 0])
    assert jvp(lambda x: constant, (1.0,), (1.0,)) == (constant, 0.0)
    np.testing.assert_array_equal(vjp(lambda x: constant, frozen(2))[1](1.0)[0], [0, 0])


def test_results_share_no_memory():
    x, y, v = frozen(3), frozen(3), frozen(3)
    dx, dy = grad(lambda x, y: np.sum(x + y), (0, 1))(x, y)
    assert not np.shares_memory(dx, dy)
    _, (one, two, turned) = jvp(lambda x: (x, x, x[::-1]), (x,), (v,))
    for result in (one, two, turned):
        assert result.flags.writeable
        assert not np.shares_memory(result, v)
    assert not np.shares_memory(one, two)
    assert not np.shares_memory(one, turned)
    cotangent = frozen(3)
    for result in vjp(lambda x, y: x + y, x, y)[1](cotangent):
        assert result.flags.writeable
        assert not np.shares_memory(result, cotangent)


def test_nothing_is_kept_after_a_gradient():
    """Without Python's cyclic garbage collector, that is."""
    seen = []

    def f(x):
        hidden = np.exp(x)
        seen.append(weakref.ref(hidden.value))
        return np.sum(hidden * hidden)

    gc.disable()
    try:
        grad(f)(np.ones(3))
        assert seen[0]() is None
    finally:
        gc.enable()


# --- Jacobians and Hessians -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("out", ["same", "sum", "outer"])
def test_shapes_of_jacobians(mode, shape, out):
    functions = {
        "same": lambda x: x**3,
        "sum": lambda x: np.sum(x**3),
        "outer": lambda x: np.reshape(x**3, (-1, 1) if x.size else (0, 1)) * np.ones(2),
    }
    x = frozen(*shape)
    found = jacobian(functions[out], mode=mode)(x)
    result = functions[out](x)
    assert found.shape == (*np.shape(result), *shape)
    columns = [jvp(functions[out], (x,), (unit,))[1] for unit in units(shape)]
    if columns:
        np.testing.assert_allclose(found, np.stack(columns, -1).reshape(found.shape))


def units(shape):
    size = int(np.prod(shape))
    return [row.reshape(shape) for row in np.eye(size)]


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobians_of_several_arguments_and_results(mode):
    def f(x, y, c):
        return {"a": x * y[0], "b": np.sum(x) * y * c}

    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])
    found = jacobian(f, (1, 0), mode=mode)(x, y, 2.0)
    np.testing.assert_array_equal(found["a"][0], [[1, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(found["a"][1], [[3, 0], [0, 3]])
    np.testing.assert_array_equal(found["b"][0], 6 * np.eye(3))
    np.testing.assert_array_equal(found["b"][1], [[6, 6], [8, 8], [10, 10]])
    assert jacobian(f, 2, mode=mode)(x, y, 2.0)["b"].shape == (3,)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobians_keep_single_precision(mode):
    x = np.float32([1, 2])
    assert jacobian(lambda x: np.sin(x) * x, mode=mode)(x).dtype == np.float32


def test_hessians():
    a = frozen(3, 3)
    x = frozen(3)

    def f(x):
        return x @ a @ x + np.sum(x**3)

    expected = a + a.T + np.diag(6 * x)
    np.testing.assert_allclose(hessian(f)(x), expected)
    v = frozen(3)
    np.testing.assert_allclose(hvp(f, x, v), expected @ v)
    np.testing.assert_allclose(jacobian(grad(f), mode="reverse")(x), expected)
    matrix = hessian(lambda m: np.sum(m**2) * m[0, 0])(np.ones((2, 2)))
    assert matrix.shape == (2, 2, 2, 2)


def test_hessians_by_several_arguments():
    (xx, xy), (yx, yy) = hessian(lambda x, y: np.sum(x**2) * y, (0, 1))(np.array([1.0, 2]), 3.0)
    np.testing.assert_array_equal(xx, 6 * np.eye(2))
    np.testing.assert_array_equal(xy, [2, 4])
    np.testing.assert_array_equal(yx, [2, 4])
    assert yy == 0


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobians_by_trees(mode):
    params = {"w": np.array([1.0, 2.0]), "b": [3.0]}

    def f(p, x):
        return {"out": p["w"] * p["b"][0] * x}

    found = jacobian(f, mode=mode)(params, 2.0)
    np.testing.assert_array_equal(found["out"]["w"], 6 * np.eye(2))
    np.testing.assert_array_equal(found["out"]["b"][0], [2, 4])
    by_params, by_x = jacobian(f, (0, 1), mode=mode)(params, 2.0)["out"]
    np.testing.assert_array_equal(by_params["b"][0], [2, 4])
    np.testing.assert_array_equal(by_x, [3, 6])


def test_hessians_by_trees():
    found = hessian(lambda p: np.sum(p["w"] ** 2) * p["b"])({"w": np.array([1.0, 2.0]), "b": 3.0})
    np.testing.assert_array_equal(found["w"]["w"], 6 * np.eye(2))
    np.testing.assert_array_equal(found["w"]["b"], [2, 4])
    np.testing.assert_array_equal(found["b"]["w"], [2, 4])
    assert found["b"]["b"] == 0


def test_hessian_vector_products_of_trees():
    def f(p):
        return np.sum(p["w"] ** 2) * p["b"]

    found = hvp(f, {"w": np.array([1.0, 2.0]), "b": 3.0}, {"w": np.array([1.0, 0.0]), "b": 1.0})
    np.testing.assert_array_equal(found["w"], [6 + 2, 4])
    assert found["b"] == 2


# --- nesting --------------------------------------------------------------------------------


@both_modes
@again
def test_perturbations_are_not_confused(d, e):
    assert d(lambda x: x * e(lambda y: x + y)(1.0))(1.0) == 1.0
    assert d(lambda x: x * e(lambda y: x * y)(2.0))(3.0) == 6.0
    assert d(lambda x: e(lambda y: x)(2.0))(3.0) == 0.0
    assert d(lambda x: e(lambda y: x * stop(y))(2.0))(3.0) == 0.0
    assert d(lambda x: e(lambda y: d(lambda z: x * y * z)(1.0))(x))(5.0) == 1.0


def stop(y):
    return float(y.value)


@both_modes
@again
def test_mixed_derivatives_through_closures(d, e):
    """d/dx of d/dy x^2 y^3 at y = x^2: x^2 3 x^4 = 3 x^6, so 18 x^5."""
    assert d(lambda x: e(lambda y: x**2 * y**3)(x**2))(1.5) == pytest.approx(18 * 1.5**5)


@pytest.mark.parametrize("word", ["rrrrrr", "ffffff", "rfrfrf", "ffrrff"])
def test_any_order(word):
    operators = {"r": grad, "f": derivative}
    sixth = reduce(lambda f, mode: operators[mode](f), word, lambda x: np.exp(2 * x) * x)
    assert sixth(0.3) == pytest.approx((2**6 * 0.3 + 6 * 2**5) * np.exp(0.6), rel=1e-13)


def test_jacobians_can_be_differentiated():
    x = np.array([1.0, 2.0])

    def f(x):
        return np.stack([x[0] ** 2 * x[1], x[1] ** 3])

    for mode in ("forward", "reverse"):
        found = grad(lambda x, mode=mode: np.sum(jacobian(f, mode=mode)(x) ** 2))(x)
        # J = [[2 x y, x^2], [0, 3 y^2]]
        np.testing.assert_allclose(found, [8 * 1 * 4 + 4 * 1, 8 * 2 + 36 * 8])


def test_vjp_within_grad():
    def outer(x):
        _, pull_back = vjp(lambda y: x * np.sin(y), x)
        (bar,) = pull_back(x**2)
        return bar

    expected = 3 * 0.7**2 * np.cos(0.7) - 0.7**3 * np.sin(0.7)
    assert grad(outer)(0.7) == pytest.approx(expected)


def test_threads_do_not_disturb_each_other():
    def work(seed):
        x = np.random.default_rng(seed).standard_normal(4)
        y = grad(lambda x: np.sum(x * grad(lambda y: np.sum(x * np.sin(y) ** 2))(x)))(x)
        # The inner gradient is x sin(2 x).
        return np.allclose(y, 2 * x * np.sin(2 * x) + 2 * x**2 * np.cos(2 * x))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


def test_a_gradient_taken_after_an_error_is_right():
    def fails(x):
        np.exp(x)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        grad(fails)(1.0)
    assert grad(np.square)(3.0) == 6.0


# --- the graph ------------------------------------------------------------------------------


def test_trace_keeps_everything_in_order():
    graph = trace(lambda p, y: [p["x"] * y + np.exp(y), 5.0], {"x": 2.0}, 3.0)
    assert [node.rule.name if node.rule else None for node in graph.nodes] == [
        None,
        None,
        "multiply",
        "exp",
        "add",
        None,
    ]
    assert graph.inputs == graph.nodes[:2]
    assert [node.value for node in graph.outputs] == [6.0 + np.exp(3.0), 5.0]
    product = graph.nodes[2]
    assert product.parents == [graph.nodes[0], graph.nodes[1]]
    assert list(product.args) == [2.0, 3.0]
    assert [node.index for node in graph.nodes] == list(range(6))
    assert all(isinstance(node, Node) for node in graph.nodes)


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("argnums", [2, -3, (0, 2), "x", 0.0, (0, None)])
def test_arguments_that_are_not_there(argnums):
    with pytest.raises(InputError, match=r"grad: argnums must name positional .* with 2\."):
        grad(lambda x, y: x, argnums)(1.0, 2.0)


def test_an_argument_named_twice():
    with pytest.raises(InputError, match="must name each argument once"):
        grad(lambda x, y: x * y, (1, -1))(1.0, 2.0)


def test_a_gradient_wants_one_number():
    with pytest.raises(ShapeError, match=r"f must return one number; got shape \(2,\).*jacobian"):
        grad(lambda x: x * 2)(np.ones(2))
    with pytest.raises(ShapeError, match=r"got shape \(1,\)"):
        grad(lambda x: x[:1])(np.ones(2))
    with pytest.raises(ShapeError, match=r"got shape \(2,\)"):
        grad(lambda x: np.ones(2))(np.ones(2))


@pytest.mark.parametrize("result", [None, "1.0", [1.0], 1j, np.complex128(1)])
def test_a_gradient_of_no_number(result):
    with pytest.raises(DTypeError, match="grad: f must return one real number; got"):
        grad(lambda x: result)(1.0)


@pytest.mark.parametrize("x", [1j, np.ones(2) + 0j, "1.0", np.array([None]), {1, 2}])
def test_arguments_that_are_not_real(x):
    for call in (
        lambda: grad(lambda x: x)(x),
        lambda: vjp(lambda x: x, x),
        lambda: jvp(lambda x: x, (x,), (1.0,)),
        lambda: jacobian(lambda x: x)(x),
    ):
        with pytest.raises(DTypeError, match="each argument must be real numbers or arrays"):
            call()


def test_wrong_tangents():
    with pytest.raises(InputError, match="tangents must have the structure of primals, 1 arrays"):
        jvp(np.sin, (1.0,), (1.0, 2.0))
    with pytest.raises(ShapeError, match=r"a tangent must have the shape of its value, \(2,\)"):
        jvp(np.sin, (np.ones(2),), (np.ones(3),))
    with pytest.raises(ShapeError, match=r"a tangent must have the shape of its value, \(2,\)"):
        jvp(np.sin, (np.ones(2),), (1.0,))
    with pytest.raises(DTypeError, match="real numbers"):
        jvp(np.sin, (np.ones(2),), (np.ones(2) * 1j,))


def test_wrong_cotangents():
    _, pull_back = vjp(lambda x: (x, x), np.ones(2))
    with pytest.raises(InputError, match="the cotangent must have the structure of the result, 2"):
        pull_back(np.ones(2))
    with pytest.raises(ShapeError, match=r"a cotangent must have the shape of its value, \(2,\)"):
        pull_back((np.ones(2), np.ones(3)))


def test_wrong_modes():
    with pytest.raises(InputError, match='mode must be "auto", "forward" or "reverse"; got'):
        jacobian(np.sin, mode="backward")  # type: ignore[arg-type]


def test_no_tracer_escapes_into_results():
    x = frozen(2)
    results = [
        *value_and_grad(lambda x: np.sum(x * x))(x),
        *jvp(np.sin, (x,), (x,)),
        vjp(np.sin, x)[0],
        jacobian(np.sin)(x),
        hessian(lambda x: np.sum(x**3))(x),
    ]
    assert not any(isinstance(result, Tracer) for result in results)


def test_no_positional_argument_at_all():
    with pytest.raises(InputError, match="The function was called with none"):
        grad(lambda x: x)(x=1.0)


@pytest.mark.parametrize("d", [grad, derivative])
def test_complex_numbers_on_the_way(d):
    with pytest.raises(DTypeError, match=r"f must have real values on the way .* got complex128"):
        d(lambda x: np.abs(1j * x))(2.0)


def test_a_complex_cotangent():
    _, pull_back = vjp(lambda x: x, 1.0)
    with pytest.raises(DTypeError, match="vjp: a cotangent must be real numbers"):
        pull_back(1j)


def test_arrays_of_another_kind():
    """As plain arrays they would be masked no longer, or multiplied in another way."""
    with pytest.raises(DTypeError, match=r"plain arrays of them; got MaskedArray\. Take"):
        grad(np.sum)(np.ma.array([1.0, 2.0], mask=[True, False]))
    with pytest.raises(DTypeError, match="real numbers or arrays of them; got Fraction"):
        grad(lambda x: x)(Fraction(1, 2))
