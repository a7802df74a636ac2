"""The theorem of gradient descent, run: the gap, the bound, and what the bound assumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.convex._checks import check_whole
from chainrule.convex._text import number, pairs, table
from chainrule.convex.descent import VARIANTS, Runs, Setting, run, setting
from chainrule.convex.problems import Problem
from chainrule.errors import InputError, explain

__all__ = ["Assumption", "Convergence", "ConvergencePoint", "convergence"]

_KEEP = 200  # points of each run, for the curves over t


@dataclass(frozen=True)
class Assumption:
    """Something that the theorem assumes, and what was measured of it.

    Attributes
    ----------
    name : str
        The assumption, as a formula.
    holds : bool
        Whether it held, up to rounding.
    detail : str
        The numbers.
    """

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class ConvergencePoint:
    """Gap and bound for one number of steps: a chain of numbers, each at most the next.

    Those up to `regret` are means over runs where terms are drawn.

    Attributes
    ----------
    steps : int
        ``T``.
    eta : float
        The step size.
    gap : float
        ``f(wbar) - f(w*)``.
    standard_error : float
        Of `gap`; 0 without randomness.
    mean_excess : float
        Mean over t of ``F_t(w_t) - F_t(w*)``, where ``F_t`` is f, or the term that was drawn, so
        that its expectation is that of ``f(w_t) - f(w*)``. At least `gap`, by Jensen's inequality;
        with stochastic steps only in expectation.
    mean_inner : float
        Mean over t of ``<w_t - w*, v_t>``. At least `mean_excess`, as f is convex.
    regret : float
        ``(|w*|^2 / (2 eta) + (eta / 2) sum_t |v_t|^2) / T``. At least `mean_inner`, by the lemma.
    bound : float
        ``B^2 / (2 eta T) + eta rho^2 / 2``, which is ``B rho / sqrt(T)`` for the step size of the
        theorem. At least `regret`, as ``|w*| <= B`` and ``|v_t| <= rho``.
    largest_gradient, largest_norm : float
        Of ``|v_t|`` and ``|w_t|``, over all steps and runs.
    """

    steps: int
    eta: float
    gap: float
    standard_error: float
    mean_excess: float
    mean_inner: float
    regret: float
    bound: float
    largest_gradient: float
    largest_norm: float

    @property
    def holds(self) -> bool:
        """Return whether the gap is at most the bound, which some functions attain."""
        return self.gap <= self.bound * (1 + 1e-12)


@dataclass(frozen=True, eq=False)
class Convergence:
    """The theorem on one problem, for several numbers of steps.

    Attributes
    ----------
    problem, about : str
        Name of the problem, and a line about it.
    variant : str
        Of descent.
    dimension, num_terms : int
        D and n.
    runs : int
        How many runs each gap is a mean of; 1 without randomness.
    radius, rho : float
        ``B`` and the bound on subgradients.
    w_star_norm, f_star, f_star_gap : float
        ``|w*|``, ``f(w*)``, and by how much that may be above the true minimum at most.
    f_zero : float
        ``f(w_1)``, where every run begins.
    method : str
        How the minimiser was found.
    points : tuple of ConvergencePoint
        One for each number of steps, increasing.
    assumptions : tuple of Assumption
        What the theorem assumes, checked over all runs.
    times, gaps, bounds : ndarray, shape (K,)
        Along the longest run: steps t, ``f`` at the mean of ``w_1`` to ``w_t`` minus f(w*), and
        its bound ``B^2 / (2 eta t) + eta rho^2 / 2``.
    """

    problem: str
    about: str
    variant: str
    dimension: int
    num_terms: int
    runs: int
    radius: float
    rho: float
    w_star_norm: float
    f_star: float
    f_star_gap: float
    f_zero: float
    method: str
    points: tuple[ConvergencePoint, ...]
    assumptions: tuple[Assumption, ...]
    times: np.ndarray
    gaps: np.ndarray
    bounds: np.ndarray

    @property
    def holds(self) -> bool:
        """Return whether every gap is at most its bound."""
        return all(point.holds for point in self.points)

    @property
    def assumed(self) -> bool:
        """Return whether every assumption held."""
        return all(assumption.holds for assumption in self.assumptions)

    @property
    def informative_from(self) -> int | None:
        """Return the T from which the bound ``B rho / sqrt(T)`` is below ``f(w_1) - f(w*)``.

        With fewer steps the bound promises less than staying where one is. None where the start is
        the minimum, and nothing can be promised.
        """
        start = self.f_zero - self.f_star
        return math.floor((self.radius * self.rho / start) ** 2) + 1 if start > 0 else None

    @property
    def verdict(self) -> str:
        """Return one sentence about the outcome."""
        broken = [f'"{one.name}"' for one in self.assumptions if not one.holds]
        if broken:
            outcome = "holds all the same" if self.holds else "fails"
            what = f"{' and '.join(broken)} did not hold"
            return f"the theorem promises nothing here, as {what}; its bound {outcome}"
        gap = "f(wbar) - f(w*)" if self.runs == 1 else "the mean of f(wbar) - f(w*)"
        if not self.holds:
            return f"the bound FAILS although all that it assumes holds: {gap} exceeds it"
        share = max(point.gap / point.bound for point in self.points)
        if share > 1 - 1e-9:
            return f"the bound holds, and {gap} attains it"
        return f"the bound holds: {gap} is at most {share:.2%} of it"

    def rows(self) -> list[dict[str, float]]:
        """Return one row for each number of steps.

        Returns
        -------
        list of dict
            The attributes of `ConvergencePoint`, and ``holds``.
        """
        return [vars(point) | {"holds": point.holds} for point in self.points]

    def __str__(self) -> str:
        """Write what was run, a table, the assumptions and the verdict."""
        about = [
            ("problem", f"{self.problem}: {self.about}" if self.about else self.problem),
            ("size", f"{_count(self.dimension, 'dimension')}, {_count(self.num_terms, 'term')}"),
            ("variant", self.variant + (f", {self.runs} runs" if self.runs > 1 else "")),
            ("B", number(self.radius)),
            ("rho", number(self.rho)),
            ("f(w_1)", f"{self.f_zero:.9g}"),
            ("f(w*)", f"{self.f_star:.9g}  by {self.method}, to within {self.f_star_gap:.0e}"),
        ]
        if self.informative_from is not None:
            about.append(("bound < f(w_1) - f(w*)", f"from T = {self.informative_from:,}"))
        header = [
            "T",
            "eta",
            "f(wbar) - f*",
            "mean f(w_t) - f*",
            "<w_t - w*, v_t>",
            "lemma",
            "bound",
        ]
        columns = ["gap", "mean_excess", "mean_inner", "regret", "bound"]
        if self.runs > 1:
            header.insert(3, "+-")
            columns.insert(1, "standard_error")
        cells = [
            (f"{p.steps:,}", number(p.eta), *(number(getattr(p, name)) for name in columns))
            for p in self.points
        ]
        checks = [("yes" if a.holds else "NO", a.name, a.detail) for a in self.assumptions]
        blocks = [
            pairs(about),
            table(header, cells),
            table(("", "assumption", "measured"), checks, left=3),
            self.verdict[0].upper() + self.verdict[1:] + ".",
        ]
        return "\n\n".join(blocks)


def convergence(
    problem: Problem,
    steps: int | Sequence[int] = (10, 100, 1000),
    *,
    variant: str = "full",
    eta: float | None = None,
    radius: float | None = None,
    rho: float | None = None,
    runs: int = 20,
    rng: np.random.Generator | None = None,
) -> Convergence:
    r"""Run gradient descent and hold it against the bound that the theorem promises.

    Parameters
    ----------
    problem : Problem
        What to descend.
    steps : int or sequence of int, default (10, 100, 1000)
        T, or several; each is a run of its own, with its own step size.
    variant : {"full", "projected", "stochastic", "projected_stochastic"}, default "full"
        ``projected`` ones return to the ball of radius B after each step, ``stochastic`` ones
        follow a single term, drawn at random.
    eta : float, optional
        Step size for every T, positive; by default :math:`\sqrt{B^2 / (\rho^2 T)}`.
    radius : float, optional
        B, positive; that of the problem by default.
    rho : float, optional
        Bound on the norms of subgradients, positive; that of the problem by default.
    runs : int, default 20
        How many runs to average where terms are drawn, 2 or more.
    rng : numpy.random.Generator, optional
        Needed for the stochastic variants.

    Returns
    -------
    Convergence
        Gap and bound for each T, with all links of the proof between them, and whether what the
        theorem assumes was so.

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
    For convex f, :math:`\|w^*\| \le B`, :math:`\|v_t\| \le \rho` and
    :math:`\eta = \sqrt{B^2 / (\rho^2 T)}`,

    .. math:: f(\bar w) - f(w^*) \le \frac1T \sum_t \bigl(f(w_t) - f(w^*)\bigr)
        \le \frac1T \sum_t \langle w_t - w^*, v_t \rangle
        \le \frac{\|w^*\|^2}{2 \eta T} + \frac{\eta}{2T} \sum_t \|v_t\|^2
        \le \frac{B \rho}{\sqrt T}

    by Jensen's inequality, convexity, the lemma (`regret_bound`), and the assumptions. Where
    :math:`v_t` is the subgradient of a term drawn at random, all of it holds for expectations. Any
    other :math:`\eta` has the bound :math:`B^2/(2 \eta T) + \eta \rho^2/2`. Each link is measured,
    so one sees where a bound is generous.

    References
    ----------
    S. Shalev-Shwartz, S. Ben-David, "Understanding Machine Learning", 2014, corollary 14.2 and
    theorem 14.8.

    Examples
    --------
    >>> from chainrule.convex import load_problem
    >>> study = convergence(load_problem("hinge_iris"), [10, 100])
    >>> study.holds, study.assumed
    (True, True)
    >>> [round(point.bound, 3) for point in study.points]
    [5.983, 1.892]
    """
    where = "convergence"
    wanted = [steps] if not isinstance(steps, Sequence) else steps
    counts = sorted({check_whole(where, "steps", each, 1) for each in wanted})
    if not counts:
        raise InputError(explain(where, "steps", "hold a number of steps", "none"))
    chosen = setting(where, problem, variant, eta, radius, rho)
    repeats = check_whole(where, "runs", runs, 2) if VARIANTS[variant].stochastic else 1
    done = [run(where, problem, count, chosen, repeats, rng, _KEEP) for count in counts]
    minimum, longest = problem.minimum, done[-1]
    last_eta = chosen.eta_for(counts[-1])
    return Convergence(
        problem=problem.name,
        about=problem.about,
        variant=variant,
        dimension=problem.dimension,
        num_terms=problem.num_terms,
        runs=repeats,
        radius=chosen.radius,
        rho=chosen.rho,
        w_star_norm=float(np.linalg.norm(minimum.w)),
        f_star=minimum.value,
        f_star_gap=minimum.gap,
        f_zero=problem.value(np.zeros(problem.dimension)),
        method=minimum.method,
        points=tuple(
            _point(problem, count, chosen, each) for count, each in zip(counts, done, strict=True)
        ),
        assumptions=_assumptions(problem, counts, chosen, done),
        times=longest.times,
        gaps=longest.average_values.mean(axis=0) - minimum.value,
        bounds=chosen.radius**2 / (2 * last_eta * longest.times) + last_eta * chosen.rho**2 / 2,
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _point(problem: Problem, steps: int, chosen: Setting, done: Runs) -> ConvergencePoint:
    eta, minimum = chosen.eta_for(steps), problem.minimum
    gaps = done.average_values[:, -1] - minimum.value
    count = len(gaps)
    start = float(minimum.w @ minimum.w) / (2 * eta * steps)
    return ConvergencePoint(
        steps=steps,
        eta=eta,
        gap=float(gaps.mean()),
        standard_error=float(gaps.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0,
        mean_excess=float(done.mean_excess.mean()),
        mean_inner=float(done.mean_inner.mean()),
        regret=start + eta / 2 * float(done.mean_square.mean()),
        bound=chosen.bound(steps),
        largest_gradient=float(done.largest_gradient.max()),
        largest_norm=float(done.largest_norm.max()),
    )


def _assumptions(
    problem: Problem, counts: Sequence[int], chosen: Setting, done: Sequence[Runs]
) -> tuple[Assumption, ...]:
    """What the proof uses, in the order in which it does."""
    minimum, kind = problem.minimum, VARIANTS[chosen.variant]
    scale = 1e-9 * max(1.0, abs(minimum.value), *(float(abs(each.values).max()) for each in done))
    convexity = min(float(each.least_convexity.min()) for each in done)
    lowest = min(float(min(each.values.min(), each.average_values.min())) for each in done)
    norm = float(np.linalg.norm(minimum.w))
    steepest = max(float(each.largest_gradient.max()) for each in done)
    what = "f_t" if kind.stochastic else "f"

    def shown(value: float) -> str:
        return number(0.0 if abs(value) < scale else value)

    found = [
        Assumption(
            f"{what} is convex",
            convexity >= -scale,
            f"<w_t - w*, v_t> - ({what}(w_t) - {what}(w*)) is {shown(convexity)} or more",
        ),
        Assumption(
            "w* minimises f",
            lowest >= minimum.value - scale,
            f"the lowest f met is {shown(lowest - minimum.value)} above f(w*)",
        ),
        Assumption(
            "|w*| <= B",
            norm <= chosen.radius * (1 + 1e-12),
            f"{number(norm)} <= {number(chosen.radius)}",
        ),
        Assumption(
            "|v_t| <= rho",
            steepest <= chosen.rho * (1 + 1e-9),
            f"{number(steepest)} <= {number(chosen.rho)}",
        ),
    ]
    limit = problem.largest_eta(kind.stochastic)
    if math.isfinite(limit):
        largest = max(chosen.eta_for(count) for count in counts)
        found.append(
            Assumption(
                "eta <= eta_max",
                largest <= limit * (1 + 1e-12),
                f"{number(largest)} <= {number(limit)}, up to which rho is proved",
            )
        )
    return tuple(found)
