"""What a convex problem is: a mean of convex terms, with all that the theorems ask about it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from chainrule.convex._checks import FINITE, POSITIVE, check_array, check_number, check_whole
from chainrule.errors import InputError, explain

__all__ = ["FunctionProblem", "Minimum", "Problem", "round_up"]


@dataclass(frozen=True, eq=False)
class Minimum:
    """A minimiser, and how well it is known.

    Attributes
    ----------
    w : ndarray, shape (D,)
        The minimiser ``w*``, float64.
    value : float
        ``f(w*)``.
    lower : float
        No point of the ball of the problem's `radius` (no point at all, where f is strongly
        convex) has a value below this one. It is computed from a dual point, so it does not rely
        on the solver having done well.
    method : str
        How it was found.
    """

    w: np.ndarray
    value: float
    lower: float
    method: str

    @property
    def gap(self) -> float:
        """Return by how much `value` may be above the true minimum, at most."""
        return max(0.0, self.value - self.lower)


class Problem(ABC):
    """Base of the problems: a convex function with subgradients, a radius and a minimum.

    Parameters
    ----------
    name : str
        What it is called.
    dimension : int
        D, the length of w.
    num_terms : int
        n, the number of terms of which f is the mean.
    about : str, default ""
        One line about it.
    """

    def __init__(self, name: str, dimension: int, num_terms: int, about: str = "") -> None:
        self.name = name
        self.dimension = check_whole(type(self).__name__, "dimension", dimension, 1)
        self.num_terms = check_whole(type(self).__name__, "num_terms", num_terms, 1)
        self.about = about

    @abstractmethod
    def evaluate(
        self, w: np.ndarray, terms: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and subgradients at several points at once.

        Parameters
        ----------
        w : ndarray, shape (S, D)
            The points, float64; not checked.
        terms : ndarray of int, shape (S,), optional
            For each point the term, from 0 to n - 1, that is meant; by default their mean, f.

        Returns
        -------
        values : ndarray, shape (S,)
            ``f(w_s)``, or ``f_i(w_s)``.
        subgradients : ndarray, shape (S, D)
            One subgradient for each. That of f is the mean of those of its terms.
        """

    @abstractmethod
    def gradient_bound(self, stochastic: bool = False, radius: float = math.inf) -> float:
        """Give ``rho``, which no subgradient on the path exceeds in norm.

        Parameters
        ----------
        stochastic : bool, default False
            Bound the subgradients of single terms, not only those of f.
        radius : float, default inf
            Radius of the ball around 0 onto which descent projects; infinite without projection.

        Returns
        -------
        float
            Holds on every path that begins at 0 with steps of at most `largest_eta`.
        """

    @abstractmethod
    def _minimum(self) -> Minimum:
        """Find the minimiser."""

    @cached_property
    def minimum(self) -> Minimum:
        """Return the minimiser, found when first asked for."""
        return self._minimum()

    @property
    def radius(self) -> float:
        """Return ``B``: the norm of the minimiser, rounded up to two digits."""
        return round_up(float(np.linalg.norm(self.minimum.w)))

    def largest_eta(self, stochastic: bool = False) -> float:
        """Give the largest step size for which `gradient_bound` is proved.

        Parameters
        ----------
        stochastic : bool, default False
            For steps along single terms.

        Returns
        -------
        float
            Infinite where rho bounds subgradients everywhere.
        """
        return math.inf

    def value(self, w: ArrayLike) -> float:
        """Compute ``f(w)``.

        Parameters
        ----------
        w : array_like, shape (D,)
            Where.

        Returns
        -------
        float
            The value.
        """
        return float(self.evaluate(self._point("value", w))[0][0])

    def subgradient(self, w: ArrayLike) -> np.ndarray:
        """Compute a subgradient of f: its gradient wherever it has one.

        Parameters
        ----------
        w : array_like, shape (D,)
            Where.

        Returns
        -------
        ndarray, shape (D,)
            Some g with ``f(u) >= f(w) + <g, u - w>`` for all u.
        """
        return np.asarray(self.evaluate(self._point("subgradient", w))[1][0])

    def term_value(self, w: ArrayLike, term: int) -> float:
        """Compute ``f_i(w)``.

        Parameters
        ----------
        w : array_like, shape (D,)
            Where.
        term : int
            i, from 0 to n - 1.

        Returns
        -------
        float
            The value.
        """
        return float(self.evaluate(self._point("term_value", w), self._term(term))[0][0])

    def term_subgradient(self, w: ArrayLike, term: int) -> np.ndarray:
        """Compute a subgradient of ``f_i``.

        Parameters
        ----------
        w : array_like, shape (D,)
            Where.
        term : int
            i, from 0 to n - 1.

        Returns
        -------
        ndarray, shape (D,)
            The mean over all terms is `subgradient`.
        """
        subgradients = self.evaluate(self._point("term_subgradient", w), self._term(term))[1]
        return np.asarray(subgradients[0])

    def stochastic_subgradient(self, w: ArrayLike, rng: np.random.Generator) -> np.ndarray:
        """Compute the subgradient of a term drawn at random.

        Parameters
        ----------
        w : array_like, shape (D,)
            Where.
        rng : numpy.random.Generator
            Draws the term, each with probability 1/n.

        Returns
        -------
        ndarray, shape (D,)
            Its expectation is `subgradient`.
        """
        return self.term_subgradient(w, int(rng.integers(self.num_terms)))

    def _point(self, where: str, w: ArrayLike) -> np.ndarray:
        return check_array(f"{self.name}.{where}", "w", w, (self.dimension,))[None]

    def _term(self, term: int) -> np.ndarray:
        term = check_whole(self.name, "term", term, 0)
        if term >= self.num_terms:
            raise InputError(explain(self.name, "term", f"be below {self.num_terms}", term))
        return np.array([term])


class FunctionProblem(Problem):
    """A function of one's own, with what one claims about it.

    Nothing of the claims is believed: `convergence` measures whether they hold.

    Parameters
    ----------
    name : str
        What it is called.
    f : callable
        Takes w, shape (D,), and returns a number.
    subgradient : callable
        Takes w and returns a subgradient, shape (D,).
    w_star : array_like, shape (D,)
        The minimiser.
    rho : float
        Bound on the norms of subgradients, positive.
    radius : float, optional
        B, positive; the norm of `w_star`, rounded up, by default.
    about : str, default ""
        One line about it.

    Raises
    ------
    InputError, ShapeError, DTypeError
        If a number or array is not as described.

    Examples
    --------
    >>> far = FunctionProblem("far", lambda w: abs(w[0] - 2), lambda w: np.sign(w - 2), [2.0], 1.0)
    >>> far.value([5.0]), far.subgradient([5.0]), far.radius
    (3.0, array([1.]), 2.0)
    """

    def __init__(
        self,
        name: str,
        f: Callable[[np.ndarray], float],
        subgradient: Callable[[np.ndarray], ArrayLike],
        w_star: ArrayLike,
        rho: float,
        radius: float | None = None,
        about: str = "",
    ) -> None:
        where = type(self).__name__
        self._f, self._subgradient = f, subgradient
        self._w_star = check_array(where, "w_star", w_star, ("D",))
        self._rho = check_number(where, "rho", rho, POSITIVE)
        self._radius = None if radius is None else check_number(where, "radius", radius, POSITIVE)
        super().__init__(name, len(self._w_star), 1, about)

    def evaluate(
        self, w: np.ndarray, terms: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and subgradients; see `Problem.evaluate`."""
        where = self.name
        values = [check_number(where, "f(w)", float(self._f(point.copy())), FINITE) for point in w]
        slopes = [
            check_array(where, "subgradient(w)", self._subgradient(point.copy()), (self.dimension,))
            for point in w
        ]
        return np.array(values), np.array(slopes)

    def gradient_bound(self, stochastic: bool = False, radius: float = math.inf) -> float:
        """Give what was claimed."""
        return self._rho

    @property
    def radius(self) -> float:
        """Return what was claimed, or else the norm of the minimiser, rounded up."""
        return super().radius if self._radius is None else self._radius

    def _minimum(self) -> Minimum:
        return Minimum(self._w_star, self.value(self._w_star), -math.inf, "as claimed")


def round_up(value: float) -> float:
    """Round up to two digits; 1.0 for 0, as a ball needs a radius.

    Examples
    --------
    >>> round_up(4.21), round_up(0.0123), round_up(3.0), round_up(0.0)
    (4.3, 0.013, 3.0, 1.0)
    """
    if value == 0:
        return 1.0
    digits = 1 - math.floor(math.log10(value))
    rounded = math.ceil(value * 10.0**digits) / 10.0**digits
    return rounded if rounded >= value else math.nextafter(value, math.inf)
