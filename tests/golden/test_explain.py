"""The automatic-differentiation exercise of CS7643: its graph, its tables and its numbers."""

import math

import numpy as np
import pytest

from chainrule.explain import explain

W1, W2, STEP = 1.0, -1.0, 0.01
COURSE = "f1 = exp(exp(w1)+exp(2*w2)) + sigmoid(exp(w1)+exp(2*w2)); f2 = w1*w2 + max(w1,w2)"


def f1(w1, w2):
    s = math.exp(w1) + math.exp(2 * w2)
    return math.exp(s) + 1 / (1 + math.exp(-s))


def f2(w1, w2):
    return w1 * w2 + max(w1, w2)


def closed_form():
    """d exp(s) + sigma(s) = (exp(s) + exp(-s) / (1 + exp(-s))^2) ds, differentiated by hand."""
    s = math.exp(W1) + math.exp(2 * W2)
    outer = math.exp(s) + math.exp(-s) / (1 + math.exp(-s)) ** 2
    first = [outer * math.exp(W1), outer * 2 * math.exp(2 * W2)]
    second = [W2 + 1, W1]  # w1 is the larger one
    return np.array([first, second])


@pytest.fixture(scope="module")
def course():
    return explain(COURSE, w1=W1, w2=W2, step=STEP)


def test_the_closed_form_has_the_digits_of_the_course():
    assert [f"{x:.5g}" for x in closed_form().ravel()] == ["47.303", "4.7102", "0", "1"]


@pytest.mark.parametrize("method", ["forward mode", "reverse mode", "complex step"])
def test_exact_jacobian(course, method):
    np.testing.assert_allclose(course.jacobian(method), closed_form(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["forward mode", "reverse mode", "complex step"])
def test_a_function_of_python_gives_the_same(method):
    def f(w1, w2):
        s = np.exp(w1) + np.exp(2 * w2)
        return np.exp(s) + 1 / (1 + np.exp(-s)), w1 * w2 + np.maximum(w1, w2)

    found = explain(f, W1, W2).jacobian(method)
    np.testing.assert_allclose(found, closed_form(), rtol=1e-12, atol=1e-12)


def test_one_sided_table(course):
    expected = [
        [(f(W1 + STEP, W2) - f(W1, W2)) / STEP, (f(W1, W2 + STEP) - f(W1, W2)) / STEP]
        for f in (f1, f2)
    ]
    found = course.jacobian("forward difference")
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert [f"{x:.5g}" for x in np.round(found, 9).ravel()] == ["48.192", "4.7641", "0", "1"]


def test_backward_and_central_tables(course):
    backward = [
        [(f(W1, W2) - f(W1 - STEP, W2)) / STEP, (f(W1, W2) - f(W1, W2 - STEP)) / STEP]
        for f in (f1, f2)
    ]
    found = course.jacobian("backward difference")
    np.testing.assert_allclose(found, backward, rtol=1e-10, atol=1e-12)
    central = course.jacobian("central difference")
    np.testing.assert_allclose(
        central, (found + course.jacobian("forward difference")) / 2, rtol=1e-10, atol=1e-12
    )


def test_the_graph_has_each_subexpression_once(course):
    assert [(node.name, node.text) for node in course.graph.nodes] == [
        ("w1", ""),
        ("w2", ""),
        ("i1", "exp(w1)"),
        ("i2", "2*w2"),
        ("i3", "exp(i2)"),
        ("i4", "i1 + i3"),
        ("i5", "exp(i4)"),
        ("i6", "sigmoid(i4)"),
        ("f1", "i5 + i6"),
        ("i7", "w1*w2"),
        ("i8", "max(w1, w2)"),
        ("f2", "i7 + i8"),
    ]


def test_intermediates_of_all_tables(course):
    """Values, tangents and adjoints of f1, from the closed forms of each intermediate."""
    a, b = math.exp(W1), math.exp(2 * W2)
    s = a + b
    sigma = 1 / (1 + math.exp(-s))
    values = [a, 2 * W2, b, s, math.exp(s), sigma]
    by_w1 = [a, 0, 0, a, math.exp(s) * a, sigma * (1 - sigma) * a]
    by_w2 = [0, 2, 2 * b, 2 * b, math.exp(s) * 2 * b, sigma * (1 - sigma) * 2 * b]
    outer = math.exp(s) + sigma * (1 - sigma)
    adjoints = [outer, outer * b, outer, outer, 1, 1]
    nodes = slice(2, 8)  # i1 to i6
    np.testing.assert_allclose([n.value for n in course.graph.nodes[nodes]], values, rtol=1e-14)
    np.testing.assert_allclose(course.forward[0].tangents[nodes], by_w1, rtol=1e-13)
    np.testing.assert_allclose(course.forward[1].tangents[nodes], by_w2, rtol=1e-13)
    np.testing.assert_allclose(course.reverse[0].adjoints[nodes], adjoints, rtol=1e-13)


def test_the_smaller_exercise():
    """f = (x + y)(y + 1): df/dx = y + 1, df/dy = x + 2 y + 1."""
    x, y = 2.0, 3.0
    explained = explain("f = (x+y)*(y+1)", x=x, y=y)
    assert [node.text for node in explained.graph.nodes[2:]] == ["x + y", "y + 1", "i1*i2"]
    assert float(explained.graph.nodes[-1].value) == 20.0
    for method in ("forward mode", "reverse mode", "complex step"):
        np.testing.assert_allclose(explained.jacobian(method), [[y + 1, x + 2 * y + 1]], rtol=1e-12)
    one_sided = explained.jacobian("forward difference")
    np.testing.assert_allclose(one_sided, [[y + 1, x + 2 * y + 1 + STEP]], rtol=1e-10)
