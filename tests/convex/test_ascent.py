"""Probability and size of ascent: exact, against the plain formulas and against simulation."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.convex import load_problem, sgd_step_may_ascend, simulate_sgd_step
from chainrule.errors import DTypeError, InputError


def s(w):
    return 1 / (1 + math.exp(-w))


def f(w):
    return -math.log(1 - s(w)) - math.log(s(w))


PLACES = st.floats(-12, 12)
STEPS = st.floats(1e-3, 20)


@given(PLACES, STEPS)
def test_against_the_formulas_of_the_course(w, eta):
    ascent = sgd_step_may_ascend(w, eta)
    first, second = w - eta * s(w), w + eta * (1 - s(w))
    assert float(ascent.first) == pytest.approx(first, abs=1e-12)
    assert float(ascent.second) == pytest.approx(second, abs=1e-12)

    def change(there):
        return math.log(2 + 2 * math.cosh(there)) - math.log(2 + 2 * math.cosh(w))  # f, once more

    for exact, there in ((ascent.change_first, first), (ascent.change_second, second)):
        assert float(exact) == pytest.approx(change(there), rel=1e-9, abs=1e-13)
    full = change(w - eta * (s(w) - 0.5))
    assert float(ascent.full_change) == pytest.approx(full, rel=1e-9, abs=1e-13)


@given(PLACES)
def test_the_two_forms_of_f(w):
    assert f(w) == pytest.approx(math.log(2 + 2 * math.cosh(w)), rel=1e-9)
    assert f(w) == pytest.approx(2 * load_problem("two_terms").value([w]), rel=1e-9)


@given(st.floats(1e-6, 500))
def test_at_the_minimum_every_step_ascends(eta):
    ascent = sgd_step_may_ascend(0.0, eta)
    assert float(ascent.probability) == 1
    assert float(ascent.threshold) == 0
    assert float(ascent.full_change) == 0
    expected = 2 * math.log1p(2 * math.sinh(eta / 8) ** 2)  # 2 ln cosh(eta/4)
    assert float(ascent.expected_ascent) == pytest.approx(expected, rel=1e-9)
    assert float(ascent.expected_ascent) > 0


@given(st.floats(-30, 30).filter(lambda w: abs(w) > 1e-9), st.floats(0.01, 100))
def test_the_threshold_parts_one_half_from_one(w, share):
    edge = float(sgd_step_may_ascend(w, 1.0).threshold)
    assert edge == pytest.approx(2 * abs(w) / s(abs(w)), rel=1e-12)
    expected = 0.5 if share < 1 else 1.0
    if abs(share - 1) > 1e-9:
        assert float(sgd_step_may_ascend(w, share * edge).probability) == expected


@given(PLACES, STEPS)
def test_it_is_even(w, eta):
    here, there = sgd_step_may_ascend(w, eta), sgd_step_may_ascend(-w, eta)
    assert here.change_first == pytest.approx(there.change_second, rel=1e-12)
    assert here.probability == there.probability
    assert here.expected_change == pytest.approx(there.expected_change, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("w", [1e-8, 1e-3, 0.5, 3.0, 29.0, 31.0, 100.0, 800.0])
@pytest.mark.parametrize("eta", [1e-12, 1e-6, 1e-2, 1.0, 50.0, 2000.0])
def test_no_digits_are_lost(w, eta):
    """Against arithmetic of 120 digits, on the very moves of floating point."""
    ascent = sgd_step_may_ascend(w, eta)
    with localcontext() as context:
        context.prec = 120

        def exact(move):
            def value(w):
                w = abs(w)
                return w + 2 * (1 + (-w).exp()).ln()

            return value(Decimal(w) + move) - value(Decimal(w))

        sigmoid = 1 / (1 + (-Decimal(w)).exp())
        down = exact(-Decimal(eta) * sigmoid)
        up = exact(Decimal(eta) * (1 - sigmoid))
    for mine, true in ((ascent.change_first, down), (ascent.change_second, up)):
        if abs(true) > Decimal("1e-290"):
            assert abs(Fraction(float(mine)) / Fraction(true) - 1) < Fraction(1, 10**11)


@pytest.mark.parametrize(
    ("w", "eta"), [(0.0, 0.1), (0.3, 0.5), (0.3, 3.0), (-2.0, 1.0), (4.0, 0.5)]
)
def test_against_simulation(w, eta):
    exact = sgd_step_may_ascend(w, eta)
    trials = simulate_sgd_step(w, eta, 40_000, np.random.default_rng(1))
    probability = float(exact.probability)
    error = math.sqrt(probability * (1 - probability) / trials.trials)
    assert abs(trials.frequency - probability) <= 4 * error
    distance = abs(trials.mean_change - float(exact.expected_change))
    assert distance <= 4 * trials.standard_error + 1e-12
    spread = abs(float(exact.change_first) - float(exact.change_second))
    assert abs(trials.mean_ascent - float(exact.expected_ascent)) <= 4 * spread / 400 + 1e-12


def test_simulation_agrees_with_steps_of_stochastic_descent():
    """f is twice the problem's, so a step along one of its terms is one along f1 or f2."""
    problem, w, eta = load_problem("two_terms"), 0.4, 0.7
    rng = np.random.default_rng(2)
    ups = 0
    for _ in range(2000):
        there = w - eta * problem.stochastic_subgradient([w], rng)[0]
        ups += problem.value([there]) > problem.value([w])
    probability = float(sgd_step_may_ascend(w, eta).probability)
    assert ups / 2000 == pytest.approx(probability, abs=4 * math.sqrt(0.25 / 2000))


def test_small_steps_lead_down_on_average_away_from_the_minimum():
    w = np.array([-3.0, -0.5, 0.5, 3.0])
    assert (sgd_step_may_ascend(w, 1e-3).expected_change < 0).all()
    assert (sgd_step_may_ascend(w, 1e-3).probability == 0.5).all()
    near = sgd_step_may_ascend([-1e-4, 0.0, 1e-4], 1e-2)
    assert (near.expected_change > 0).all()


def test_arrays_are_broadcast():
    ascent = sgd_step_may_ascend(np.zeros((3, 1)), np.ones(4))
    for name in ("w", "eta", "probability", "change_first", "expected_ascent", "threshold"):
        assert getattr(ascent, name).shape == (3, 4)
    assert len(ascent.rows()) == 12
    assert len(str(ascent).splitlines()) == 13


@pytest.mark.parametrize("w", [-1e300, -800.0, -40.0, 40.0, 800.0, 1e300])
def test_simulation_far_from_the_minimum(w):
    """One of the two gradients is 0 there, and the other 1."""
    trials = simulate_sgd_step(w, 0.5, 1000, np.random.default_rng(0))
    expected = -0.25 if abs(w) < 1e9 else 0.0  # 1e300 - 0.5 is 1e300
    assert trials.ascents == 0
    assert trials.mean_change == pytest.approx(expected, abs=5 * 0.25 / math.sqrt(1000))


def test_text_of_trials():
    text = str(simulate_sgd_step(0.0, 0.1, 10, np.random.default_rng(0)))
    assert "of them up   10, 1.0000" in text


def test_refusals():
    with pytest.raises(InputError, match="eta must be positive; got 0"):
        sgd_step_may_ascend(0.0, [1.0, 0.0])
    with pytest.raises(InputError, match="w must be finite; got NaN or infinity"):
        sgd_step_may_ascend(math.nan, 1.0)
    with pytest.raises(DTypeError, match="w must be a number or an array of them; got str"):
        sgd_step_may_ascend("zero", 1.0)
    with pytest.raises(InputError, match="trials must be 2 or more; got 1"):
        simulate_sgd_step(0.0, 1.0, 1, np.random.default_rng(0))
