"""``chainrule descend``: gradient descent beside its bound, and the theorems around it.

Nothing is imported before the command runs, as for all commands.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chainrule.cli.parser import Command, argument, choice
from chainrule.errors import ConfigError

if TYPE_CHECKING:
    from chainrule.convex import AscentTrials, Convergence

__all__ = ["DESCEND"]

PLACES = (-2.0, -0.5, -0.1, 0.0, 0.1, 0.5, 2.0)


def _whole(least: int) -> Callable[[str], int]:
    """Return a converter that admits whole numbers from `least` on."""

    def convert(word: str) -> int:
        if not word.lstrip("-").isdecimal() or int(word) < least:
            raise argparse.ArgumentTypeError(f"{word!r} is no whole number of {least} or more")
        return int(word)

    return convert


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{word!r} is no number")
    return value


def _positive(word: str) -> float:
    if (value := _number(word)) <= 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not positive")
    return value


def _descend(options: Namespace) -> int:
    """Hold gradient descent against its bound."""
    from chainrule.cli import output
    from chainrule.convex import convergence, gradient_descent, load_problem

    if options.list:
        _list(options.json)
        return 0
    if options.problem is None:
        remedy = "See which there are: chainrule descend --list"
        raise ConfigError(f"descend: PROBLEM must be given. {remedy}")
    files = _check_files(options)
    problem = load_problem(options.problem)
    given = {
        "variant": options.variant,
        "eta": options.eta,
        "radius": options.radius,
        "rho": options.rho,
    }
    study = convergence(
        problem, _counts(options.steps), runs=options.runs, rng=_rng(options.seed), **given
    )
    output.show_record(str(study), _as_json(study), options.json)
    if files:
        from chainrule.report import animate_descent, descent_figure, save_figure

        descent = gradient_descent(problem, options.steps, rng=_rng(options.seed), **given)
        if options.figure is not None:
            save_figure(descent_figure(study, problem, descent), options.figure)
        if options.animate is not None:
            animate_descent(problem, descent, options.animate)
    for kind, file in files:
        output.say(f"{kind} written to {file}")
    return 0


def _ascent(options: Namespace) -> int:
    """Show that a stochastic step may go up."""
    from chainrule.cli import output
    from chainrule.convex import sgd_step_may_ascend, simulate_sgd_step

    files = _check_files(options)
    places = options.places or list(PLACES)
    exact = sgd_step_may_ascend(places, options.eta)
    rng = _rng(options.seed)
    trials = [simulate_sgd_step(w, options.eta, options.trials, rng) for w in places]
    rows = [
        row | {"simulated_frequency": trial.frequency, "simulated_change": trial.mean_change}
        for row, trial in zip(exact.rows(), trials, strict=True)
    ]
    text = f"""\
f(w) = f1(w) + f2(w),  f1(w) = -ln(1 - s(w)),  f2(w) = -ln(s(w)),  s(w) = 1/(1 + exp(-w))
A step draws f1 or f2, each with probability 1/2, and descends that one alone.

{exact}

P(up)     probability that f increases
f1 drawn  change of f, if f1 is drawn; f2 drawn likewise
mean up   mean increase, a decrease counting as 0
mean      mean change
full      change by a step along the gradient of (f1 + f2)/2
eta_c     for larger steps than this both terms lead up

{options.trials:,} simulated steps from each w:

{_simulated(places, trials)}"""
    output.show_record(text, rows, options.json)
    for kind, file in files:
        from chainrule.report import ascent_figure, save_figure

        save_figure(ascent_figure(), file)
        output.say(f"{kind} written to {file}")
    return 0


def _simulated(places: list[float], trials: list[AscentTrials]) -> str:
    lines = [f"{'w':>8}  {'share up':>8}  {'mean up':>9}  {'mean':>10}  {'+-':>9}"]
    lines += [
        f"{w:8g}  {one.frequency:8.4f}  {one.mean_ascent:9.3g}  {one.mean_change:10.3g}"
        f"  {one.standard_error:9.2g}"
        for w, one in zip(places, trials, strict=True)
    ]
    return "\n".join(lines)


def _proximal(options: Namespace) -> int:
    """Show that a gradient step minimises a model."""
    import numpy as np

    from chainrule.cli import output
    from chainrule.convex import load_problem, proximal_step

    problem = load_problem(options.problem)
    w = np.zeros(problem.dimension)
    for _ in range(options.after):
        w = w - problem.subgradient(w) / options.lam
    step = proximal_step(w, problem.subgradient(w), options.lam, problem.value(w))
    text = f"""\
{problem.name}: {problem.about}
The minimum of  f(w) + <u - w, g> + (lambda/2) |u - w|^2  over u, found three ways:

{step}"""
    record = {
        "problem": problem.name,
        "lambda": step.lam,
        "eta": step.eta,
        "difference": step.difference,
        "excess": step.excess,
        "coordinates": step.rows(),
    }
    output.show_record(text, record, options.json)
    return 0


def _list(as_json: bool) -> None:
    """Show the problems there are."""
    from chainrule.cli import output
    from chainrule.convex import PROBLEMS

    known = {name: about for name, (about, _) in PROBLEMS.items()}
    width = max(map(len, known))
    text = "\n".join(f"{name:{width}}  {about}" for name, about in known.items())
    output.show_record(text, known, as_json)


def _check_files(options: Namespace) -> list[tuple[str, str]]:
    """Refuse what cannot be written before anything is computed; kind and name of the others."""
    files = []
    if options.figure is not None:
        from chainrule.report import figure_format

        figure_format(options.figure)
        files.append(("figure", options.figure))
    if getattr(options, "animate", None) is not None:
        if not options.animate.lower().endswith(".gif"):
            name = repr(options.animate)
            raise ConfigError(f"descend: the file for --animate must end in .gif; got {name}.")
        files.append(("animation", options.animate))
    return files


def _counts(steps: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 and so on, up to `steps` and with it."""
    decades = range(len(str(steps)))
    return [n for d in decades for m in (1, 2, 5) if (n := m * 10**d) < steps] + [steps]


def _rng(seed: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed)


def _as_json(study: Convergence) -> dict[str, Any]:
    curves = {name: getattr(study, name).tolist() for name in ("times", "gaps", "bounds")}
    derived = {
        "points": study.rows(),
        "holds": study.holds,
        "assumed": study.assumed,
        "informative_from": study.informative_from,
        "verdict": study.verdict,
    }
    return dataclasses.asdict(study) | derived | curves


JSON = argument("--json", action="store_true", help="print JSON, for programs")
SEED = argument(
    "--seed",
    metavar="N",
    type=_whole(0),
    default=0,
    help="where random numbers come from (default: 0)",
)
FIGURE = argument("--figure", metavar="FILE", help="draw it: .png, .svg or .pdf")

DESCEND = (
    Command(
        "descend",
        "Descend a convex function, and hold it against the theorem.",
        "PROBLEM [options]\n       chainrule descend --list",
        _descend,
        (
            argument("problem", metavar="PROBLEM", nargs="?", help="a name that --list shows"),
            argument("--list", action="store_true", help="list the problems"),
            argument(
                "--steps",
                metavar="T",
                type=_whole(1),
                default=1000,
                help="number of steps; fewer ones are tried as well (default: 1000)",
            ),
            argument(
                "--variant",
                metavar="VARIANT",
                type=choice("full", "projected", "stochastic", "projected_stochastic"),
                default="full",
                help="full (default), projected, stochastic or projected_stochastic",
            ),
            argument(
                "--eta",
                metavar="ETA",
                type=_positive,
                help="step size for every T (default: B / (rho sqrt(T)))",
            ),
            argument(
                "--radius",
                metavar="B",
                type=_positive,
                help="radius of the ball (default: the norm of the minimiser, rounded up)",
            ),
            argument(
                "--rho",
                metavar="RHO",
                type=_positive,
                help="bound on subgradients (default: the one proved for the problem)",
            ),
            argument(
                "--runs",
                metavar="N",
                type=_whole(2),
                default=20,
                help="runs that stochastic variants are averaged over (default: 20)",
            ),
            SEED,
            FIGURE,
            argument("--animate", metavar="FILE", help="write an animation: .gif"),
            JSON,
        ),
        (
            "chainrule descend hinge_cancer --steps 10000",
            "chainrule descend geometric_median --variant stochastic --figure path.svg",
            "chainrule descend worst_case --steps 100",
            "chainrule descend line --steps 300 --animate line.gif",
        ),
    ),
    Command(
        "descend ascent",
        "Show how a stochastic step may go up, exactly and simulated.",
        "[W ...] [options]",
        _ascent,
        (
            argument(
                "places",
                metavar="W",
                nargs="*",
                type=_number,
                help="where the step begins (default: seven places around 0)",
            ),
            argument(
                "--eta", metavar="ETA", type=_positive, default=0.5, help="step size (default: 0.5)"
            ),
            argument(
                "--trials",
                metavar="N",
                type=_whole(2),
                default=10_000,
                help="simulated steps from each W (default: 10000)",
            ),
            SEED,
            FIGURE,
            JSON,
        ),
        ("chainrule descend ascent -1 0 0.25 --eta 1 --figure ascent.png",),
    ),
    Command(
        "descend proximal",
        "Show that a gradient step is the minimum of a model.",
        "[PROBLEM] [options]",
        _proximal,
        (
            argument(
                "problem",
                metavar="PROBLEM",
                nargs="?",
                default="bowl",
                help="a name that chainrule descend --list shows (default: bowl)",
            ),
            argument(
                "--lam",
                metavar="LAMBDA",
                type=_positive,
                default=3.0,
                help="weight of the penalty; the step size is 1 over it (default: 3)",
            ),
            argument(
                "--after",
                metavar="T",
                type=_whole(0),
                default=0,
                help="begin where this many steps from 0 lead (default: 0)",
            ),
            JSON,
        ),
        ("chainrule descend proximal logistic_iris --lam 3 --after 10",),
    ),
)
