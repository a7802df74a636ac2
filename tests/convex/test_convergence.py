"""The theorem holds on every problem; where what it assumes does not hold, the record says so."""

import dataclasses
import math

import numpy as np
import pytest

from chainrule.convex import (
    PROBLEMS,
    VARIANTS,
    FunctionProblem,
    LargestDeviation,
    convergence,
    gradient_descent,
    load_problem,
    regret_bound,
)
from chainrule.errors import ConfigError, DTypeError, InputError

problems = pytest.mark.parametrize("name", PROBLEMS)
variants = pytest.mark.parametrize("variant", VARIANTS)


def rng():
    return np.random.default_rng(0)


def broken(study):
    return [assumption.name for assumption in study.assumptions if not assumption.holds]


@problems
@variants
def test_the_theorem_and_each_link_of_its_proof(name, variant):
    problem = load_problem(name)
    study = convergence(problem, (1, 10, 100, 1000), variant=variant, rng=rng())
    assert study.holds
    assert study.assumed, broken(study)
    assert [point.steps for point in study.points] == [1, 10, 100, 1000]
    for point in study.points:
        assert point.bound == pytest.approx(study.radius * study.rho / math.sqrt(point.steps))
        assert -study.f_star_gap - 1e-12 <= point.gap <= point.bound * (1 + 1e-12)
        if "stochastic" not in variant:
            assert point.gap <= point.mean_excess + 1e-12
        assert point.mean_excess <= point.mean_inner + 1e-9
        assert point.mean_inner <= point.regret + 1e-9
        assert point.regret <= point.bound + 1e-9
        assert point.largest_gradient <= study.rho * (1 + 1e-9)
    if "projected" in variant:
        assert all(p.largest_norm <= study.radius * (1 + 1e-12) for p in study.points)


@pytest.mark.parametrize("name", ["bowl", "geometric_median", "hinge_iris", "two_terms"])
def test_jensens_inequality_holds_for_the_means_of_many_stochastic_runs(name):
    study = convergence(load_problem(name), 60, variant="stochastic", runs=3000, rng=rng())
    (point,) = study.points
    assert point.gap <= point.mean_excess


@pytest.mark.parametrize("name", ["hinge_petals", "logistic_cancer"])
def test_what_is_measured_on_the_way(name):
    problem = load_problem(name)
    (point,) = convergence(problem, 150).points
    path = gradient_descent(problem, 150).path
    values, slopes = problem.evaluate(path)
    star = problem.minimum.w
    assert point.largest_norm == pytest.approx(np.linalg.norm(path, axis=1).max())
    assert point.largest_gradient == pytest.approx(np.linalg.norm(slopes, axis=1).max())
    assert point.mean_excess == pytest.approx((values - problem.minimum.value).mean())
    assert point.mean_inner == pytest.approx(((path - star) * slopes).sum(axis=1).mean())
    bound = regret_bound(slopes, star, point.eta)
    assert point.regret == pytest.approx(bound.right / 150)


def test_a_longer_run():
    study = convergence(load_problem("hinge_iris"), 20_000)
    assert study.holds
    assert study.points[0].gap < 0.02


def test_the_bound_is_attained():
    """No smaller bound is true for all convex functions: these attain it to the last digit."""
    study = convergence(load_problem("worst_case"), 100)
    assert study.points[0].gap == pytest.approx(study.points[0].bound, rel=1e-12)
    assert study.verdict == "the bound holds, and f(wbar) - f(w*) attains it"
    for steps in (1, 4, 25):
        problem = LargestDeviation("mine", np.full(steps, 3.0))
        radius = float(np.linalg.norm(problem.centre))
        (point,) = convergence(problem, steps, radius=radius).points
        assert point.gap == pytest.approx(3.0)
        assert point.bound == pytest.approx(3.0)
    (point,) = convergence(load_problem("kink"), 100, eta=0.01).points
    assert point.gap == pytest.approx(point.bound, rel=1e-12)


def test_each_number_of_steps_is_a_run_of_its_own():
    problem = load_problem("line")
    together = convergence(problem, [50, 10])
    assert [point.steps for point in together.points] == [10, 50]
    for point in together.points:
        assert convergence(problem, point.steps).points == (point,)


def test_curves_belong_to_the_longest_run():
    study = convergence(load_problem("line"), [10, 5000])
    assert len(study.times) == len(study.gaps) == len(study.bounds) <= 200
    assert study.times[-1] == 5000
    assert study.gaps[-1] == study.points[-1].gap
    assert study.bounds[-1] == pytest.approx(study.points[-1].bound)
    assert (study.gaps <= study.bounds).all()


def test_means_over_runs_come_with_their_standard_error():
    problem = load_problem("hinge_iris")
    few = convergence(problem, 100, variant="stochastic", runs=8, rng=rng())
    many = convergence(problem, 100, variant="stochastic", runs=512, rng=rng())
    # 64 times as many runs, so about an eighth of the error
    assert few.points[0].standard_error > 4 * many.points[0].standard_error > 0
    difference = abs(few.points[0].gap - many.points[0].gap)
    assert difference < 4 * few.points[0].standard_error
    assert convergence(problem, 100).points[0].standard_error == 0


def test_another_step_size_has_another_bound():
    study = convergence(load_problem("line"), [10, 100], eta=0.02)
    for point in study.points:
        expected = study.radius**2 / (0.04 * point.steps) + 0.01 * study.rho**2
        assert point.bound == pytest.approx(expected)
        assert point.holds


class TestViolations:
    """Each assumption is checked by what was measured; the theorem then promises nothing."""

    def test_rho_too_small(self):
        study = convergence(load_problem("line"), 100, rho=0.05)
        assert broken(study) == ["|v_t| <= rho"]
        assert not study.assumed
        assert study.verdict.startswith('the theorem promises nothing here, as "|v_t| <= rho" did')
        assert "NO   |v_t| <= rho" in str(study)

    def test_rho_too_small_and_the_bound_fails(self):
        study = convergence(load_problem("bowl"), 10, rho=0.5)
        assert not study.holds
        assert study.verdict.endswith("its bound fails")

    def test_ball_too_small(self):
        study = convergence(load_problem("line"), 100, radius=0.1)
        assert broken(study) == ["|w*| <= B"]
        assert not study.holds

    def test_step_too_large_for_rho_to_be_proved(self):
        study = convergence(load_problem("bowl"), 5, eta=1.0)
        assert set(broken(study)) == {"|v_t| <= rho", "eta <= eta_max"}

    def test_not_convex(self):
        bumpy = FunctionProblem(
            "bumpy",
            lambda w: float(1 - math.cos(3 * w[0] - 3)) + 0.1 * abs(w[0] - 1),
            lambda w: 3 * np.sin(3 * w - 3) + 0.1 * np.sign(w - 1),
            [1.0],
            rho=3.1,
            radius=1.0,
        )
        study = convergence(bumpy, (10, 100))
        assert broken(study) == ["f is convex"]

    def test_not_convex_and_the_bound_fails(self):
        """From 0 the slope leads to a worse minimum than the one at 4."""
        double = FunctionProblem(
            "two valleys",
            lambda w: float(min(abs(w[0] + 1) + 1, abs(w[0] - 4))),
            lambda w: np.sign(w + 1) if abs(w[0] + 1) + 1 < abs(w[0] - 4) else np.sign(w - 4),
            [4.0],
            rho=1.0,
        )
        study = convergence(double, 10_000)
        assert broken(study) == ["f is convex"]
        assert not study.holds
        assert study.verdict.endswith('"f is convex" did not hold; its bound fails')

    def test_a_term_that_is_not_convex(self):
        """Their mean may be; what is drawn is what counts."""

        class Odd(FunctionProblem):
            def __init__(self):
                super().__init__("odd", lambda w: 0.0, lambda w: w, [1.0], 30.0)
                self.num_terms = 2

            def evaluate(self, w, terms=None):
                square, slope = ((w - 1) ** 2).sum(axis=1), 2 * (w - 1)
                if terms is None:
                    return square, slope
                sign = np.where(terms == 0, 3.0, -1.0)
                return sign * square, sign[:, None] * slope

        study = convergence(Odd(), 20, variant="stochastic", rng=rng())
        assert broken(study) == ["f_t is convex"]

    def test_the_wrong_minimiser(self):
        wrong = FunctionProblem(
            "wrong", lambda w: abs(w[0] - 1), lambda w: np.sign(w - 1), [0.5], 1
        )
        assert "w* minimises f" in broken(convergence(wrong, 100, radius=1.0))

    def test_the_wrong_gradient(self):
        """A gradient of another function breaks the inequality that convexity gives."""
        wrong = FunctionProblem(
            "wrong", lambda w: abs(w[0] - 1), lambda w: np.sign(w + 1), [1.0], 1
        )
        assert "f is convex" in broken(convergence(wrong, 100))

    def test_a_bound_that_fails_all_the_same_is_said_loudly(self):
        study = convergence(load_problem("line"), 10)
        wrong = dataclasses.replace(study.points[0], gap=2 * study.points[0].bound)
        study = dataclasses.replace(study, points=(wrong,))
        assert study.verdict.startswith("the bound FAILS although all that it assumes holds")


def test_from_when_on_the_bound_says_something():
    study = convergence(load_problem("hinge_cancer"), 10)
    start, least = study.f_zero - study.f_star, study.informative_from
    assert study.radius * study.rho / math.sqrt(least) < start
    assert study.radius * study.rho / math.sqrt(least - 1) >= start
    assert convergence(load_problem("two_terms"), 10).informative_from is None


def test_text_and_rows():
    study = convergence(load_problem("hinge_cancer"), (10, 1000))
    text = str(study)
    assert "31 dimensions, 569 terms" in text
    assert "1,000" in text
    assert text.endswith(".")
    rows = study.rows()
    assert [row["steps"] for row in rows] == [10, 1000]
    assert all(row["holds"] for row in rows)
    assert rows[0]["bound"] == study.points[0].bound
    drawn = str(convergence(load_problem("two_terms"), 10, variant="stochastic", rng=rng()))
    assert "1 dimension, 2 terms" in drawn
    assert "stochastic, 20 runs" in drawn
    assert "+-" in drawn


def test_refusals():
    problem = load_problem("bowl")
    with pytest.raises(InputError, match="convergence: steps must hold a number of steps; got no"):
        convergence(problem, [])
    with pytest.raises(InputError, match="steps must be 1 or more; got 0"):
        convergence(problem, [10, 0])
    with pytest.raises(DTypeError, match="steps must be a whole number; got '10'"):
        convergence(problem, ["10"])
    with pytest.raises(InputError, match="runs must be 2 or more; got 1"):
        convergence(problem, 10, variant="stochastic", runs=1, rng=rng())
    with pytest.raises(InputError, match="convergence: rng must be given"):
        convergence(problem, 10, variant="projected_stochastic")
    with pytest.raises(ConfigError, match="variant must be one of full, projected"):
        convergence(problem, 10, variant="momentum")
