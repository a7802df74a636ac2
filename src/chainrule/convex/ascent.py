"""Why a stochastic step may go up: the two-term example, exactly and by simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from chainrule.convex._checks import FINITE, POSITIVE, check_number, check_whole
from chainrule.convex._text import number, pairs, table
from chainrule.convex.losses import sigmoid
from chainrule.errors import DTypeError, InputError, explain

__all__ = ["Ascent", "AscentTrials", "sgd_step_may_ascend", "simulate_sgd_step"]

_LARGE = 30.0  # from here on sinh and cosh are exponentials, to float64's precision


@dataclass(frozen=True, eq=False)
class Ascent:
    """What one stochastic step from w does to ``f = f1 + f2``; all arrays have one shape.

    Attributes
    ----------
    w, eta : ndarray
        Where the step begins, and the step size.
    first, second : ndarray
        Where it leads, if f1 or f2 is drawn.
    change_first, change_second : ndarray
        ``f`` there, minus ``f(w)``.
    threshold : ndarray
        Above this step size both steps ascend: ``2 |w| / sigmoid(|w|)``.
    full_change : ndarray
        What a step along the gradient of the mean ``f/2`` changes.
    """

    w: np.ndarray
    eta: np.ndarray
    first: np.ndarray
    second: np.ndarray
    change_first: np.ndarray
    change_second: np.ndarray
    threshold: np.ndarray
    full_change: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """Return the probability that f increases: 1/2 or 1."""
        up_first, up_second = self.change_first > 0, self.change_second > 0
        return (up_first.astype(np.float64) + up_second) / 2

    @property
    def expected_ascent(self) -> np.ndarray:
        """Return the mean of the increase, a decrease counting as 0."""
        ups = np.maximum(self.change_first, 0) + np.maximum(self.change_second, 0)
        return np.asarray(ups / 2)

    @property
    def expected_change(self) -> np.ndarray:
        """Return the mean change of f; positive where steps lead up on average."""
        return np.asarray((self.change_first + self.change_second) / 2)

    def rows(self) -> list[dict[str, float]]:
        """Return one row for each pair of w and eta.

        Returns
        -------
        list of dict
            ``w``, ``eta``, ``probability``, ``change_first``, ``change_second``,
            ``expected_ascent``, ``expected_change``, ``full_change``, ``threshold``.
        """
        names = ["w", "eta", "probability", "change_first", "change_second"]
        names += ["expected_ascent", "expected_change", "full_change", "threshold"]
        columns = [np.ravel(getattr(self, name)) for name in names]
        return [
            dict(zip(names, map(float, values), strict=True))
            for values in zip(*columns, strict=True)
        ]

    def __str__(self) -> str:
        """Write one row for each pair of w and eta."""
        header = ("w", "eta", "P(up)", "f1 drawn", "f2 drawn", "mean up", "mean", "full", "eta_c")
        return table(header, [tuple(map(number, row.values())) for row in self.rows()])


@dataclass(frozen=True)
class AscentTrials:
    """What simulated steps did.

    Attributes
    ----------
    trials : int
        How many there were.
    ascents : int
        How many of them increased f.
    mean_change, standard_error : float
        Of the change of f.
    mean_ascent : float
        Of the increase, a decrease counting as 0.
    """

    trials: int
    ascents: int
    mean_change: float
    standard_error: float
    mean_ascent: float

    @property
    def frequency(self) -> float:
        """Return the share of steps that increased f."""
        return self.ascents / self.trials

    def __str__(self) -> str:
        """Write what was measured."""
        change = f"{number(self.mean_change)} +- {number(self.standard_error)}"
        return pairs(
            [
                ("steps", f"{self.trials:,}"),
                ("of them up", f"{self.ascents:,}, {self.frequency:.4f}"),
                ("mean up", number(self.mean_ascent)),
                ("mean change", change),
            ]
        )


def sgd_step_may_ascend(w: ArrayLike, eta: ArrayLike) -> Ascent:
    r"""Say how probably, and by how much, a stochastic step increases the two-term example.

    Parameters
    ----------
    w : array_like
        Where the step begins, finite.
    eta : array_like
        Step size, positive; broadcast against `w`.

    Returns
    -------
    Ascent
        Both possible steps, exact up to rounding.

    Raises
    ------
    InputError, DTypeError
        If a value is not as described.

    Notes
    -----
    With :math:`\sigma` the sigmoid,

    .. math:: f_1(w) = -\ln(1 - \sigma(w)) = \ln(1 + e^w), \qquad
        f_2(w) = -\ln \sigma(w) = \ln(1 + e^{-w}),

    so :math:`f_1' = \sigma(w)` and :math:`f_2' = -\sigma(-w)`: one term pulls down, the other up,
    whatever w is. A step draws one of them with probability 1/2 each. Their sum

    .. math:: f(w) = |w| + 2 \ln(1 + e^{-|w|}) = 2 \ln(2 \cosh \tfrac w2)

    grows with :math:`|w|`. Let w be positive. The step of :math:`f_2` leads away from 0 and always
    ascends. That of :math:`f_1` leads towards 0 and ascends only if it overshoots beyond
    :math:`-w`, that is if :math:`\eta > 2w / \sigma(w)`. So the probability of ascent is 1/2, or 1
    beyond that threshold; at w = 0, where :math:`f' = 0`, it is 1 for any step size. A full step
    stays there. Changes of f are computed as :math:`2 \ln(\cosh\frac a2 / \cosh\frac b2) = 2
    \ln\bigl(1 + 2 \sinh\frac{a+b}4 \sinh\frac{a-b}4 / \cosh\frac b2\bigr)`, which loses no digits
    where a and b are close.

    Examples
    --------
    >>> at_the_minimum = sgd_step_may_ascend(w=0.0, eta=0.1)
    >>> float(at_the_minimum.probability), round(float(at_the_minimum.expected_ascent), 9)
    (1.0, 0.000624935)
    >>> sgd_step_may_ascend(w=[0.5, 0.5, 0.01], eta=[0.1, 2.0, 0.1]).probability
    array([0.5, 1. , 1. ])
    """
    where = "sgd_step_may_ascend"
    w, eta = np.broadcast_arrays(_finite(where, "w", w), _finite(where, "eta", eta))
    if (eta <= 0).any():
        raise InputError(explain(where, "eta", "be positive", float(eta.min())))
    down, up = -eta * sigmoid(w), eta * sigmoid(-w)  # the moves of w, if f1 or f2 is drawn
    full = -eta * np.tanh(w / 2) / 2
    return Ascent(
        w=w,
        eta=eta,
        first=w + down,
        second=w + up,
        change_first=_change(w, down),
        change_second=_change(w, up),
        threshold=2 * np.abs(w) / sigmoid(np.abs(w)),
        full_change=_change(w, full),
    )


def simulate_sgd_step(w: float, eta: float, trials: int, rng: np.random.Generator) -> AscentTrials:
    """Take one stochastic step from w, many times, and look at f before and after.

    Parameters
    ----------
    w : float
        Where each step begins, finite. From about 1e8 in size the change of f drowns in rounding.
    eta : float
        Step size, positive.
    trials : int
        How often, 2 or more.
    rng : numpy.random.Generator
        Draws the terms.

    Returns
    -------
    AscentTrials
        How often and how far f went up.

    Raises
    ------
    InputError, DTypeError
        If a value is not as described.

    Examples
    --------
    >>> simulate_sgd_step(0.0, 0.1, 1000, np.random.default_rng(0)).frequency
    1.0
    """
    where = "simulate_sgd_step"
    w, eta = check_number(where, "w", w, FINITE), check_number(where, "eta", eta, POSITIVE)
    trials = check_whole(where, "trials", trials, 2)

    def f(w: np.ndarray) -> np.ndarray:
        """-ln(1 - s(w)) - ln(s(w))."""
        return np.asarray(np.logaddexp(0, w) + np.logaddexp(0, -w))

    before = np.full(trials, w)
    gradient = np.where(rng.integers(2, size=trials) == 0, sigmoid(before), -sigmoid(-before))
    change = f(before - eta * gradient) - f(before)
    return AscentTrials(
        trials=trials,
        ascents=int((change > 0).sum()),
        mean_change=float(change.mean()),
        standard_error=float(change.std(ddof=1) / np.sqrt(trials)),
        mean_ascent=float(np.maximum(change, 0).mean()),
    )


def _finite(where: str, name: str, value: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise DTypeError(explain(where, name, "be a number or an array of them", kind)) from error
    if not np.isfinite(array).all():
        raise InputError(explain(where, name, "be finite", "NaN or infinity"))
    return array


def _change(w: np.ndarray, move: np.ndarray) -> np.ndarray:
    """``f(w + move) - f(w)``, with all digits however small the move."""
    before = np.abs(w)
    outward = np.where(w < 0, -move, move)
    # By how much |w| grows; beyond 0 it grows again.
    growth = np.where(outward >= -before, outward, -(2 * before + outward))
    low, distance = np.minimum(before, before + growth), np.abs(growth)
    high = low + distance
    small, gap = np.minimum(low, _LARGE), np.minimum(distance, _LARGE)
    near = 2 * np.sinh(small / 2 + gap / 4) * np.sinh(gap / 4) / np.cosh(small / 2)
    far = distance + 2 * np.log1p(sigmoid(-low) * np.expm1(-distance))
    return np.asarray(np.sign(growth) * np.where(high < _LARGE, 2 * np.log1p(near), far))
