"""The minimum of the model is the gradient step, whoever looks for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize

from chainrule.convex import PROBLEMS, load_problem, proximal_step
from chainrule.errors import InputError, ShapeError

NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)


@st.composite
def places(draw):
    dimension = draw(st.integers(1, 6))
    vectors = hnp.arrays(np.float64, dimension, elements=NUMBERS)
    return draw(vectors), draw(vectors), draw(st.floats(1e-3, 1e3))


@given(places())
def test_three_ways_agree(case):
    w, gradient, lam = case
    step = proximal_step(w, gradient, lam)
    scale = 1 + np.abs(w).max() + np.abs(gradient).max() / lam
    assert step.difference <= 1e-8 * scale
    assert step.eta == 1 / lam


def test_the_courses_lambda():
    step = proximal_step([0.0], [6.0], 3.0)
    assert step.eta == 1 / 3
    assert step.closed_form == pytest.approx([-2.0])
    assert step.gradient_step == pytest.approx([-2.0])
    assert step.minimised == pytest.approx([-2.0], abs=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_on_every_problem(name):
    problem = load_problem(name)
    w = np.random.default_rng(0).normal(size=problem.dimension)
    step = proximal_step(w, problem.subgradient(w), 3.0, problem.value(w))
    assert step.difference <= 1e-9
    assert abs(step.excess) <= 1e-12
    assert step.model(w) == problem.value(w)


@given(places(), st.integers(0, 2**32 - 1))
def test_completing_the_square(case, seed):
    """The model at u is lambda/2 |u - w'|^2 above its minimum: w' is the minimum, and the only."""
    w, gradient, lam = case
    step = proximal_step(w, gradient, lam, value=2.0)
    u = w + np.random.default_rng(seed).normal(size=w.shape)
    above = lam / 2 * ((u - step.closed_form) ** 2).sum()
    scale = abs(step.model(u)) + abs(step.model(step.closed_form)) + above
    assert step.model(u) - step.model(step.closed_form) == pytest.approx(above, abs=1e-9 * scale)


def test_a_minimiser_without_derivatives_agrees():
    step = proximal_step([1.0, -2.0], [0.5, 4.0], 2.0, value=7.0)
    found = minimize(step.model, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9})
    np.testing.assert_allclose(found.x, step.closed_form, atol=1e-5)


def test_the_minimiser_is_not_told_the_answer():
    """It takes steps, and moves with what it is given."""
    first = proximal_step([0.0, 0.0], [1.0, 2.0], 4.0)
    assert first.iterations >= 1
    assert first.minimised is not first.closed_form
    np.testing.assert_allclose(first.minimised, [-0.25, -0.5], atol=1e-12)


def test_text_and_rows():
    step = proximal_step([1.0, 2.0], [3.0, 6.0], 3.0)
    assert [row["closed_form"] for row in step.rows()] == [0.0, 0.0]
    assert "0.3333 = 1/lambda" in str(step)
    assert len(str(step).splitlines()) == 3 + 1 + 6


def test_refusals():
    with pytest.raises(ShapeError, match=r"gradient must have shape \(2,\); got \(1,\)"):
        proximal_step([0.0, 0.0], [1.0], 1.0)
    with pytest.raises(InputError, match="lam must be positive and finite; got -1"):
        proximal_step([0.0], [1.0], -1)
    with pytest.raises(InputError, match="value must be finite; got nan"):
        proximal_step([0.0], [1.0], 1.0, float("nan"))
    with pytest.raises(ShapeError, match=r"u must have shape \(1,\)"):
        proximal_step([0.0], [1.0], 1.0).model([1.0, 2.0])
