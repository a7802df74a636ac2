"""Convex functions to descend: means of convex terms, with all that the theorems ask about them.

Each problem is ``f(w) = (1/n) sum_i f_i(w)``. It gives values and subgradients of f and of single
terms, a proven bound on the norm of every subgradient that descent can meet, and a minimiser found
and certified without descent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from chainrule.convex._checks import (
    FINITE,
    NON_NEGATIVE,
    POSITIVE,
    check_array,
    check_number,
    check_whole,
)
from chainrule.convex.losses import LOSSES, Loss
from chainrule.errors import ConfigError, InputError, explain, nearest

__all__ = [
    "FunctionProblem",
    "GeometricMedian",
    "LargestDeviation",
    "LinearModel",
    "Minimum",
    "Problem",
    "QuadraticBowl",
    "round_up",
]


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


class LinearModel(Problem):
    r"""A loss of linear predictions, averaged over examples, with an optional L2 penalty.

    Parameters
    ----------
    name : str
        What it is called.
    loss : {"logistic", "hinge", "absolute"}
        The loss of one example; see Notes.
    x : array_like, shape (N, D)
        The examples, one a row.
    y : array_like, shape (N,)
        -1 or 1 for ``logistic`` and ``hinge``, any numbers for ``absolute``.
    l2 : float, default 0.0
        The penalty, 0 or more. Data that a plane separates have no best logistic regression
        without one: the loss keeps falling as w grows.
    about : str, default ""
        One line about it.

    Raises
    ------
    ConfigError
        If the loss is not known.
    InputError, ShapeError, DTypeError
        If an array or number is not as described.

    Notes
    -----
    .. math:: f(w) = \frac1N \sum_i \ell(\langle w, x_i \rangle, y_i) + \frac{\lambda}{2} \|w\|^2

    with :math:`\ell(z, y)` one of :math:`\ln(1 + e^{-yz})`, :math:`\max(0, 1 - yz)` and
    :math:`|z - y|`. At a kink, the subgradient taken is the one of slope 0: no push from an
    example exactly on the margin or exactly hit.

    *The bound.* All three losses have slopes of at most 1 in size, so the part of a term's
    subgradient that comes from the loss has norm at most :math:`\|x_i\|`. That of f is
    :math:`X^T s / N` with :math:`|s_i| \le 1`, and its norm is at most both the mean of
    :math:`\|x_i\|` (triangle inequality) and :math:`\|X\|_2 / \sqrt N` (as
    :math:`\|s\| \le \sqrt N`). Call the bound R: the largest :math:`\|x_i\|` for terms, the smaller
    of the two others for f. The penalty adds at most :math:`\lambda \|w\|`, which is
    :math:`\lambda B` in a ball. Without projection, :math:`w_{t+1} = (1 - \eta\lambda) w_t - \eta
    s_t` with :math:`\|s_t\| \le R` and :math:`w_1 = 0` never leaves the ball of radius
    :math:`R/\lambda` as long as :math:`\eta\lambda \le 1`, so there the bound is 2R.

    *The lower bound.* With the loss's conjugate, :math:`\ell(z) = \max_s sz - \ell^*(s)`. Any
    slopes :math:`s_i` give, with :math:`v = \frac1N \sum_i s_i x_i`,

    .. math:: f(w) \ge -\frac1N \sum_i \ell_i^*(s_i) + \langle v, w \rangle
        + \frac{\lambda}{2} \|w\|^2,

    which is at least :math:`-\|v\|^2/(2\lambda)`, or :math:`-B \|v\|` where :math:`\|w\| \le B`,
    above its first sum.

    Examples
    --------
    >>> line = LinearModel("line", "absolute", [[1.0], [1.0], [1.0]], [0.0, 2.0, 9.0])
    >>> line.value([2.0]), line.minimum.w, line.minimum.value
    (3.0, array([2.]), 3.0)
    >>> line.gradient_bound()
    1.0
    """

    def __init__(
        self,
        name: str,
        loss: str,
        x: ArrayLike,
        y: ArrayLike,
        l2: float = 0.0,
        about: str = "",
    ) -> None:
        where = type(self).__name__
        if loss not in LOSSES:
            hint = nearest(str(loss), LOSSES)
            raise ConfigError(explain(where, "loss", "be the name of a loss", repr(loss), hint))
        self.x = check_array(where, "x", x, ("N", "D"))
        self.y = check_array(where, "y", y, (len(self.x),))
        if not self.x.size:
            raise InputError(explain(where, "x", "hold examples", self.x.shape))
        self.loss: Loss = LOSSES[loss]
        if self.loss.labels and not np.isin(self.y, (-1.0, 1.0)).all():
            raise InputError(explain(where, "y", f"be -1 or 1 for {loss}", np.unique(self.y)[:5]))
        self.l2 = check_number(where, "l2", l2, NON_NEGATIVE)
        super().__init__(name, self.x.shape[1], len(self.x), about)

    def evaluate(
        self, w: np.ndarray, terms: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and subgradients; see `Problem.evaluate`."""
        if terms is None:
            values, slopes = self.loss.evaluate(w @ self.x.T, self.y)  # (S, N)
            value, slope = values.mean(axis=1), slopes @ self.x / self.num_terms
        else:
            rows = self.x[terms]  # (S, D)
            value, slopes = self.loss.evaluate((w * rows).sum(axis=1), self.y[terms])
            slope = slopes[:, None] * rows
        if self.l2:
            return value + self.l2 / 2 * (w * w).sum(axis=1), slope + self.l2 * w
        return value, slope

    def gradient_bound(self, stochastic: bool = False, radius: float = math.inf) -> float:
        """Give ``rho``; see the proof in the notes of the class."""
        norms = np.linalg.norm(self.x, axis=1)
        spectral = np.linalg.norm(self.x, 2) / math.sqrt(self.num_terms)
        slope = float(norms.max() if stochastic else min(norms.mean(), spectral))
        return slope + min(self.l2 * radius, slope) if self.l2 else slope

    def largest_eta(self, stochastic: bool = False) -> float:
        """Give ``1 / l2``, infinite without a penalty."""
        return 1 / self.l2 if self.l2 else math.inf

    def _minimum(self) -> Minimum:
        from chainrule.convex import reference

        w, slopes, method = reference.solve_linear_model(self)
        value = self.value(w)
        return Minimum(
            w, value, self.lower_bound(slopes, round_up(float(np.linalg.norm(w)))), method
        )

    def lower_bound(self, slopes: np.ndarray, radius: float) -> float:
        """Bound f from below, given any slopes of the losses; the formula is in the notes above.

        Parameters
        ----------
        slopes : ndarray, shape (N,)
            One for each example; clipped to what the loss can have.
        radius : float
            Of the ball on which the bound is to hold. Not needed with a penalty.

        Returns
        -------
        float
            At most ``f(w)``, for every w in the ball; for all w with a penalty.
        """
        conjugate = self.loss.conjugate(slopes, self.y)
        norm = float(np.linalg.norm(self.loss.clip(slopes, self.y) @ self.x)) / self.num_terms
        penalty = norm * norm / (2 * self.l2) if self.l2 else radius * norm
        return float(-conjugate.mean()) - penalty


class GeometricMedian(Problem):
    r"""The mean distance to given points; its minimiser is their geometric median.

    Parameters
    ----------
    name : str
        What it is called.
    points : array_like, shape (N, D)
        The points.
    about : str, default ""
        One line about it.

    Raises
    ------
    InputError, ShapeError, DTypeError
        If `points` is not as described.

    Notes
    -----
    :math:`f(w) = \frac1N \sum_i \|w - a_i\|`. Subgradients of a term are unit vectors, and zero is
    taken at its kink, :math:`w = a_i`; so :math:`\rho = 1`. Unit vectors :math:`u_i` bound f from
    below by :math:`-\frac1N \sum_i \langle u_i, a_i \rangle - B \|\frac1N \sum_i u_i\|` in the ball
    of radius B. They are those from the points to the minimiser; where that is a point itself, any
    vector of length up to 1 will do, and the one is taken that balances the others.

    References
    ----------
    E. Weiszfeld, "Sur le point pour lequel la somme des distances de n points donnes est minimum",
    Tohoku Mathematical Journal 43, 1937.

    Examples
    --------
    >>> square = GeometricMedian("square", [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> square.minimum.w.round(6), round(square.minimum.value, 6)
    (array([1., 1.]), 1.414214)
    """

    def __init__(self, name: str, points: ArrayLike, about: str = "") -> None:
        self.points = check_array(type(self).__name__, "points", points, ("N", "D"))
        if not self.points.size:
            raise InputError(
                explain(type(self).__name__, "points", "hold points", self.points.shape)
            )
        super().__init__(name, self.points.shape[1], len(self.points), about)

    def evaluate(
        self, w: np.ndarray, terms: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and subgradients; see `Problem.evaluate`."""
        chosen = self.points[None] if terms is None else self.points[terms][:, None]
        difference = w[:, None] - chosen  # (S, N or 1, D)
        distance = np.linalg.norm(difference, axis=2, keepdims=True)
        units = difference / np.where(distance > 0, distance, 1.0)
        return distance[..., 0].mean(axis=1), units.mean(axis=1)

    def gradient_bound(self, stochastic: bool = False, radius: float = math.inf) -> float:
        """Give 1, the length of a unit vector."""
        return 1.0

    def _minimum(self) -> Minimum:
        from chainrule.convex import reference

        w, method = reference.solve_geometric_median(self)
        difference = w - self.points
        distance = np.linalg.norm(difference, axis=1)[:, None]
        units = difference / np.where(distance > 0, distance, 1.0)
        others = -units.sum(axis=0) / max(1, int((distance == 0).sum()))
        units = np.where(distance > 0, units, others / max(1.0, float(np.linalg.norm(others))))
        rest = round_up(float(np.linalg.norm(w))) * float(np.linalg.norm(units.mean(axis=0)))
        lower = -float((units * self.points).sum(axis=1).mean()) - rest
        return Minimum(w, self.value(w), lower, method)


class QuadraticBowl(Problem):
    r"""The mean of paraboloids of one shape with several lowest points.

    Parameters
    ----------
    name : str
        What it is called.
    curvature : array_like, shape (D, D)
        H, symmetric with positive eigenvalues.
    centres : array_like, shape (N, D)
        The lowest point of each term.
    about : str, default ""
        One line about it.

    Raises
    ------
    InputError, ShapeError, DTypeError
        If an array is not as described.

    Notes
    -----
    :math:`f(w) = \frac1N \sum_i \frac12 (w - c_i)^T H (w - c_i)`, lowest at the mean :math:`\bar c`
    of the centres.

    *The bound.* A paraboloid's gradient grows without bound, but descent does not go far. Let L be
    the largest eigenvalue. For :math:`\eta \le 2/L` a full step maps :math:`w - \bar c` to
    :math:`(I - \eta H)(w - \bar c)`, which is no longer. Projection onto a ball that holds
    :math:`\bar c` does not lengthen it either, so :math:`\|\nabla f\| \le L \|\bar c\|` on any path
    from 0. For :math:`\eta \le 1/L` a stochastic step moves each coordinate along the eigenvectors
    to a mean of itself and that of :math:`c_i`, so it stays within the largest :math:`|c_{ik}|`;
    the gradients of terms are at most L times the length of the vector with coordinates
    :math:`2 \max_i |c_{ik}|`. With projection onto a ball they are at most
    :math:`L (B + \max_i \|c_i\|)`.

    Examples
    --------
    >>> bowl = QuadraticBowl("bowl", [[1.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [3.0, -1.0]])
    >>> bowl.minimum.w, bowl.gradient_bound()
    (array([2., 0.]), 8.0)
    """

    def __init__(
        self, name: str, curvature: ArrayLike, centres: ArrayLike, about: str = ""
    ) -> None:
        where = type(self).__name__
        self.centres = check_array(where, "centres", centres, ("N", "D"))
        if not self.centres.size:
            raise InputError(explain(where, "centres", "hold points", self.centres.shape))
        dimension = self.centres.shape[1]
        self.curvature = check_array(where, "curvature", curvature, (dimension, dimension))
        if not np.array_equal(self.curvature, self.curvature.T):
            raise InputError(explain(where, "curvature", "be symmetric", "a matrix that is not"))
        self._eigenvalues, self._axes = np.linalg.eigh(self.curvature)
        if self._eigenvalues[0] <= 0:
            rule = "have positive eigenvalues"
            raise InputError(explain(where, "curvature", rule, self._eigenvalues[0]))
        super().__init__(name, dimension, len(self.centres), about)

    def evaluate(
        self, w: np.ndarray, terms: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and subgradients; see `Problem.evaluate`."""
        chosen = self.centres[None] if terms is None else self.centres[terms][:, None]
        difference = w[:, None] - chosen  # (S, N or 1, D)
        gradients = difference @ self.curvature
        return ((gradients * difference).sum(axis=2) / 2).mean(axis=1), gradients.mean(axis=1)

    def gradient_bound(self, stochastic: bool = False, radius: float = math.inf) -> float:
        """Give ``rho``; see the proof in the notes of the class."""
        steepest = float(self._eigenvalues[-1])
        if not stochastic:
            return steepest * float(np.linalg.norm(self.centres.mean(axis=0)))
        if math.isfinite(radius):
            return steepest * (radius + float(np.linalg.norm(self.centres, axis=1).max()))
        return 2 * steepest * float(np.linalg.norm(np.abs(self.centres @ self._axes).max(axis=0)))

    def largest_eta(self, stochastic: bool = False) -> float:
        """Give 2 over the largest eigenvalue, or 1 over it for stochastic steps."""
        return (1 if stochastic else 2) / float(self._eigenvalues[-1])

    def _minimum(self) -> Minimum:
        centre = self.centres.mean(axis=0)
        value = self.value(centre)
        return Minimum(centre, value, value, "the mean of the centres, in closed form")


class LargestDeviation(Problem):
    r"""The largest distance of a coordinate from where it ought to be.

    Parameters
    ----------
    name : str
        What it is called.
    centre : array_like, shape (D,)
        The minimiser.
    about : str, default ""
        One line about it.

    Raises
    ------
    InputError, ShapeError, DTypeError
        If `centre` is not as described.

    Notes
    -----
    :math:`f(w) = \max_i |w_i - c_i|`; as subgradient the signed unit vector of the first coordinate
    that attains the maximum is taken, and 0 at the minimiser. So :math:`\rho = 1`.

    With :math:`c_i = B / \sqrt D` it attains the bound of the theorem for T = D steps, to the last
    digit. Each step, of length :math:`\eta = B / \sqrt T`, mends one coordinate. Until the last
    step some coordinate is still 0, in :math:`\bar w` as well, so
    :math:`f(\bar w) - f(w^*) = B / \sqrt T`. No proof can do better than the theorem, unless it
    assumes more.

    Examples
    --------
    >>> worst = LargestDeviation("worst", [0.5, 0.5, 0.5, 0.5])
    >>> worst.value([0.0, 0.5, 0.5, 0.4]), worst.subgradient([0.0, 0.5, 0.5, 0.4])
    (0.5, array([-1.,  0.,  0.,  0.]))
    """

    def __init__(self, name: str, centre: ArrayLike, about: str = "") -> None:
        self.centre = check_array(type(self).__name__, "centre", centre, ("D",))
        super().__init__(name, len(self.centre), 1, about)

    def evaluate(
        self, w: np.ndarray, terms: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and subgradients; see `Problem.evaluate`."""
        difference = w - self.centre
        rows, largest = np.arange(len(w)), np.abs(difference).argmax(axis=1)
        subgradients = np.zeros_like(w)
        subgradients[rows, largest] = np.sign(difference[rows, largest])
        return np.abs(difference[rows, largest]), subgradients

    def gradient_bound(self, stochastic: bool = False, radius: float = math.inf) -> float:
        """Give 1, the length of a unit vector."""
        return 1.0

    def _minimum(self) -> Minimum:
        return Minimum(self.centre, 0.0, 0.0, "the centre, in closed form")


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
