"""The formulas of local derivatives: evaluated by the grammar, compared with everything else."""

import numpy as np
import pytest

from chainrule.autodiff.rules import MAXIMUM, MINIMUM, RELU, SIGMOID
from chainrule.autodiff.tracing import UFUNCS
from chainrule.explain import explain
from chainrule.explain.grammar import parse
from chainrule.explain.graph import apply, evaluate
from chainrule.explain.operations import FUNCTIONS, KINKS, OPERATIONS, choose_formulas

ABOVE_ONE = {"arccosh"}
INSIDE = {"arcsin", "arccos", "arctanh"}
SPLIT = {"ties": "split"}


def places(name):
    """Operands at which an operation has derivatives, on all of its branches."""
    if OPERATIONS[name].arity == 2:
        pairs = [(1.3, 0.7), (0.4, 2.2), (2.0, 3.0)]
        return pairs if name == "power" else [*pairs, (-1.5, 0.6), (0.8, -2.5)]
    if name in ABOVE_ONE:
        return [(1.1,), (3.0,)]
    if name in INSIDE:
        return [(-0.7,), (0.1,), (0.9,)]
    positive = [(0.3,), (1.7,)]
    return positive if name.startswith("log") or name == "sqrt" else [*positive, (-0.6,), (-2.1,)]


CASES = [(name, place) for name in OPERATIONS for place in places(name)]


def derivatives(name, place):
    """What the formulas, as texts, evaluate to."""
    values = {**dict(zip("ab", place, strict=False)), "y": float(apply(name, place))}
    return [
        float(evaluate(parse(formula)[0].expression, values))
        for formula in choose_formulas(name, place).formulas
    ]


def ids(case):
    return str(case).replace(" ", "")


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_formulas_agree_with_central_differences(case):
    name, place = case
    h = 1e-6
    for i, derivative in enumerate(derivatives(name, place)):
        up = [value + h * (j == i) for j, value in enumerate(place)]
        down = [value - h * (j == i) for j, value in enumerate(place)]
        difference = (apply(name, up) - apply(name, down)) / (2 * h)
        assert derivative == pytest.approx(float(difference), rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_formulas_agree_with_the_complex_step(case):
    name, place = case
    for i, derivative in enumerate(derivatives(name, place)):
        moved = [complex(value, 1e-20 * (j == i)) for j, value in enumerate(place)]
        step = np.imag(apply(name, moved, exact=False)) / 1e-20
        assert derivative == pytest.approx(float(step), rel=1e-12, abs=1e-14)


def rule_of(name):
    own = {"maximum": MAXIMUM, "minimum": MINIMUM, "relu": RELU, "sigmoid": SIGMOID}
    alias = {"identity": np.positive}
    return own.get(name) or UFUNCS[alias.get(name) or getattr(np, name)]


@pytest.mark.parametrize("case", [c for c in CASES if c[0] != "softplus"], ids=ids)
def test_formulas_agree_with_the_rules_of_autodiff(case):
    name, place = case
    rule = rule_of(name)
    options = SPLIT if name in ("maximum", "minimum") else {}
    out = rule.value(*place, **options)
    assert float(apply(name, place)) == pytest.approx(float(out), rel=1e-14)
    for i, derivative in enumerate(derivatives(name, place)):
        pushed = rule.jvp[i](1.0, out, *place, **options)
        pulled = rule.vjp[i](1.0, out, *place, **options)
        assert derivative == pytest.approx(float(pushed), rel=1e-12, abs=1e-15)
        assert derivative == pytest.approx(float(pulled), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("absolute", (0.0,), [0.0]),
        ("relu", (0.0,), [0.0]),
        ("maximum", (1.5, 1.5), [0.5, 0.5]),
        ("minimum", (1.5, 1.5), [0.5, 0.5]),
    ],
)
def test_kinks_follow_the_conventions_of_autodiff(name, place, expected):
    branch = choose_formulas(name, place)
    assert branch.kink
    assert name in KINKS
    assert derivatives(name, place) == expected
    rule = rule_of(name)
    options = SPLIT if len(place) == 2 else {}
    out = rule.value(*place, **options)
    assert [float(f(1.0, out, *place, **options)) for f in rule.vjp] == expected


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -1, -2, 2.5, -0.5])
def test_powers_with_a_constant_exponent(exponent):
    explained = explain(f"f = x**({exponent})", x=1.7)
    expected = exponent * 1.7 ** (exponent - 1)
    np.testing.assert_allclose(explained.jacobian(), [[expected]], rtol=1e-14)
    np.testing.assert_allclose(explained.jacobian("complex step"), [[expected]], rtol=1e-14)


@pytest.mark.parametrize("base", [-2.0, -0.5])
def test_integer_powers_of_negative_numbers(base):
    explained = explain("f = x**3", x=base)
    np.testing.assert_allclose(explained.jacobian("complex step"), [[3 * base**2]], rtol=1e-14)


def test_zero_to_a_positive_variable_power():
    np.testing.assert_array_equal(explain("x**y", x=0, y=2).jacobian(), [[0.0, 0.0]])


@pytest.mark.parametrize("value", [-800.0, -40.0, 0.0, 40.0, 800.0])
def test_sigmoid_and_softplus_never_overflow(value):
    sigmoid, softplus = float(apply("sigmoid", [value])), float(apply("softplus", [value]))
    assert 0 <= sigmoid <= 1
    assert softplus == pytest.approx(np.logaddexp(0, value), rel=1e-15)


def test_every_operation_can_be_written():
    symbols = {name for name, row in OPERATIONS.items() if row.symbol}
    assert set(FUNCTIONS.values()) | symbols | {"identity"} == set(OPERATIONS)
