"""The lemma behind every bound: what any sequence of steps costs, against any point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from chainrule.convex._checks import POSITIVE, check_array, check_number
from chainrule.convex._text import number, pairs, table
from chainrule.errors import InputError, explain

__all__ = ["RegretBound", "regret_bound"]


@dataclass(frozen=True, eq=False)
class RegretBound:
    """Both sides of the lemma, term by term.

    Attributes
    ----------
    eta : float
        The step size.
    path : ndarray, shape (T + 1, D)
        ``w_1 = 0`` to ``w_{T+1}``.
    inner : ndarray, shape (T,)
        ``<w_t - w*, v_t>``: the terms on the left.
    squares : ndarray, shape (T,)
        ``|v_t|^2``: the terms of the sum on the right.
    distances : ndarray, shape (T + 1,)
        ``|w_t - w*|^2``.
    saved : ndarray, shape (T,)
        How much projection after step t lessened ``|w_{t+1} - w*|^2``; zeros without projection.
        Negative only if w* lies outside of the ball.
    radius : float or None
        Of the ball projected onto.
    """

    eta: float
    path: np.ndarray
    inner: np.ndarray
    squares: np.ndarray
    distances: np.ndarray
    saved: np.ndarray
    radius: float | None

    @property
    def left(self) -> float:
        """Return ``sum_t <w_t - w*, v_t>``."""
        return float(self.inner.sum())

    @property
    def start_term(self) -> float:
        """Return ``|w*|^2 / (2 eta)``."""
        return float(self.distances[0]) / (2 * self.eta)

    @property
    def step_term(self) -> float:
        """Return ``(eta / 2) sum_t |v_t|^2``."""
        return self.eta / 2 * float(self.squares.sum())

    @property
    def right(self) -> float:
        """Return ``|w*|^2 / (2 eta) + (eta / 2) sum_t |v_t|^2``."""
        return self.start_term + self.step_term

    @property
    def gap(self) -> float:
        """Return by how much the right side exceeds the left one."""
        return self.right - self.left

    @property
    def slack(self) -> float:
        """Return what the gap is in exact arithmetic, computed without either side.

        It is ``|w_{T+1} - w*|^2 / (2 eta)``, and what projection saved, over ``2 eta``.
        """
        return (float(self.distances[-1]) + float(self.saved.sum())) / (2 * self.eta)

    @property
    def rounding(self) -> float:
        """Return how far rounding may set `gap` and `slack` apart, by a first-order bound."""
        sizes = np.abs(self.inner).sum() + self.start_term + self.step_term + abs(self.slack)
        norms = np.sqrt(self.distances[:-1] * self.squares).sum()
        reach = np.abs(self.path).max(initial=0.0) + np.sqrt(self.distances.max())
        travelled = reach * (np.sqrt(self.squares).sum() + reach / self.eta)
        terms = 8 * (len(self.inner) + self.path.shape[1] + 4)
        relative = np.finfo(float).eps * (sizes + norms + travelled)
        underflow = np.finfo(float).tiny * (1 + self.eta + 1 / self.eta)
        return float(terms * (relative + underflow))

    @property
    def holds(self) -> bool:
        """Return whether left is at most right, up to rounding."""
        return self.gap >= -self.rounding

    def rows(self) -> list[dict[str, float]]:
        """Return one row for each step, with both sides as they stand after it.

        Returns
        -------
        list of dict
            ``t``, ``inner``, ``square``, ``left``, ``right`` and ``gap``.
        """
        left = np.cumsum(self.inner)
        right = self.start_term + self.eta / 2 * np.cumsum(self.squares)
        return [
            {
                "t": t + 1,
                "inner": float(self.inner[t]),
                "square": float(self.squares[t]),
                "left": float(left[t]),
                "right": float(right[t]),
                "gap": float(right[t] - left[t]),
            }
            for t in range(len(self.inner))
        ]

    def __str__(self) -> str:
        """Write both sides, and the first and last steps."""
        rows = self.rows()
        shown = rows if len(rows) <= 12 else [*rows[:6], *rows[-6:]]
        header = ("t", "<w_t - w*, v_t>", "|v_t|^2", "left", "right", "right - left")
        cells = [(str(row.pop("t")), *map(number, row.values())) for row in shown]
        about = [
            ("left", f"{number(self.left)}  = sum_t <w_t - w*, v_t>"),
            ("right", f"{number(self.right)}  = |w*|^2/(2 eta) + (eta/2) sum_t |v_t|^2"),
            ("right - left", number(self.gap)),
            ("expected", f"{number(self.slack)}  = |w_(T+1) - w*|^2/(2 eta)"),
            ("holds", "yes" if self.holds else "NO"),
        ]
        if self.radius is not None:
            about[3] = ("expected", f"{number(self.slack)}  with what projection saved")
        return f"{table(header, cells)}\n\n{pairs(about)}"


def regret_bound(
    v: ArrayLike, w_star: ArrayLike, eta: float, radius: float | None = None
) -> RegretBound:
    r"""Compute both sides of the lemma for any vectors and any point.

    Parameters
    ----------
    v : array_like, shape (T, D)
        The vectors, T and D 1 or more. They need not be gradients of anything.
    w_star : array_like, shape (D,)
        The point to compare with. It need not minimise anything.
    eta : float
        The step size, positive.
    radius : float, optional
        Project onto the ball around 0 of this radius after each step.

    Returns
    -------
    RegretBound
        Both sides, and each of their terms.

    Raises
    ------
    InputError, ShapeError, DTypeError
        If an argument is not as described, or `w_star` lies outside the ball.

    Notes
    -----
    For :math:`w_1 = 0` and :math:`w_{t+1} = w_t - \eta v_t`,

    .. math:: \sum_{t=1}^T \langle w_t - w^*, v_t \rangle
        \le \frac{\|w^*\|^2}{2 \eta} + \frac{\eta}{2} \sum_{t=1}^T \|v_t\|^2.

    Proof: :math:`\|w_{t+1} - w^*\|^2 = \|w_t - w^*\|^2 - 2 \eta \langle w_t - w^*, v_t \rangle +
    \eta^2 \|v_t\|^2`. Summed over t the distances telescope, and right minus left is exactly
    :math:`\|w_{T+1} - w^*\|^2 / (2 \eta)`, which is not negative. So the two sides are equal where
    the last step lands on :math:`w^*`. A projection onto a convex set that holds :math:`w^*` only
    brings points nearer to it, so the lemma holds with projections too.

    References
    ----------
    S. Shalev-Shwartz, S. Ben-David, "Understanding Machine Learning", 2014, lemma 14.1.

    Examples
    --------
    >>> bound = regret_bound([[1.0], [-2.0], [0.5]], w_star=[3.0], eta=0.5)
    >>> bound.left, bound.right, bound.gap, bound.slack
    (2.75, 10.3125, 7.5625, 7.5625)

    Two steps of -1 lead from 0 to 2 along the straight line, and there is nothing to spare:

    >>> regret_bound([[-1.0], [-1.0]], w_star=[2.0], eta=1.0).gap
    0.0
    """
    where = "regret_bound"
    v = check_array(where, "v", v, ("T", "D"))
    if not v.size:
        raise InputError(explain(where, "v", "hold a vector at least", v.shape))
    star = check_array(where, "w_star", w_star, (v.shape[1],))
    eta = check_number(where, "eta", eta, POSITIVE)
    if radius is None:
        path = np.vstack([np.zeros(v.shape[1]), -eta * np.cumsum(v, axis=0)])
        saved = np.zeros(len(v))
    else:
        radius = check_number(where, "radius", radius, POSITIVE)
        norm = float(np.linalg.norm(star))
        if norm > radius * (1 + 1e-12):
            rule = "be at least the norm of w_star"
            raise InputError(explain(where, "radius", rule, f"{radius}, below {norm}"))
        path, saved = _projected(v, star, eta, radius)
    difference = path - star
    return RegretBound(
        eta=eta,
        path=path,
        inner=(difference[:-1] * v).sum(axis=1),
        squares=(v * v).sum(axis=1),
        distances=(difference * difference).sum(axis=1),
        saved=saved,
        radius=radius,
    )


def _projected(
    v: np.ndarray, star: np.ndarray, eta: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """The path with projections, and what they saved."""
    path, saved = np.zeros((len(v) + 1, v.shape[1])), np.zeros(len(v))
    for t, vector in enumerate(v):
        before = path[t] - eta * vector
        norm = float(np.linalg.norm(before))
        path[t + 1] = before * (radius / norm) if norm > radius else before
        saved[t] = ((before - star) ** 2).sum() - ((path[t + 1] - star) ** 2).sum()
    return path, saved
