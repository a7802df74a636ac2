"""What every problem promises, checked for each of them; and that the certificates are true."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, QuantileRegressor
from sklearn.svm import LinearSVC

from chainrule.convex import (
    PROBLEMS,
    FunctionProblem,
    GeometricMedian,
    LargestDeviation,
    LinearModel,
    QuadraticBowl,
    load_problem,
)
from chainrule.convex.losses import LOSSES, sigmoid
from chainrule.convex.problems import round_up
from chainrule.errors import ConfigError, DTypeError, InputError, ShapeError
from chainrule.gradcheck import numeric_gradient

problems = pytest.mark.parametrize("name", PROBLEMS)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([1e-3, 0.3, 1.0, 10.0, 1e3])


def point(problem, seed, size=1.0):
    rng = np.random.default_rng(seed)
    return size * rng.normal(size=problem.dimension) / math.sqrt(problem.dimension)


@problems
@given(here=SEEDS, there=SEEDS, size=SIZES, other=SIZES)
def test_subgradients_lie_below(name, here, there, size, other):
    """f(u) >= f(w) + <g, u - w>, for f and for a term; this is what convex means."""
    problem = load_problem(name)
    w, u = point(problem, here, size), point(problem, there, other)
    term = here % problem.num_terms
    for value, subgradient in (
        (problem.value, problem.subgradient),
        (
            lambda w: problem.term_value(w, term),
            lambda w: problem.term_subgradient(w, term),
        ),
    ):
        slope = subgradient(w)
        scale = abs(value(u)) + abs(value(w)) + np.abs(slope) @ (np.abs(u) + np.abs(w))
        assert value(u) >= value(w) + slope @ (u - w) - 1e-12 * scale


@problems
def test_subgradients_lie_below_at_kinks(name):
    """Also at the minimiser, at 0 and, for distances, at the points themselves."""
    problem = load_problem(name)
    places = [problem.minimum.w, np.zeros(problem.dimension)]
    places += list(getattr(problem, "points", []))
    for place in places:
        slope, value = problem.subgradient(place), problem.value(place)
        for seed in range(50):
            u = place + point(problem, seed, 0.5)
            assert problem.value(u) >= value + slope @ (u - place) - 1e-12 * max(1, abs(value))


@problems
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
def test_a_drawn_term_is_unbiased(name, size):
    """The mean over all terms, each as probable as any other, is the subgradient of f."""
    problem = load_problem(name)
    w = point(problem, 0, size)
    terms = np.arange(problem.num_terms)
    values, subgradients = problem.evaluate(np.tile(w, (len(terms), 1)), terms)
    np.testing.assert_allclose(subgradients.mean(axis=0), problem.subgradient(w), atol=1e-13)
    assert values.mean() == pytest.approx(problem.value(w), rel=1e-13)


@problems
def test_stochastic_subgradients_are_those_of_terms_equally_often(name):
    problem = load_problem(name)
    w = point(problem, 1)
    drawn, rng = problem.stochastic_subgradient(w, np.random.default_rng(5)), None
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(
        drawn, problem.term_subgradient(w, int(rng.integers(problem.num_terms)))
    )


@problems
def test_gradients_where_there_is_no_kink(name):
    problem = load_problem(name)
    for seed in range(3):
        w = point(problem, seed, 0.7)
        numeric = numeric_gradient(problem.value, w)
        np.testing.assert_allclose(problem.subgradient(w), numeric, rtol=1e-6, atol=1e-8)


@problems
def test_many_points_at_once_are_each_point_alone(name):
    problem = load_problem(name)
    w = np.stack([point(problem, seed) for seed in range(4)])
    terms = np.random.default_rng(0).integers(problem.num_terms, size=4)
    values, subgradients = problem.evaluate(w)
    for row, value, subgradient in zip(w, values, subgradients, strict=True):
        assert problem.value(row) == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(problem.subgradient(row), subgradient, rtol=1e-12, atol=1e-15)
    values, subgradients = problem.evaluate(w, terms)
    for row, term, value, slope in zip(w, terms, values, subgradients, strict=True):
        assert problem.term_value(row, int(term)) == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(problem.term_subgradient(row, int(term)), slope, rtol=1e-12)


@problems
@pytest.mark.parametrize("stochastic", [False, True], ids=["full", "stochastic"])
@pytest.mark.parametrize("projected", [False, True], ids=["free", "projected"])
def test_rho_bounds_every_subgradient_on_the_worst_paths(name, stochastic, projected):
    """Long paths of large, adversarial steps: the term of the longest subgradient, each time."""
    problem = load_problem(name)
    radius = problem.radius if projected else math.inf
    rho = problem.gradient_bound(stochastic, radius)
    eta = min(problem.largest_eta(stochastic), 10 * problem.radius / rho)
    w = np.zeros(problem.dimension)
    terms = np.arange(problem.num_terms)
    for _ in range(60):
        if stochastic:
            _, slopes = problem.evaluate(np.tile(w, (len(terms), 1)), terms)
            v = slopes[np.linalg.norm(slopes, axis=1).argmax()]
        else:
            v = problem.subgradient(w)
        assert np.linalg.norm(v) <= rho * (1 + 1e-12)
        w = w - eta * v
        if projected:
            w *= min(1.0, radius / max(np.linalg.norm(w), 1e-300))


@problems
def test_rho_is_no_larger_than_it_has_to_be(name):
    """Within a factor of what can be met, so that the bound means something."""
    problem = load_problem(name)
    steepest = np.linalg.norm(problem.subgradient(np.zeros(problem.dimension)))
    seen = max(
        np.linalg.norm(problem.subgradient(point(problem, seed, problem.radius)))
        for seed in range(30)
    )
    assert problem.gradient_bound() <= 12 * max(seen, steepest)


@problems
def test_the_minimum_is_certified(name):
    problem = load_problem(name)
    minimum = problem.minimum
    assert minimum.value == problem.value(minimum.w)
    assert 0 <= minimum.gap <= 1e-13
    assert minimum.lower == pytest.approx(minimum.value, abs=1e-13)
    assert np.linalg.norm(minimum.w) <= problem.radius <= 1.1 * max(np.linalg.norm(minimum.w), 1)
    for seed in range(100):
        for size in (1e-4, 1e-2, 1.0):
            nearby = minimum.w + point(problem, seed, size)
            assert problem.value(nearby) >= minimum.lower - 1e-14


@problems
def test_another_solver_finds_the_same_minimum(name):
    """None of these is the solver that the problem used."""
    problem = load_problem(name)
    kind = problem.loss if isinstance(problem, LinearModel) else None
    if kind is LOSSES["hinge"] and problem.l2:
        regularisation = 1 / (problem.num_terms * problem.l2)
        svm = LinearSVC(
            loss="hinge",
            C=regularisation,
            fit_intercept=False,
            tol=1e-9,
            max_iter=200_000,
            random_state=0,
        )
        found = problem.value(svm.fit(problem.x, problem.y).coef_[0])
    elif kind is LOSSES["absolute"]:
        line = QuantileRegressor(quantile=0.5, alpha=0.0, fit_intercept=False, solver="highs-ipm")
        found = problem.value(line.fit(problem.x, problem.y).coef_)
    elif kind is LOSSES["logistic"]:
        start = np.zeros(problem.dimension)
        found = minimize(
            problem.value,
            start,
            jac=problem.subgradient,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000},
        ).fun
    else:
        options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
        start = problem.minimum.w + point(problem, 3, 1e-3)
        found = minimize(problem.value, start, method="Nelder-Mead", options=options).fun
    loose = 1e-2 if problem.dimension == 100 else 1e-6  # a simplex in 100 dimensions crawls
    assert problem.minimum.value - 1e-13 <= found <= problem.minimum.value + loose


def test_logistic_regression_is_scikit_learns():
    problem = load_problem("logistic_cancer")
    model = LogisticRegression(
        C=1 / (problem.num_terms * problem.l2), fit_intercept=False, tol=1e-12, max_iter=10_000
    )
    w = model.fit(problem.x, problem.y).coef_[0]
    np.testing.assert_allclose(problem.minimum.w, w, atol=1e-4)


class TestLosses:
    kinds = pytest.mark.parametrize("name", LOSSES)
    numbers = st.floats(-50, 50)

    @staticmethod
    def truth(name, number):
        return np.array([np.sign(number) or 1.0 if LOSSES[name].labels else number])

    @kinds
    @given(z=numbers, slope=st.floats(-1, 1), y=numbers)
    def test_fenchel_young(self, name, z, slope, y):
        """loss(z) + conjugate(s) >= s z for all slopes: what makes lower bounds true."""
        loss, truth = LOSSES[name], self.truth(name, y)
        s = loss.clip(np.array([slope]), truth)
        value, _ = loss.evaluate(np.array([z]), truth)
        assert value[0] + loss.conjugate(s, truth)[0] >= s[0] * z - 1e-12 * (1 + abs(y) + abs(z))

    @kinds
    @given(z=numbers, y=numbers)
    def test_fenchel_young_is_tight_at_the_slope(self, name, z, y):
        loss, truth = LOSSES[name], self.truth(name, y)
        value, slope = loss.evaluate(np.array([z]), truth)
        np.testing.assert_array_equal(loss.clip(slope, truth), slope)
        assert abs(slope[0]) <= 1
        total = value[0] + loss.conjugate(slope, truth)[0]
        assert total == pytest.approx(slope[0] * z, abs=1e-12 * (1 + abs(y) + abs(z)))

    @pytest.mark.parametrize(
        ("name", "z", "y"), [("hinge", 1.0, 1.0), ("hinge", -1.0, -1.0), ("absolute", 2.5, 2.5)]
    )
    def test_the_slope_at_a_kink_is_zero(self, name, z, y):
        value, slope = LOSSES[name].evaluate(np.array([z]), np.array([y]))
        assert (value[0], slope[0]) == (0.0, 0.0)

    def test_tails_keep_their_digits(self):
        z = np.array([-745.0, -40.0, 0.0, 40.0, 745.0])
        np.testing.assert_allclose(sigmoid(z[:2]), np.exp(z[:2]), rtol=1e-12)
        values, slopes = LOSSES["logistic"].evaluate(z, np.ones(5))
        np.testing.assert_allclose(values[3:], np.exp(-z[3:]), rtol=1e-12)
        np.testing.assert_allclose(slopes[3:], -np.exp(-z[3:]), rtol=1e-12)
        np.testing.assert_allclose(values[:2], -z[:2], rtol=1e-15)


class TestLinearModel:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    y = np.where(rng.random(30) < 0.5, 1.0, -1.0)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("l2", [0.0, 1e-3, 0.1, 10.0])
    def test_every_loss_and_penalty_has_a_certified_minimum(self, loss, l2):
        problem = LinearModel("mine", loss, self.x, self.y, l2)
        assert problem.minimum.gap <= 1e-12

    @given(seed=SEEDS, at=SEEDS)
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("l2", [0.0, 0.1])
    def test_any_slopes_bound_f_from_below(self, loss, l2, seed, at):
        problem = LinearModel("mine", loss, self.x, self.y, l2)
        w = point(problem, at, 2.0)
        slopes = np.random.default_rng(seed).uniform(-1.5, 1.5, 30)
        assert problem.lower_bound(slopes, float(np.linalg.norm(w))) <= problem.value(w) + 1e-12

    def test_a_solver_that_stops_early_shows_as_a_gap(self):
        problem = LinearModel("mine", "logistic", self.x, self.y)
        w = problem.minimum.w + 0.1
        _, slopes = problem.loss.evaluate(problem.x @ w, problem.y)
        assert problem.value(w) - problem.lower_bound(slopes, 5.0) > 1e-3

    @pytest.mark.parametrize("loss", ["hinge", "logistic"])
    def test_classes_that_a_plane_separates(self, loss):
        problem = LinearModel("apart", loss, self.x, np.where(self.x[:, 0] > 0, 1.0, -1.0))
        if loss == "logistic":
            with pytest.raises(InputError, match="apart: l2 must be positive where a plane sep"):
                _ = problem.minimum
        else:
            assert problem.minimum.value == pytest.approx(0, abs=1e-12)

    def test_refusals(self):
        with pytest.raises(
            ConfigError, match=r"loss must be the name of a loss; got 'hinged'. Did"
        ):
            LinearModel("mine", "hinged", self.x, self.y)
        with pytest.raises(InputError, match="y must be -1 or 1 for hinge"):
            LinearModel("mine", "hinge", self.x, np.arange(30))
        with pytest.raises(ShapeError, match=r"y must have shape \(30,\); got \(29,\)"):
            LinearModel("mine", "hinge", self.x, self.y[1:])
        with pytest.raises(ShapeError, match=r"x must have shape \(N, D\); got \(30,\)"):
            LinearModel("mine", "hinge", self.y, self.y)
        with pytest.raises(InputError, match="x must be finite; got NaN or infinity"):
            LinearModel("mine", "hinge", np.full((1, 2), np.nan), [1.0])
        with pytest.raises(InputError, match="x must hold examples"):
            LinearModel("mine", "hinge", np.zeros((0, 2)), [])
        with pytest.raises(InputError, match="l2 must be zero or more and finite; got -1"):
            LinearModel("mine", "hinge", self.x, self.y, -1)
        with pytest.raises(DTypeError, match="x must be an array of numbers; got list"):
            LinearModel("mine", "hinge", [["a"]], [1.0])


class TestOtherProblems:
    def test_median_is_the_median(self):
        problem = load_problem("deviations")
        assert problem.value([np.median(problem.y)]) == pytest.approx(problem.minimum.value)

    def test_geometric_median_of_a_triangle_with_a_wide_angle_is_its_corner(self):
        """Where a smooth solver would stop beside the kink; the certificate is exact there."""
        corner = GeometricMedian("corner", [[0.0, 0.0], [1.0, 0.1], [-1.0, 0.1]])
        np.testing.assert_array_equal(corner.minimum.w, [0.0, 0.0])
        assert corner.minimum.gap <= 1e-15

    def test_points_that_coincide(self):
        twice = GeometricMedian("twice", [[1.0, 1.0], [1.0, 1.0], [5.0, 1.0]])
        np.testing.assert_allclose(twice.minimum.w, [1.0, 1.0], atol=1e-12)
        assert twice.minimum.gap <= 1e-12

    def test_largest_deviation_takes_the_first_of_equals(self):
        problem = LargestDeviation("mine", [1.0, 1.0])
        np.testing.assert_array_equal(problem.subgradient([0.0, 2.0]), [-1.0, 0.0])
        np.testing.assert_array_equal(problem.subgradient([1.0, 1.0]), [0.0, 0.0])

    def test_bowl_refusals(self):
        with pytest.raises(InputError, match="curvature must be symmetric"):
            QuadraticBowl("mine", [[1.0, 2.0], [0.0, 1.0]], [[0.0, 0.0]])
        with pytest.raises(InputError, match="curvature must have positive eigenvalues; got -1"):
            QuadraticBowl("mine", [[1.0, 0.0], [0.0, -1.0]], [[0.0, 0.0]])
        with pytest.raises(ShapeError, match=r"curvature must have shape \(2, 2\)"):
            QuadraticBowl("mine", [[1.0]], [[0.0, 0.0]])
        with pytest.raises(InputError, match="centres must hold points"):
            QuadraticBowl("mine", [[1.0]], np.zeros((0, 1)))
        with pytest.raises(InputError, match="points must hold points"):
            GeometricMedian("mine", np.zeros((0, 2)))

    def test_a_function_of_ones_own_is_checked_where_it_is_called(self):
        bad = FunctionProblem("bad", lambda w: math.nan, lambda w: w, [1.0], 1.0)
        with pytest.raises(InputError, match=r"bad: f\(w\) must be finite; got nan"):
            bad.value([0.0])
        long = FunctionProblem("long", lambda w: 0.0, lambda w: [1.0, 2.0], [1.0], 1.0)
        with pytest.raises(ShapeError, match=r"long: subgradient\(w\) must have shape \(1,\)"):
            long.value([0.0])
        with pytest.raises(InputError, match="rho must be positive and finite; got 0"):
            FunctionProblem("mine", abs, abs, [1.0], 0.0)

    def test_a_function_cannot_change_the_path(self):
        def meddling(w):
            w += 1.0
            return 0.0

        problem = FunctionProblem("mine", meddling, lambda w: w, [1.0], 1.0, radius=2.0)
        w = np.zeros((1, 1))
        problem.evaluate(w)
        assert w[0, 0] == 0
        assert problem.radius == 2.0


def test_points_and_terms_are_checked():
    problem = load_problem("bowl")
    with pytest.raises(ShapeError, match=r"bowl.value: w must have shape \(2,\); got \(3,\)"):
        problem.value([0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="bowl: term must be below 4; got 4"):
        problem.term_value([0.0, 0.0], 4)
    with pytest.raises(DTypeError, match=r"bowl: term must be a whole number; got 0\.5"):
        problem.term_subgradient([0.0, 0.0], 0.5)


def test_names():
    with pytest.raises(ConfigError, match=r"got 'hinge_irs'. Did you mean 'hinge_iris'\?"):
        load_problem("hinge_irs")
    assert load_problem("bowl") is load_problem("bowl")
    assert all(load_problem(name).name == name for name in PROBLEMS)


@example(1e6)  # divided by 1e-5, ten is a little less than a million
@given(st.floats(1e-12, 1e12))
def test_radius_is_rounded_up_a_little(value):
    assert value <= round_up(value) <= 1.1 * value * (1 + 1e-12)
