"""A gradient step is the minimum of a model: linear, plus a penalty for going far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from chainrule.convex._checks import FINITE, POSITIVE, check_array, check_number
from chainrule.convex._text import number, pairs, table

__all__ = ["ProximalStep", "proximal_step"]


@dataclass(frozen=True, eq=False)
class ProximalStep:
    """The minimum of the model, found three ways.

    Attributes
    ----------
    w, gradient : ndarray, shape (D,)
        Where the step begins, and the gradient there.
    value : float
        ``f(w)``.
    lam : float
        ``lambda``, the weight of the penalty.
    closed_form : ndarray, shape (D,)
        ``w - gradient / lambda``, where the derivative of the model is zero.
    minimised : ndarray, shape (D,)
        What a general minimiser finds, given the model and its derivative alone.
    iterations : int
        How many steps that minimiser took.
    """

    w: np.ndarray
    gradient: np.ndarray
    value: float
    lam: float
    closed_form: np.ndarray
    minimised: np.ndarray
    iterations: int

    @property
    def eta(self) -> float:
        """Return ``1 / lambda``, the step size of the gradient step that this is."""
        return 1 / self.lam

    @property
    def gradient_step(self) -> np.ndarray:
        """Return ``w - eta gradient``."""
        return self.w - self.eta * self.gradient

    @property
    def difference(self) -> float:
        """Return the largest difference of a coordinate between any two of the three."""
        ways = np.stack([self.closed_form, self.minimised, self.gradient_step])
        return float(np.ptp(ways, axis=0).max())

    @property
    def excess(self) -> float:
        """Return by how much the model is higher where the minimiser stopped: about 0."""
        return self.model(self.minimised) - self.model(self.closed_form)

    def model(self, u: ArrayLike) -> float:
        """Compute ``f(w) + <u - w, gradient> + (lambda / 2) |u - w|^2``.

        Parameters
        ----------
        u : array_like, shape (D,)
            Where.

        Returns
        -------
        float
            The value of the model.
        """
        move = check_array("ProximalStep.model", "u", u, self.w.shape) - self.w
        return self.value + float(move @ self.gradient) + self.lam / 2 * float(move @ move)

    def rows(self) -> list[dict[str, float]]:
        """Return one row for each coordinate.

        Returns
        -------
        list of dict
            ``i``, ``w``, ``gradient``, ``closed_form``, ``gradient_step``, ``minimised``.
        """
        names = ("w", "gradient", "closed_form", "gradient_step", "minimised")
        return [
            {"i": i + 1} | {name: float(getattr(self, name)[i]) for name in names}
            for i in range(len(self.w))
        ]

    def __str__(self) -> str:
        """Write each coordinate, and how far the three ways are apart."""
        header = ("i", "w", "gradient", "w - g/lambda", "w - eta g", "minimiser")
        cells = [
            (str(row.pop("i")), *(f"{value:.9f}" for value in row.values())) for row in self.rows()
        ]
        about = [
            ("lambda", number(self.lam)),
            ("eta", f"{number(self.eta)} = 1/lambda"),
            ("model at w", number(self.value)),
            ("model at its minimum", number(self.model(self.closed_form))),
            ("largest difference", f"{self.difference:.1e}"),
            ("minimiser's steps", str(self.iterations)),
        ]
        return f"{table(header, cells)}\n\n{pairs(about)}"


def proximal_step(
    w: ArrayLike, gradient: ArrayLike, lam: float, value: float = 0.0
) -> ProximalStep:
    r"""Minimise the linear model of a function plus a quadratic penalty, three ways.

    Parameters
    ----------
    w : array_like, shape (D,)
        Where the model is made.
    gradient : array_like, shape (D,)
        A gradient or subgradient of f there.
    lam : float
        :math:`\lambda`, the weight of the penalty, positive.
    value : float, default 0.0
        :math:`f(w)`. It moves the model up and down, and its minimum nowhere.

    Returns
    -------
    ProximalStep
        The minimum in closed form, by a gradient step, and by a general minimiser (SciPy's BFGS).

    Raises
    ------
    InputError, ShapeError, DTypeError
        If an argument is not as described.

    Notes
    -----
    .. math:: w_{t+1} = \arg\min_u\; f(w_t) + \langle u - w_t, \nabla f(w_t) \rangle
        + \frac{\lambda}{2} \|u - w_t\|^2

    The derivative :math:`\nabla f(w_t) + \lambda (u - w_t)` is zero at :math:`u = w_t -
    \nabla f(w_t) / \lambda` only, and the model is strictly convex: its minimum is the gradient
    step with :math:`\eta = 1/\lambda`. Completing the square says the same of values: the model at
    u is :math:`\frac{\lambda}{2} \|u - w_{t+1}\|^2` above its minimum.

    Examples
    --------
    >>> step = proximal_step([1.0, -2.0], gradient=[3.0, 6.0], lam=3.0)
    >>> step.eta, step.closed_form
    (0.3333333333333333, array([ 0., -4.]))
    >>> step.difference < 1e-9
    True
    """
    where = "proximal_step"
    w = check_array(where, "w", w, ("D",))
    gradient = check_array(where, "gradient", gradient, w.shape)
    lam = check_number(where, "lam", lam, POSITIVE)
    value = check_number(where, "value", value, FINITE)
    minimised, iterations = _minimise(w, gradient, lam)
    return ProximalStep(w, gradient, value, lam, w - gradient / lam, minimised, iterations)


def _minimise(w: np.ndarray, gradient: np.ndarray, lam: float) -> tuple[np.ndarray, int]:
    """Minimise the model, scaled so that the tolerance means the same for any lambda."""
    from scipy.optimize import minimize

    size = max(lam, float(np.abs(gradient).max(initial=0.0)))

    def model(u: np.ndarray) -> tuple[float, np.ndarray]:
        move = u - w
        slope = gradient + lam * move
        return float(move @ (gradient + lam / 2 * move)) / size, slope / size

    found = minimize(model, w, jac=True, method="BFGS", options={"gtol": 1e-13})
    return np.asarray(found.x), int(found.nit)
