"""Run the theorems of gradient descent on real data, and one where they are exact.

    python examples/descend_with_bounds.py --out out

For a convex function, B >= |w*| and rho >= |gradient|, the mean of T steps of gradient descent is
within B rho / sqrt(T) of the minimum. Here that is measured: on a support vector machine, on a
function that leaves the bound nothing to spare, and on one of one's own that breaks what the
theorem assumes. Then the step itself, and why a stochastic one may go up.
"""

import argparse
from pathlib import Path

import numpy as np

from chainrule import convex, report


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)

    # Hinge loss on scikit-learn's breast cancer data; w* comes from another solver, with a proof.
    machine = convex.load_problem("hinge_cancer")
    minimum = machine.minimum
    print(f"f(w*) = {minimum.value:.9f}, off by {minimum.gap:.0e} at most")
    for variant in ("full", "stochastic"):
        study = convex.convergence(machine, [10, 100, 1000], variant=variant, rng=rng)
        for point in study.points:
            print(f"{variant:10} T {point.steps:5}  gap {point.gap:.4f} <= {point.bound:.4f}")
        print(study.verdict)
    report.descent_figure(study).savefig(out / "stochastic_descent.png")

    # The bound cannot be improved: in T dimensions, the largest of |w_i - c| attains it.
    worst = convex.LargestDeviation("worst", np.full(49, 2.0))
    (point,) = convex.convergence(worst, 49).points
    print(f"\nworst case: gap {point.gap:.6f}, bound {point.bound:.6f}")

    # What is assumed is measured too. This one is not convex.
    waves = convex.FunctionProblem(
        "waves",
        lambda w: float(1 - np.cos(3 * (w[0] - 1))),
        lambda w: 3 * np.sin(3 * (w - 1)),
        w_star=[1.0],
        rho=3.0,
    )
    print(convex.convergence(waves, 100).verdict)

    # A picture of the path, for a function with kinks: a line fitted to points with an outlier.
    line = convex.load_problem("line")
    descent = convex.gradient_descent(line, 200)
    report.path_figure(line, descent).savefig(out / "path.png")

    # The step: lambda = 3 means eta = 1/3, says a general minimiser.
    step = convex.proximal_step([1.0, -2.0], gradient=[3.0, 6.0], lam=3.0)
    print(f"\nminimiser {step.minimised.round(9) + 0.0}, w - g/3 = {step.closed_form}")

    # The lemma holds for any vectors; what it leaves is the last distance over 2 eta.
    regret = convex.regret_bound(rng.normal(size=(50, 3)), w_star=rng.normal(size=3), eta=0.1)
    print(f"lemma: {regret.left:.4f} <= {regret.right:.4f}, {regret.gap:.4f} = {regret.slack:.4f}")

    # Why stochastic steps may go up: at the minimum of f1 + f2, both lead away.
    for w in (0.0, 0.2, 2.0):
        ascent = convex.sgd_step_may_ascend(w, eta=0.5)
        mean = f"mean change {ascent.expected_change:+.4f}"
        print(f"w = {w}: up with probability {ascent.probability}, {mean}")
    report.ascent_figure().savefig(out / "ascent.png")
    for name in ("stochastic_descent", "path", "ascent"):
        print(out / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    main(parser.parse_args().out)
