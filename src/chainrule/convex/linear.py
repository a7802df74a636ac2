"""Linear models: a loss of linear predictions, averaged over examples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from chainrule.convex._checks import NON_NEGATIVE, check_array, check_number
from chainrule.convex.losses import LOSSES, Loss
from chainrule.convex.problems import Minimum, Problem, round_up
from chainrule.errors import ConfigError, InputError, explain, nearest

__all__ = ["LinearModel"]


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
