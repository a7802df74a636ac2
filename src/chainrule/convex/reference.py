"""Minimisers by solvers that share nothing with descent, each with dual slopes as a certificate.

Linear programs go to HiGHS, logistic regression to scikit-learn, the rest to SciPy. Every solver
also yields a dual point, from which the caller computes a lower bound: a solver that stopped early
shows itself as a gap between the two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chainrule.convex.losses import HingeLoss
from chainrule.errors import InputError, explain

if TYPE_CHECKING:
    from chainrule.convex.linear import LinearModel
    from chainrule.convex.shapes import GeometricMedian

__all__ = ["solve_geometric_median", "solve_linear_model"]


def solve_linear_model(model: LinearModel) -> tuple[np.ndarray, np.ndarray, str]:
    """Minimise a linear model.

    Parameters
    ----------
    model : LinearModel
        The problem.

    Returns
    -------
    w : ndarray, shape (D,)
        The minimiser.
    slopes : ndarray, shape (N,)
        Slopes of the losses that prove it, up to rounding.
    method : str
        The solver.

    Raises
    ------
    InputError
        If there is no minimiser: a plane separates the classes of a logistic regression without
        penalty.
    """
    if not model.loss.kinked:
        return _logistic_regression(model)
    return _dual_in_a_box(model) if model.l2 else _linear_program(model)


def _logistic_regression(model: LinearModel) -> tuple[np.ndarray, np.ndarray, str]:
    if not model.l2 and _separable(model):
        raise InputError(
            explain(
                model.name,
                "l2",
                "be positive where a plane separates the classes",
                model.l2,
                "Without a penalty the loss has no minimum there: it keeps falling as w grows.",
            )
        )
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(
        C=1 / (model.num_terms * model.l2) if model.l2 else math.inf,
        fit_intercept=False,
        solver="newton-cholesky",
        tol=1e-13,
        max_iter=1000,
    )
    w = solver.fit(model.x, model.y).coef_[0].astype(np.float64)
    _, slopes = model.loss.evaluate(model.x @ w, model.y)
    return w, slopes, "scikit-learn's LogisticRegression (newton-cholesky)"


def _separable(model: LinearModel) -> bool:
    """Whether some w has ``y <w, x> >= 0`` everywhere and not 0 everywhere."""
    from scipy.optimize import linprog

    signed = model.y[:, None] * model.x
    found = linprog(-signed.mean(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1))
    return bool(found.fun < -1e-9)


def _linear_program(model: LinearModel) -> tuple[np.ndarray, np.ndarray, str]:
    """Minimise the mean of ``t`` where each t_i lies above both lines of its loss."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack, vstack

    n, dimension = model.x.shape
    one = eye_array(n)
    cost = np.concatenate([np.zeros(dimension), np.full(n, 1 / n)])
    if isinstance(model.loss, HingeLoss):  # 1 - y z <= t, and t >= 0 by its bounds
        above = hstack([csr_array(-model.y[:, None] * model.x), -one])
        right = np.full(n, -1.0)
    else:  # z - y <= t and y - z <= t
        x = csr_array(model.x)
        above = vstack([hstack([x, -one]), hstack([-x, -one])])
        right = np.concatenate([model.y, -model.y])
    bounds = [(None, None)] * dimension + [(0, None)] * n
    found = linprog(cost, A_ub=above, b_ub=right, bounds=bounds, method="highs-ds")
    multipliers = -n * found.ineqlin.marginals
    if isinstance(model.loss, HingeLoss):
        slopes = -model.y * multipliers
    else:
        slopes = multipliers[:n] - multipliers[n:]
    return found.x[:dimension], slopes, "a linear program (HiGHS)"


def _dual_in_a_box(model: LinearModel) -> tuple[np.ndarray, np.ndarray, str]:
    """Maximise the dual over slopes s: ``-mean(s y) - |v|^2 / (2 l2)``, with ``v = x^T s / n``.

    The conjugate of both kinked losses is ``s y``, on an interval of slopes. Where the maximum is,
    ``w = -v / l2``. Which slopes stand at an end of their interval is seen once the maximum is
    near; those of the others follow from linear equations, as their examples sit on the kink.
    """
    from scipy.optimize import Bounds, minimize

    x, y, n, l2 = model.x, model.y, model.num_terms, model.l2
    low, high = np.sort([model.loss.clip(np.full(n, end), y) for end in (-1.0, 1.0)], axis=0)

    def negative_dual(slopes: np.ndarray) -> tuple[float, np.ndarray]:
        v = slopes @ x / n
        return float(slopes @ y) / n + float(v @ v) / (2 * l2), (y + x @ v / l2) / n

    found = minimize(
        negative_dual,
        (low + high) / 2,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(low, high),
        options={"maxiter": 100_000, "maxfun": 1_000_000, "ftol": 1e-16, "gtol": 1e-12},
    )
    slopes = found.x
    free = (slopes > low + 1e-6) & (slopes < high - 1e-6)
    fixed = np.where(free, 0.0, slopes)
    kinked = np.linalg.lstsq(x[free] @ x[free].T, -n * l2 * y[free] - x[free] @ (fixed @ x))[0]
    polished = fixed.copy()
    polished[free] = kinked

    def gap(slopes: np.ndarray) -> float:
        return model.value(-(slopes @ x) / (n * l2)) - model.lower_bound(slopes, 0.0)

    slopes = min(slopes, polished, key=gap)
    return -(slopes @ x) / (n * l2), slopes, "the dual quadratic program (SciPy's L-BFGS-B)"


def solve_geometric_median(problem: GeometricMedian) -> tuple[np.ndarray, str]:
    """Minimise the mean distance to points, by a quasi-Newton method.

    Parameters
    ----------
    problem : GeometricMedian
        The problem.

    Returns
    -------
    w : ndarray, shape (D,)
        The minimiser.
    method : str
        The solver.
    """
    from scipy.optimize import minimize

    start = problem.points.mean(axis=0)
    found = minimize(
        lambda w: (problem.value(w), problem.subgradient(w)),
        start,
        jac=True,
        method="BFGS",
        options={"gtol": 1e-13},
    )
    ends = [found.x, *problem.points]  # the kinks are where a smooth method would miss the minimum
    return min(ends, key=problem.value), "SciPy's BFGS"
