"""Gradient descent with everything the theorems speak of measured on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from chainrule.convex._checks import POSITIVE, check_number, check_whole
from chainrule.convex.problems import Problem
from chainrule.errors import ConfigError, DivergedError, InputError, explain, nearest

__all__ = [
    "VARIANTS",
    "Descent",
    "Runs",
    "Setting",
    "gradient_descent",
    "run",
    "setting",
    "step_size",
]


class _Kind(NamedTuple):
    """What sets a variant apart."""

    stochastic: bool
    projected: bool


VARIANTS: MappingProxyType[str, _Kind] = MappingProxyType(
    {
        "full": _Kind(stochastic=False, projected=False),
        "projected": _Kind(stochastic=False, projected=True),
        "stochastic": _Kind(stochastic=True, projected=False),
        "projected_stochastic": _Kind(stochastic=True, projected=True),
    }
)
_BLOCK = 4096  # steps for which terms are drawn at a time


@dataclass(frozen=True)
class Setting:
    """The numbers of the theorem, for one problem and variant.

    Attributes
    ----------
    variant : str
        A key of `VARIANTS`.
    radius : float
        ``B``.
    rho : float
        Bound on the norms of the subgradients.
    eta : float or None
        A step size for every number of steps; None for the one of the theorem.
    """

    variant: str
    radius: float
    rho: float
    eta: float | None

    def eta_for(self, steps: int) -> float:
        """Give the step size for a number of steps."""
        return step_size(self.radius, self.rho, steps) if self.eta is None else self.eta

    def bound(self, steps: int) -> float:
        """Give ``B^2 / (2 eta T) + eta rho^2 / 2``, the theorem's bound for any step size."""
        eta = self.eta_for(steps)
        return self.radius**2 / (2 * eta * steps) + eta * self.rho**2 / 2


@dataclass(frozen=True, eq=False)
class Runs:
    """What several runs of descent left; R runs, K times that were kept.

    Attributes
    ----------
    times : ndarray of int64, shape (K,)
        Steps t, counted from 1, whose points were kept; the last one is T.
    path, averages : ndarray, shape (R, K, D)
        The points ``w_t``, and the means of ``w_1`` to ``w_t``.
    values, average_values : ndarray, shape (R, K)
        f there.
    last : ndarray, shape (R, D)
        ``w_{T+1}``.
    mean_excess : ndarray, shape (R,)
        Mean over t of ``F_t(w_t) - F_t(w*)``, where ``F_t`` is f, or the term that was drawn.
    mean_inner : ndarray, shape (R,)
        Mean over t of ``<w_t - w*, v_t>``.
    mean_square : ndarray, shape (R,)
        Mean over t of ``|v_t|^2``.
    largest_gradient, largest_norm : ndarray, shape (R,)
        Of ``|v_t|`` and ``|w_t|``.
    least_convexity : ndarray, shape (R,)
        Least ``<w_t - w*, v_t> - (F_t(w_t) - F_t(w*))``; negative if some ``F_t`` is not convex.
    """

    times: np.ndarray
    path: np.ndarray
    averages: np.ndarray
    values: np.ndarray
    average_values: np.ndarray
    last: np.ndarray
    mean_excess: np.ndarray
    mean_inner: np.ndarray
    mean_square: np.ndarray
    largest_gradient: np.ndarray
    largest_norm: np.ndarray
    least_convexity: np.ndarray


@dataclass(frozen=True, eq=False)
class Descent:
    """One run of gradient descent.

    Attributes
    ----------
    problem : str
        Its name.
    variant : str
        A key of `VARIANTS`.
    steps : int
        ``T``.
    eta : float
        The step size.
    radius, rho : float
        ``B`` and the bound on subgradients that the step size was made from.
    times : ndarray of int64, shape (K,)
        Steps t, counted from 1, whose points were kept: all of them if there are few, else more
        and more widely spaced ones. The last is T.
    path, averages : ndarray, shape (K, D)
        The points ``w_t``, and the means of ``w_1`` to ``w_t``.
    values, average_values : ndarray, shape (K,)
        f there.
    last : ndarray, shape (D,)
        ``w_{T+1}``, where the last step led.
    f_star : float
        ``f(w*)``.
    """

    problem: str
    variant: str
    steps: int
    eta: float
    radius: float
    rho: float
    times: np.ndarray
    path: np.ndarray
    averages: np.ndarray
    values: np.ndarray
    average_values: np.ndarray
    last: np.ndarray
    f_star: float

    @property
    def average(self) -> np.ndarray:
        """Return ``wbar``, the mean of ``w_1`` to ``w_T``."""
        return np.asarray(self.averages[-1])

    @property
    def gap(self) -> float:
        """Return ``f(wbar) - f(w*)``."""
        return float(self.average_values[-1]) - self.f_star

    @property
    def bound(self) -> float:
        """Return the bound on `gap` after all steps."""
        return float(self.bounds()[-1])

    def bounds(self) -> np.ndarray:
        """Compute the bound after each of `times`: the same proof, ended early.

        Returns
        -------
        ndarray, shape (K,)
            ``B^2 / (2 eta t) + eta rho^2 / 2``.
        """
        return self.radius**2 / (2 * self.eta * self.times) + self.eta * self.rho**2 / 2


def step_size(radius: float, rho: float, steps: int) -> float:
    r"""Give the step size for which the bound is smallest.

    Parameters
    ----------
    radius : float
        B, positive.
    rho : float
        Bound on the norms of subgradients, positive.
    steps : int
        T, 1 or more.

    Returns
    -------
    float
        :math:`\eta = \sqrt{B^2 / (\rho^2 T)}`.

    Raises
    ------
    InputError, DTypeError
        If a number is not as described.

    Notes
    -----
    It balances the two parts of :math:`B^2/(2 \eta T) + \eta \rho^2/2`, each of which is then
    :math:`B \rho / (2 \sqrt T)`.

    Examples
    --------
    >>> step_size(radius=2.0, rho=1.0, steps=100)
    0.2
    """
    radius = check_number("step_size", "radius", radius, POSITIVE)
    rho = check_number("step_size", "rho", rho, POSITIVE)
    return radius / (rho * math.sqrt(check_whole("step_size", "steps", steps, 1)))


def gradient_descent(
    problem: Problem,
    steps: int,
    *,
    variant: str = "full",
    eta: float | None = None,
    radius: float | None = None,
    rho: float | None = None,
    rng: np.random.Generator | None = None,
    keep: int = 1000,
) -> Descent:
    r"""Descend from ``w_1 = 0`` along subgradients, and average.

    Parameters
    ----------
    problem : Problem
        What to descend.
    steps : int
        T, 1 or more.
    variant : {"full", "projected", "stochastic", "projected_stochastic"}, default "full"
        ``projected`` ones return to the ball of radius B after each step, ``stochastic`` ones
        follow a single term, drawn at random.
    eta : float, optional
        The step size, positive; `step_size` by default.
    radius : float, optional
        B, positive; that of the problem by default.
    rho : float, optional
        Bound on the norms of subgradients, positive; that of the problem by default.
    rng : numpy.random.Generator, optional
        Needed for the stochastic variants.
    keep : int, default 1000
        At most so many points of the path are kept, 2 or more, whatever T is.

    Returns
    -------
    Descent
        The path and what it led to.

    Raises
    ------
    ConfigError
        If the variant is not known.
    InputError, DTypeError
        If a number is not as described, or `rng` is missing.
    DivergedError
        If a step leads to NaN or infinity.

    Notes
    -----
    .. math:: w_{t+1} = w_t - \eta v_t, \qquad \bar w = \frac1T \sum_{t=1}^T w_t

    with :math:`v_t` a subgradient at :math:`w_t` of f, or of a term drawn uniformly. Memory is
    ``2 keep D`` numbers; a step costs one evaluation.

    Examples
    --------
    >>> from chainrule.convex import load_problem
    >>> descent = gradient_descent(load_problem("line"), 100)
    >>> descent.gap < descent.bound
    True
    >>> descent.average.shape, len(descent.times)
    ((2,), 100)
    """
    where = "gradient_descent"
    steps = check_whole(where, "steps", steps, 1)
    chosen = setting(where, problem, variant, eta, radius, rho)
    runs = run(where, problem, steps, chosen, 1, rng, keep)
    return Descent(
        problem=problem.name,
        variant=variant,
        steps=steps,
        eta=chosen.eta_for(steps),
        radius=chosen.radius,
        rho=chosen.rho,
        times=runs.times,
        path=runs.path[0],
        averages=runs.averages[0],
        values=runs.values[0],
        average_values=runs.average_values[0],
        last=runs.last[0],
        f_star=problem.minimum.value,
    )


def setting(
    where: str,
    problem: Problem,
    variant: str,
    eta: float | None,
    radius: float | None,
    rho: float | None,
) -> Setting:
    """Check what was given, and take the rest from the problem."""
    if variant not in VARIANTS:
        hint = nearest(str(variant), VARIANTS)
        rule = f"be one of {', '.join(VARIANTS)}"
        raise ConfigError(explain(where, "variant", rule, repr(variant), hint))
    kind = VARIANTS[variant]
    radius = check_number(where, "radius", problem.radius if radius is None else radius, POSITIVE)
    if rho is None:
        rho = problem.gradient_bound(kind.stochastic, radius if kind.projected else math.inf)
    rho = check_number(where, "rho", rho, POSITIVE)
    if eta is not None:
        eta = check_number(where, "eta", eta, POSITIVE)
    return Setting(variant, radius, rho, eta)


def run(
    where: str,
    problem: Problem,
    steps: int,
    chosen: Setting,
    runs: int,
    rng: np.random.Generator | None,
    keep: int,
) -> Runs:
    """Descend several times at once and measure what the theorems speak of.

    Parameters
    ----------
    where : str
        The public function that was called.
    problem : Problem
        What to descend.
    steps : int
        T.
    chosen : Setting
        Variant, radius and step size.
    runs : int
        R; all runs of the variants that draw nothing are the same.
    rng : numpy.random.Generator or None
        Draws the terms.
    keep : int
        How many points to keep.

    Returns
    -------
    Runs
        Points and measurements.

    Raises
    ------
    InputError
        If `rng` is missing or `keep` too small.
    DivergedError
        If a step leads to NaN or infinity.
    """
    kind, eta = VARIANTS[chosen.variant], chosen.eta_for(steps)
    if kind.stochastic and rng is None:
        remedy = "Pass numpy.random.default_rng(seed)."
        raise InputError(explain(where, "rng", "be given for stochastic variants", rng, remedy))
    times = _kept_times(steps, check_whole(where, "keep", keep, 2))
    star = problem.minimum.w
    star_values = _star_values(problem, kind.stochastic)

    w = np.zeros((runs, problem.dimension))
    average = np.zeros_like(w)
    path = np.empty((len(times), *w.shape))
    averages = np.empty_like(path)
    excess_sum, inner_sum, square_sum = np.zeros((3, runs))
    largest_square, largest_norm = np.zeros((2, runs))
    convexity = np.full(runs, np.inf)
    terms: np.ndarray | None = None
    drawn = np.empty((0, runs), dtype=np.int64)
    kept = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(1, steps + 1):
            if kind.stochastic and rng is not None:
                place = (t - 1) % _BLOCK
                if place == 0:
                    size = (min(_BLOCK, steps - t + 1), runs)
                    drawn = rng.integers(problem.num_terms, size=size)
                terms = drawn[place]
            value, v = problem.evaluate(w, terms)
            excess = value - (star_values if terms is None else star_values[terms])
            inner = ((w - star) * v).sum(axis=1)
            square = (v * v).sum(axis=1)
            excess_sum += excess
            inner_sum += inner
            square_sum += square
            np.maximum(largest_square, square, out=largest_square)
            np.maximum(largest_norm, (w * w).sum(axis=1), out=largest_norm)
            np.minimum(convexity, inner - excess, out=convexity)
            average += (w - average) / t
            if t == times[kept]:
                path[kept], averages[kept] = w, average
                kept += 1
            w = w - eta * v
            if kind.projected:
                w *= np.minimum(1.0, chosen.radius / _lengths(w))[:, None]
            if not np.isfinite(square).all() or not np.isfinite(w).all():
                got = f"NaN or infinity at step {t} on {problem.name}"
                remedy = f"The step size {eta:g} is too large."
                raise DivergedError(explain(where, "w", "stay finite", got, remedy))
    path, averages = path.swapaxes(0, 1), averages.swapaxes(0, 1)  # (R, K, D)
    return Runs(
        times=times,
        path=path,
        averages=averages,
        values=np.array([problem.evaluate(each)[0] for each in path]),
        average_values=np.array([problem.evaluate(each)[0] for each in averages]),
        last=w,
        mean_excess=excess_sum / steps,
        mean_inner=inner_sum / steps,
        mean_square=square_sum / steps,
        largest_gradient=np.sqrt(largest_square),
        largest_norm=np.sqrt(largest_norm),
        least_convexity=convexity,
    )


def _star_values(problem: Problem, stochastic: bool) -> np.ndarray:
    """f at the minimiser; or each of its terms there, shape (n,)."""
    if not stochastic:
        return np.array(problem.minimum.value)
    points = np.broadcast_to(problem.minimum.w, (problem.num_terms, problem.dimension))
    return problem.evaluate(points, np.arange(problem.num_terms))[0]


def _kept_times(steps: int, keep: int) -> np.ndarray:
    """At most `keep` steps from 1 to `steps`: all, or evenly spaced on a logarithmic axis."""
    if steps <= keep:
        return np.arange(1, steps + 1)
    return np.unique(np.rint(np.geomspace(1, steps, keep)).astype(np.int64))


def _lengths(w: np.ndarray) -> np.ndarray:
    """Norms of rows, 1e-300 at least, so that one can divide by them."""
    return np.asarray(np.maximum(np.sqrt((w * w).sum(axis=1)), 1e-300))
