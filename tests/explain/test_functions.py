"""Functions of Python: traced, named, merged, with arrays inside."""

import numpy as np
import pytest

from chainrule import autodiff
from chainrule.errors import ConfigError, DTypeError, InputError
from chainrule.explain import explain

A = np.array([[1.0, 2.0], [3.0, -4.0], [0.5, 0.2]])
Y = np.array([1.0, -1.0, 1.0])


def loss(w, b):
    return np.sum(np.log1p(np.exp(-Y * (A @ w + b))))


def test_a_loss_of_arrays():
    explained = explain(loss, [0.5, -0.3], 0.1)
    gradient = autodiff.grad(loss, argnums=(0, 1))(np.array([0.5, -0.3]), 0.1)
    expected = [[*gradient[0], gradient[1]]]
    assert explained.input_names == ["w[0]", "w[1]", "b"]
    assert explained.output_names == ["f"]
    for method in ("reverse mode", "forward mode", "complex step"):
        np.testing.assert_allclose(explained.jacobian(method), expected, rtol=1e-12)
    np.testing.assert_allclose(explained.jacobian("central difference"), expected, rtol=1e-4)
    assert explained.notes == []
    assert explained.graph.nodes[-1].text.startswith("sum(i")


def test_an_array_comes_out():
    def f(x):
        return x[:, None] * x

    explained = explain(f, [2.0, 3.0])
    assert explained.output_names == ["f[0, 0]", "f[0, 1]", "f[1, 0]", "f[1, 1]"]
    assert explained.jacobian().tolist() == [[4, 0], [3, 2], [3, 2], [0, 6]]
    np.testing.assert_allclose(explained.jacobian("complex step"), explained.jacobian())


def test_indices_and_axes_are_written():
    def f(x):
        rows = x.reshape(2, 2)
        return np.sum(rows, axis=0)[1] * x[0] + np.sum(x[::2]) + rows[0, -1]

    texts = [node.text for node in explain(f, [1.0, 2.0, 3.0, 4.0]).graph.nodes if node.text]
    for wanted in ("sum(i1, axis=0)", "i2[1]", "x[0]", "x[::2]", "i1[0, -1]"):
        assert wanted in texts


def test_products_of_matrices():
    def f(w):
        return np.linalg.solve(A[:2] + 0.1 * w[0], A[:2] @ w)[0]

    explained = explain(f, [0.3, -0.2])
    for method in ("forward mode", "complex step"):
        np.testing.assert_allclose(explained.jacobian(method), explained.jacobian(), rtol=1e-10)
    assert "const @ ∂w" in str(explained)
    assert "const.T @ g" in str(explained)


def test_names_are_those_of_the_parameters():
    def f(rate, /, size, *rest):
        return rate * size * rest[0]

    assert explain(f, 1.0, 2.0, 3.0).input_names == ["rate", "size", "x3"]
    assert explain(np.exp, 1.0).input_names == ["x"]
    assert explain(lambda *a: a[0] * a[1], 1.0, 2.0).input_names == ["x1", "x2"]


def test_operations_carried_out_twice_are_one_node():
    def f(x, y):
        return np.exp(x * y) + np.exp(x * y) * 2.0

    assert [n.text for n in explain(f, 1.0, 2.0).graph.nodes if n.text] == [
        "x*y",
        "exp(i1)",
        "i2*2",
        "i2 + i3",
    ]


def test_operations_with_other_constants_are_other_nodes():
    def f(x):
        return np.sum(x * np.array([1.0, 2.0])) + np.sum(x * np.array([2.0, 1.0]))

    assert explain(f, [1.0, 1.0]).jacobian().tolist() == [[3.0, 3.0]]


def test_what_is_computed_in_vain_is_left_out():
    def f(x):
        np.exp(x)
        return np.sin(x)

    assert [node.name for node in explain(f, 1.0).graph.nodes] == ["x", "f"]


def test_several_results_inputs_and_constants():
    def f(x, y):
        product = x * y
        return product, x * y, x, np.exp(product), 3.0

    explained = explain(f, 1.0, 2.0)
    assert explained.output_names == ["f1", "f2", "f3", "f4", "f5"]
    e = np.exp(2)
    np.testing.assert_allclose(
        explained.jacobian(), [[2, 1], [2, 1], [1, 0], [2 * e, e], [0, 0]], rtol=1e-12
    )
    assert "f4 = exp(f1)" in str(explained)


def test_formulas_are_those_of_expressions():
    traced = explain(lambda x, y: x / y + np.tanh(x) * y**2, 2.0, 3.0)
    written = explain("x/y + tanh(x)*y**2", x=2, y=3)
    lines = str(written).partition("Numerical")[0].splitlines()[2:]
    assert str(traced).partition("Numerical")[0].splitlines()[2:] == lines


def test_a_rule_without_a_formula_shows_its_number():
    explained = explain(lambda x, y: np.hypot(x, y), 3.0, 4.0)
    assert explained.jacobian().tolist() == [[0.6, 0.8]]
    assert "∂f/∂x      │ 0.6" in str(explained)
    assert np.isnan(explained.jacobian("complex step")).all()
    assert explained.notes == ["complex step: hypot has no complex derivative."]


def test_ties_follow_the_convention_in_force():
    with autodiff.ties("first"):
        explained = explain(lambda x, y: np.maximum(x, y), 2.0, 2.0)
    assert explained.jacobian().tolist() == [[1.0, 0.0]]
    assert "the first one takes the derivative" in explained.notes[0]
    split = explain(lambda x, y: np.maximum(x, y), 2.0, 2.0)
    assert split.jacobian().tolist() == [[0.5, 0.5]]
    assert "half of the derivative" in split.notes[0]


def test_kinks_inside_arrays_are_counted():
    explained = explain(lambda x: np.sum(np.abs(x)), [0.0, 1.0, 0.0])
    assert "a kink in 2 places" in explained.notes[0]
    assert explained.jacobian().tolist() == [[0.0, 1.0, 0.0]]


def test_ties_inside_arrays_are_counted():
    pairs = [[1.0, 1.0], [2.0, 1.0], [3.0, 3.0]]
    explained = explain(lambda x: np.max(x, axis=1), pairs)
    said = "a kink in 2 places; at a tie, all winners get the same part"
    assert said in explained.notes[0]
    assert explained.jacobian()[0].tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert "kink in 1 place;" in explain(lambda x: np.min(x), pairs).notes[0]
    with autodiff.ties("last"):
        explained = explain(lambda x: np.maximum(x, 1.0), [1.0, 2.0])
    assert "a kink in 1 place; the last one takes the derivative" in explained.notes[0]
    assert explain(lambda x: np.max(x), [1.0, 1.0, 2.0]).notes == [
        "complex step: max has no complex derivative."
    ]


def test_differences_call_the_function_itself():
    def f(x):
        return x * x if x < 1 else 2 * x

    explained = explain(f, 0.5, step=0.01)
    np.testing.assert_allclose(explained.jacobian("central difference"), [[1.0]], rtol=1e-9)
    crossing = explain(f, 0.995, step=0.01)
    assert np.isnan(crossing.jacobian("forward difference")).all()
    assert "the function takes another way at a shifted point" in crossing.notes[0]


def test_a_parameter_may_have_the_name_of_an_output():
    explained = explain(lambda f, i1: f * np.exp(i1), 2.0, 1.0)
    assert [node.name for node in explained.graph.nodes] == ["f", "i1", "i1_", "f_"]


@pytest.mark.parametrize(
    ("f", "args", "kind", "said"),
    [
        (3, (1.0,), DTypeError, "f must be a text or a function; got int"),
        (np.exp, ("1",), DTypeError, "x must be a real number or array; got '1'"),
        (np.exp, (1j,), DTypeError, "x must be a real number or array"),
        (np.exp, (float("inf"),), InputError, "x must be finite; got inf"),
        (np.exp, (np.zeros(13),), InputError, "from 1 to 12 inputs"),
        (np.exp, (np.zeros(2000),), InputError, "x must have at most 1000 elements; got 2000"),
        (lambda x: np.log(x), (-1.0,), InputError, r"f = log\(x\) is not finite at this point"),
        (lambda x: np.exp(x) * 2, (1e4,), InputError, r"i1 = exp\(x\) is not finite"),
        (lambda x: np.sqrt(x), (0.0,), InputError, "sqrt has no derivative by x at x = 0"),
        (lambda: 1.0, (), InputError, "from 1 to 12 inputs.*; got 0"),
    ],
)
def test_refused(f, args, kind, said):
    with pytest.raises(kind, match=said):
        explain(f, *args)


def test_values_by_name_are_refused():
    with pytest.raises(ConfigError, match="a function takes its values in order"):
        explain(np.exp, x=1.0)
