"""The lemma holds for any vectors and any point, with a gap that is known exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.convex import gradient_descent, load_problem, regret_bound
from chainrule.errors import DTypeError, InputError, ShapeError

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def sequences(draw):
    steps, dimension = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    v = draw(hnp.arrays(np.float64, (steps, dimension), elements=NUMBERS))
    star = draw(hnp.arrays(np.float64, dimension, elements=NUMBERS))
    return v, star, draw(st.floats(1e-4, 1e4))


@given(sequences())
def test_any_vectors_and_any_point(case):
    bound = regret_bound(*case)
    assert bound.holds
    assert bound.gap == pytest.approx(bound.slack, abs=bound.rounding)
    assert bound.slack >= 0


@given(sequences(), st.floats(1e-3, 1e6))
def test_with_projection_onto_a_ball_that_holds_the_point(case, radius):
    v, star, eta = case
    star = star * min(1.0, radius / max(np.linalg.norm(star), 1e-300))
    bound = regret_bound(v, star, eta, radius)
    assert bound.holds
    assert bound.gap == pytest.approx(bound.slack, abs=bound.rounding)
    assert (bound.saved >= -bound.rounding * 2 * eta).all()
    assert (np.linalg.norm(bound.path, axis=1) <= radius * (1 + 1e-12)).all()


def test_rounding_is_small_where_numbers_are_ordinary():
    """The tolerance of the tests above is no loophole."""
    rng = np.random.default_rng(0)
    bound = regret_bound(rng.normal(size=(100, 5)), rng.normal(size=5), 0.1)
    assert bound.rounding < 1e-9 * bound.gap
    assert bound.gap == pytest.approx(bound.slack, rel=1e-12)


def test_by_hand():
    """Written as loops, after the formula."""
    rng = np.random.default_rng(1)
    v, star, eta = rng.normal(size=(7, 3)), rng.normal(size=3), 0.3
    w, left, right = np.zeros(3), 0.0, star @ star / (2 * eta)
    for each in v:
        left += (w - star) @ each
        right += eta / 2 * each @ each
        w = w - eta * each
    bound = regret_bound(v, star, eta)
    assert bound.left == pytest.approx(left, rel=1e-13)
    assert bound.right == pytest.approx(right, rel=1e-13)
    assert bound.right == pytest.approx(bound.start_term + bound.step_term)
    np.testing.assert_allclose(bound.path[-1], w)
    rows = bound.rows()
    assert [row["t"] for row in rows] == list(range(1, 8))
    assert rows[-1]["left"] == pytest.approx(left)
    assert rows[-1]["right"] == pytest.approx(right)
    assert all(row["gap"] >= 0 for row in rows)


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_equality_where_the_last_step_lands_on_the_point(steps, seed):
    """An adversary who knows the point leaves nothing to spare."""
    rng = np.random.default_rng(seed)
    eta, star = 0.5, rng.normal(size=3)
    v = rng.normal(size=(steps, 3))
    v[-1] = (-eta * v[:-1].sum(axis=0) - star) / eta
    bound = regret_bound(v, star, eta)
    assert bound.slack == pytest.approx(0, abs=1e-20)
    assert bound.gap == pytest.approx(0, abs=1e-11 * bound.right)


def test_an_adversary_who_pushes_away_from_the_point_pays():
    """v_t along w_t - w*: the left side is as large as it can be, and the lemma still holds."""
    star, eta, w, v = np.array([1.0, 2.0]), 0.05, np.zeros(2), []
    for _ in range(200):
        direction = w - star
        norm = np.linalg.norm(direction)
        v.append(direction / norm if norm else np.array([1.0, 0.0]))
        w = w - eta * v[-1]
    bound = regret_bound(v, star, eta)
    assert bound.holds
    assert bound.gap < 0.02 * bound.right


def test_a_wrong_right_side_would_be_noticed():
    """Half of either term is too little for the case of equality."""
    bound = regret_bound([[-1.0], [-1.0]], [2.0], 1.0)
    assert bound.left == bound.right == 3.0
    assert bound.start_term / 2 + bound.step_term < bound.left
    assert bound.start_term + bound.step_term / 2 < bound.left


def test_it_bounds_descent():
    problem = load_problem("line")
    descent = gradient_descent(problem, 200)
    v = np.stack([problem.subgradient(w) for w in descent.path])
    bound = regret_bound(v, problem.minimum.w, descent.eta)
    np.testing.assert_allclose(bound.path[:-1], descent.path, atol=1e-12)
    assert 200 * descent.gap <= bound.left <= bound.right <= 200 * descent.bound


def test_text():
    text = str(regret_bound(np.ones((20, 1)), [1.0], 0.5))
    assert "right - left" in text
    assert "= |w_(T+1) - w*|^2/(2 eta)" in text
    assert len(text.splitlines()) == 1 + 12 + 1 + 5
    assert "with what projection saved" in str(regret_bound([[1.0]], [1.0], 0.5, 2.0))


def test_refusals():
    with pytest.raises(ShapeError, match=r"v must have shape \(T, D\); got \(2,\)"):
        regret_bound([1.0, 2.0], [1.0], 1.0)
    with pytest.raises(ShapeError, match=r"w_star must have shape \(2,\); got \(1,\)"):
        regret_bound([[1.0, 2.0]], [1.0], 1.0)
    with pytest.raises(InputError, match="v must hold a vector at least"):
        regret_bound(np.zeros((0, 2)), [1.0, 1.0], 1.0)
    with pytest.raises(InputError, match="eta must be positive and finite; got 0"):
        regret_bound([[1.0]], [1.0], 0)
    with pytest.raises(DTypeError, match="eta must be a number; got True"):
        regret_bound([[1.0]], [1.0], True)
    with pytest.raises(InputError, match="radius must be at least the norm of w_star; got 1"):
        regret_bound([[1.0]], [2.0], 1.0, radius=1.0)
    with pytest.raises(InputError, match="v must be finite"):
        regret_bound([[np.inf]], [2.0], 1.0)
