"""Problems whose shape can be seen: distances, paraboloids, and the worst case of the theorem."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from chainrule.convex._checks import check_array
from chainrule.convex.problems import Minimum, Problem, round_up
from chainrule.errors import InputError, explain

__all__ = ["GeometricMedian", "LargestDeviation", "QuadraticBowl"]


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
