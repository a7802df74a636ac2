"""The sweeps of the graph against independent routes, on random expressions."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from chainrule import autodiff
from chainrule.errors import InputError
from chainrule.explain import explain
from chainrule.explain.grammar import names_in, parse

HELP = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "expressions.py")))

NUMPY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "negative": lambda a: -a,
    **{name: getattr(np, name) for name in ("square", "sqrt", "exp", "expm1", "log", "log1p")},
    **{name: getattr(np, name) for name in ("log2", "log10", "sin", "cos", "tan", "sinh", "cosh")},
    **{name: getattr(np, name) for name in ("tanh", "arcsin", "arccos", "arctan", "arcsinh")},
    **{name: getattr(np, name) for name in ("arccosh", "arctanh", "absolute", "maximum")},
    "minimum": np.minimum,
    "sigmoid": expit,
    "softplus": lambda a: np.logaddexp(a, 0.0),
    "relu": lambda a: a * (autodiff.stop_gradient(a) > 0),
}

POINT = st.floats(0.2, 2.5).map(lambda number: round(number, 3))
RANDOM = given(text=HELP.texts(), x=POINT, y=POINT, z=POINT)
PATIENT = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def explained_or_not(text, x, y, z):
    """The expression explained, its tree and its point; assumes that it has derivatives here."""
    expression = parse(text)[0].expression
    used = {name.name for name in names_in(expression)}
    assume(used)
    point = {name: value for name, value in {"x": x, "y": y, "z": z}.items() if name in used}
    try:
        explained = explain(text, point)
    except InputError:
        assume(False)
    return explained, expression, point


def scale(explained):
    """The largest number on the way, which decides how exact a result can be."""
    sweeps = [s.tangents for s in explained.forward] + [s.adjoints for s in explained.reverse]
    values = [node.value for node in explained.graph.nodes]
    return max(1.0, *(float(np.max(np.abs(each))) for each in (*sweeps, values)))


def agree(explained, found, expected):
    largest = scale(explained)
    assume(largest < 1e6)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * largest)


@PATIENT
@RANDOM
def test_forward_mode_agrees_with_reverse_mode(text, x, y, z):
    explained, _, _ = explained_or_not(text, x, y, z)
    agree(explained, explained.jacobian("forward mode"), explained.jacobian())


@PATIENT
@RANDOM
def test_autodiff_agrees(text, x, y, z):
    explained, expression, point = explained_or_not(text, x, y, z)

    def f(*values):
        named = dict(zip(point, values, strict=True))
        return HELP.interpret(expression, NUMPY, named) + 0.0 * values[0]

    values = list(point.values())
    with np.errstate(all="ignore"):
        gradient = autodiff.grad(f, argnums=tuple(range(len(values))))(*values)
        seeds = np.eye(len(values))
        tangents = [autodiff.jvp(f, tuple(values), tuple(seed))[1] for seed in seeds]
    assume(np.all(np.isfinite(gradient)))
    agree(explained, explained.jacobian()[0], np.array(gradient))
    agree(explained, explained.jacobian("forward mode")[0], np.array(tangents))


@PATIENT
@RANDOM
def test_the_complex_step_agrees_away_from_kinks(text, x, y, z):
    explained, _, _ = explained_or_not(text, x, y, z)
    assume(not any(node.kink for node in explained.graph.nodes))
    agree(explained, explained.jacobian("complex step"), explained.jacobian())


@PATIENT
@RANDOM
def test_pytorch_agrees(text, x, y, z):
    torch = pytest.importorskip("torch")
    explained, expression, point = explained_or_not(text, x, y, z)
    functions = {
        **{name: NUMPY[name] for name in ("add", "subtract", "multiply", "divide", "negative")},
        "power": lambda a, b: torch.pow(torch.as_tensor(a), torch.as_tensor(b)),
        **{name: getattr(torch, name) for name in ("square", "sqrt", "exp", "expm1", "log")},
        **{name: getattr(torch, name) for name in ("log1p", "log2", "log10", "sin", "cos", "tan")},
        **{name: getattr(torch, name) for name in ("sinh", "cosh", "tanh", "arcsin", "arccos")},
        **{name: getattr(torch, name) for name in ("arctan", "arcsinh", "arccosh", "arctanh")},
        **{name: getattr(torch, name) for name in ("absolute", "sigmoid", "relu")},
        "softplus": lambda a: torch.logaddexp(a, torch.zeros((), dtype=torch.float64)),
        "maximum": torch.maximum,
        "minimum": torch.minimum,
    }
    functions = {
        name: lambda *args, function=function: function(
            *(torch.as_tensor(each, dtype=torch.float64) for each in args)
        )
        for name, function in functions.items()
    }
    leaves = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in point.items()
    }
    result = HELP.interpret(expression, functions, leaves)
    gradient = torch.autograd.grad(result, list(leaves.values()), allow_unused=True)
    expected = [0.0 if each is None else float(each) for each in gradient]
    assume(np.all(np.isfinite(expected)))
    agree(explained, explained.jacobian()[0], expected)


@PATIENT
@RANDOM
def test_the_graph_of_the_traced_function_agrees(text, x, y, z):
    explained, expression, point = explained_or_not(text, x, y, z)

    def f(*values):
        return HELP.interpret(expression, NUMPY, dict(zip(point, values, strict=True)))

    try:
        traced = explain(f, *point.values())
    except InputError:
        assume(False)
    for method in ("forward mode", "reverse mode"):
        agree(explained, traced.jacobian(method), explained.jacobian())


@settings(max_examples=40, deadline=None)
@RANDOM
def test_central_differences_come_near(text, x, y, z):
    explained, _, _ = explained_or_not(text, x, y, z)
    assume(not any(node.note for node in explained.graph.nodes))
    assume(scale(explained) < 50)
    smooth = [curve for curve in explained.curves if curve.name == "central difference"]
    errors = [error for error in smooth[0].errors if error is not None]
    assume(errors)
    assert min(errors) < 1e-4
