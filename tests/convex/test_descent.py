"""Descent does what its formulas say, keeps what it promises, and no more."""

import math

import numpy as np
import pytest

from chainrule.convex import (
    PROBLEMS,
    VARIANTS,
    FunctionProblem,
    gradient_descent,
    load_problem,
    step_size,
)
from chainrule.errors import ConfigError, DivergedError, DTypeError, InputError

variants = pytest.mark.parametrize("variant", VARIANTS)


def rng():
    return np.random.default_rng(7)


@variants
@pytest.mark.parametrize("name", ["bowl", "hinge_petals", "logistic_cancer", "worst_case"])
def test_it_is_the_loop_that_the_course_writes(name, variant):
    problem = load_problem(name)
    descent = gradient_descent(problem, 60, variant=variant, rng=rng())
    drawn = rng().integers(problem.num_terms, size=(60, 1))[:, 0]
    w, path, values = np.zeros(problem.dimension), [], []
    for term in drawn:
        path.append(w)
        values.append(problem.value(w))
        if "stochastic" in variant:
            v = problem.term_subgradient(w, int(term))
        else:
            v = problem.subgradient(w)
        w = w - descent.eta * v
        if "projected" in variant and np.linalg.norm(w) > descent.radius:
            w = w * descent.radius / np.linalg.norm(w)
    np.testing.assert_allclose(descent.path, path, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(descent.values, values, rtol=1e-9)
    np.testing.assert_allclose(descent.last, w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(descent.average, np.mean(path, axis=0), rtol=1e-9, atol=1e-12)
    assert descent.average_values[-1] == pytest.approx(problem.value(np.mean(path, axis=0)))
    assert descent.gap == pytest.approx(descent.average_values[-1] - problem.minimum.value)
    np.testing.assert_array_equal(descent.times, np.arange(1, 61))


def test_the_step_size_makes_the_bound_smallest():
    descent = gradient_descent(load_problem("line"), 49)
    assert descent.eta == step_size(descent.radius, descent.rho, 49)
    assert descent.bound == pytest.approx(descent.radius * descent.rho / 7)
    for factor in (0.5, 0.9, 1.1, 2.0):
        other = gradient_descent(load_problem("line"), 49, eta=factor * descent.eta)
        assert other.bound > descent.bound
    assert descent.bounds()[0] == pytest.approx(
        descent.radius**2 / (2 * descent.eta) + descent.eta * descent.rho**2 / 2
    )


@variants
def test_long_runs_keep_few_points(variant):
    problem = load_problem("bowl")
    short = gradient_descent(problem, 5000, variant=variant, rng=rng(), keep=40)
    long = gradient_descent(problem, 5000, variant=variant, rng=rng(), keep=5000)
    assert len(short.times) <= 40
    assert len(long.times) == 5000
    assert (short.times[0], short.times[-1]) == (1, 5000)
    assert (np.diff(short.times) > 0).all()
    np.testing.assert_array_equal(short.path, long.path[short.times - 1])
    np.testing.assert_array_equal(short.averages, long.averages[short.times - 1])
    np.testing.assert_array_equal(short.last, long.last)


@pytest.mark.parametrize("name", ["hinge_cancer", "bowl", "geometric_median"])
def test_projected_points_stay_in_the_ball(name):
    problem = load_problem(name)
    radius = 0.3
    descent = gradient_descent(problem, 200, variant="projected", radius=radius, eta=0.2)
    norms = np.linalg.norm(descent.path, axis=1)
    assert norms.max() <= radius * (1 + 1e-12)
    assert norms.max() == pytest.approx(radius)
    assert np.linalg.norm(descent.last) <= radius * (1 + 1e-12)


def test_projected_descent_finds_the_best_point_of_a_smaller_ball():
    """The theorem holds against any point of the ball, the best of a ball without w* among them."""
    problem = load_problem("bowl")
    descent = gradient_descent(problem, 4000, variant="projected", radius=1.0)
    angle = np.linspace(0, 2 * np.pi, 10_001)
    rim = np.column_stack([np.cos(angle), np.sin(angle)])
    best = problem.evaluate(rim)[0].min()
    assert best - 1e-6 <= descent.average_values[-1] <= best + descent.bound


def test_stochastic_runs_repeat_with_their_seed_and_differ_between_seeds():
    problem = load_problem("hinge_iris")

    def last(seed):
        source = np.random.default_rng(seed)
        return gradient_descent(problem, 5000, variant="stochastic", rng=source).last

    np.testing.assert_array_equal(last(0), last(0))
    assert not np.array_equal(last(0), last(1))


def test_stochastic_descent_of_one_term_is_full_descent():
    problem = load_problem("kink")
    full = gradient_descent(problem, 100)
    drawn = gradient_descent(problem, 100, variant="stochastic", rng=rng())
    np.testing.assert_array_equal(full.path, drawn.path)


@pytest.mark.parametrize("name", PROBLEMS)
def test_descent_comes_close(name):
    problem = load_problem(name)
    start = problem.value(np.zeros(problem.dimension)) - problem.minimum.value
    descent = gradient_descent(problem, 3000)
    assert descent.gap <= 0.25 * start + 1e-12


def test_one_step():
    problem = load_problem("line")
    descent = gradient_descent(problem, 1)
    np.testing.assert_array_equal(descent.average, [0.0, 0.0])
    np.testing.assert_allclose(descent.last, -descent.eta * problem.subgradient([0.0, 0.0]))
    assert descent.bound == pytest.approx(descent.radius * descent.rho)


def test_divergence_is_said():
    with pytest.raises(DivergedError, match=r"w must stay finite; got NaN or infinity at step \d+"):
        gradient_descent(load_problem("bowl"), 1000, eta=10.0)
    wild = FunctionProblem("wild", lambda w: 0.0, lambda w: 1e300 * (w + 1), [1.0], 1.0)
    with pytest.raises(DivergedError, match=r"on wild\. The step size 10 is too large"):
        gradient_descent(wild, 10, eta=10.0)


def test_refusals():
    problem = load_problem("bowl")
    with pytest.raises(ConfigError, match=r"got 'stochastc'. Did you mean 'stochastic'\?"):
        gradient_descent(problem, 10, variant="stochastc")
    with pytest.raises(InputError, match="rng must be given for stochastic variants; got None"):
        gradient_descent(problem, 10, variant="stochastic")
    with pytest.raises(InputError, match="steps must be 1 or more; got 0"):
        gradient_descent(problem, 0)
    with pytest.raises(DTypeError, match=r"steps must be a whole number; got 1\.5"):
        gradient_descent(problem, 1.5)
    for name in ("eta", "radius", "rho"):
        with pytest.raises(InputError, match=f"{name} must be positive and finite; got -1"):
            gradient_descent(problem, 10, **{name: -1})
    with pytest.raises(InputError, match="keep must be 2 or more; got 1"):
        gradient_descent(problem, 10, keep=1)
    with pytest.raises(InputError, match="rho must be positive and finite; got inf"):
        step_size(1.0, math.inf, 1)
