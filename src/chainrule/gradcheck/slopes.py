"""The slope of a function along a line, with an estimate of its error, and kinks recognised.

One number decides whether a gradient is called wrong, so it has to say how far it can be trusted.
Along a line a function is sampled at three steps on each side. Richardson extrapolation of the
three central differences gives the slope, and what the last extrapolation changed is its error.
The sweep starts at a coarse step, where rounding is small, and goes down until the error is small
or the steps run out; the slope with the smallest error is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Slope", "slope_along"]

Line = Callable[[float], np.ndarray]
"""Position on a line -> what the function gives there, times the gradient from above; 1-D."""

EPS = float(np.finfo(np.float64).eps)
COARSEST = 10  # the first step is 2**-10: truncation after extrapolation near 1e-13
FINEST = 34
DIVIDE = 3  # each sweep begins at an eighth of the step of the one before
GOOD = 1e-10  # relative error at which no finer step is tried
JUMP = 1e-5  # a jump of the slope, relative to it, that is a kink and not curvature


@dataclass(frozen=True)
class Slope:
    """What is known of the derivative along a line.

    Parameters
    ----------
    value : float
        The derivative; at a kink the mean of those from the two sides.
    error : float
        How far it may be off.
    kink : bool
        Whether the function has no derivative here, or a kink closer than the finest step.
    low, high : float
        Between these lies every subgradient; the value itself, plus and minus the error, where
        there is no kink.
    """

    value: float
    error: float
    kink: bool
    low: float
    high: float


def slope_along(line: Line, base: np.ndarray, scale: float = 1.0) -> Slope:
    """Differentiate at 0 a function of one variable, by a sweep of central differences.

    Parameters
    ----------
    line : callable
        The function; its values are 1-D and their sum is what is differentiated. They come apart
        so that kinks which cancel in the sum are still seen.
    base : ndarray
        Its value at 0.
    scale : float, default 1.0
        Size of the first step times 1024; a power of two keeps positions exact.

    Returns
    -------
    Slope
        The derivative, its error, and whether there is a kink.
    """
    noise = 4 * EPS * float(np.linalg.norm(base)) + np.finfo(np.float64).tiny
    best: Slope | None = None
    kink: Slope | None = None
    for exponent in range(COARSEST, FINEST, DIVIDE):
        step = scale * 2.0**-exponent
        found = _sweep(line, base, step, noise)
        if found is None:
            continue
        if found.kink:
            if kink is None or exponent <= COARSEST + 4 * DIVIDE:  # finer ones are mostly noise
                kink = found
            continue
        if best is None or found.error < best.error:
            best = found
        if best.error <= GOOD * abs(best.value):
            return best
        if best.error <= 8 * noise / (scale * 2.0**-COARSEST):
            return best  # rounding only: finer steps are worse
        if found.error > 64 * best.error:
            break
    if best is not None and kink is not None:
        # Seen to be smooth at finer steps, unless rounding is all that is seen there.
        reach = 0.25 * (kink.high - kink.low)
        return best if best.error < reach else kink
    return best or kink or Slope(np.nan, np.inf, True, -np.inf, np.inf)


def _sweep(line: Line, base: np.ndarray, step: float, noise: float) -> Slope | None:
    """Extrapolate from a step, its half and its quarter; None where a value is not finite."""
    differences, jumps, sides = [], [], 0.0
    with np.errstate(all="ignore"):
        for h in (step, step / 2, step / 4):
            above, below = line(h), line(-h)
            differences.append(float(np.sum((above - below) / (2 * h))))
            jumps.append((above + below - 2 * base) / h)
            sides = float(np.sum(np.abs(above - base)) + np.sum(np.abs(base - below))) / (2 * h)
        first, second = ((4 * b - a) / 3 for a, b in itertools.pairwise(differences))
        value = (16 * second - first) / 15
        error = abs(second - first) + 4 * noise / step
        jump = float(np.sum(np.abs(2 * jumps[2] - jumps[1])))  # that at a step of 0
    if not np.isfinite(value + error + jump):
        return None
    rounding = 16 * EPS * float(np.sum(np.abs(base))) / step + 16 * noise / step
    if jump > JUMP * sides + rounding:
        centre = differences[2]
        reach = jump / 2 + 1e-9 * abs(centre) + rounding
        return Slope(centre, reach, True, centre - reach, centre + reach)
    return Slope(value, error, False, value - error, value + error)
