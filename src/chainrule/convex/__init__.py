"""Gradient descent and its theorems, run rather than believed.

Problems are means of convex terms, with proven bounds on their subgradients and minimisers found
and certified without descent. `convergence` runs descent on them, full, projected or stochastic,
and holds it against the bound; `regret_bound`, `proximal_step` and `sgd_step_may_ascend` do the
same for the lemma, for the origin of the gradient step, and for the limits of stochastic ones.
"""

from __future__ import annotations

from chainrule.convex.ascent import Ascent, AscentTrials, sgd_step_may_ascend, simulate_sgd_step
from chainrule.convex.catalog import PROBLEMS, load_problem
from chainrule.convex.convergence import Assumption, Convergence, ConvergencePoint, convergence
from chainrule.convex.descent import VARIANTS, Descent, gradient_descent, step_size
from chainrule.convex.linear import LinearModel
from chainrule.convex.problems import FunctionProblem, Minimum, Problem
from chainrule.convex.proximal import ProximalStep, proximal_step
from chainrule.convex.regret import RegretBound, regret_bound
from chainrule.convex.shapes import GeometricMedian, LargestDeviation, QuadraticBowl

__all__ = [
    "PROBLEMS",
    "VARIANTS",
    "Ascent",
    "AscentTrials",
    "Assumption",
    "Convergence",
    "ConvergencePoint",
    "Descent",
    "FunctionProblem",
    "GeometricMedian",
    "LargestDeviation",
    "LinearModel",
    "Minimum",
    "Problem",
    "ProximalStep",
    "QuadraticBowl",
    "RegretBound",
    "convergence",
    "gradient_descent",
    "load_problem",
    "proximal_step",
    "regret_bound",
    "sgd_step_may_ascend",
    "simulate_sgd_step",
    "step_size",
]
