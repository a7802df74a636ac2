"""Differentiation by evaluating a function at neighbouring points: Jacobians from differences.

Independent of everything else in this room: no rule and no tracing takes part.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from chainrule.errors import DTypeError, InputError, ShapeError, explain

__all__ = ["jacobian", "richardson"]

Function = Callable[[Any], Any]
Evaluate = Callable[..., Any]
Index = tuple[int, ...]
Method = Literal["central", "forward", "backward", "richardson", "complex"]
METHODS = ("central", "forward", "backward", "richardson", "complex")

EPS = float(np.finfo(np.float64).eps)
FIRST_STEP = 0.1  # of Ridders' sequence, by which the function should change noticeably
SHRINK = 2.0  # each step of the sequence is this much smaller than the one before
ROUNDS = 12  # the last step is FIRST_STEP / 2^11, about 5e-5
COMPLEX_STEP = 1e-20  # survives float32; its square is far below the precision of any float


def jacobian(
    f: Function, x: ArrayLike, method: Method = "central", step: float | None = None
) -> np.ndarray:
    """Compute the Jacobian of a function from differences, in float64.

    Parameters
    ----------
    f : callable
        Takes an array in the shape of x (a number if x is one) and returns a real array of any
        shape, always the same. Each call gets an array of its own.
    x : array_like, any shape
        Where to differentiate: finite real numbers, taken as float64.
    method : {"central", "forward", "backward", "richardson", "complex"}, default "central"
        Which differences to take; see the notes.
    step : float, optional
        The step h, above 0. By default it depends on the method and on each element of x.

    Returns
    -------
    ndarray, shape ``f(x).shape + x.shape``, float64
        ``J[i..., j...] = d f(x)[i...] / d x[j...]``.

    Raises
    ------
    InputError
        If `method` or `step` is not valid, if x, or f at x or at a neighbouring point, is not
        finite, or if f is not analytic at x or does not take complex numbers (complex only).
    DTypeError
        If x or f(x) is not real.
    ShapeError
        If f returns arrays of different shapes.

    See Also
    --------
    richardson : The method "richardson", with an estimate of its error.

    Notes
    -----
    With eps = 2.2e-16 and s = max(1, abs(x_j)) the methods and their default steps are:

    ============  ======================================  =====================  ================
    method        difference                              step                   error
    ============  ======================================  =====================  ================
    forward       (f(x + h) - f(x)) / h                   eps^(1/2) s            h f''/2, 1e-8
    backward      (f(x) - f(x - h)) / h                   eps^(1/2) s            h f''/2, 1e-8
    central       (f(x + h) - f(x - h)) / (2 h)           eps^(1/3) s            h^2 f'''/6, 1e-10
    richardson    central ones, extrapolated to h = 0     0.1 s, 0.05 s, ...     1e-12
    complex       Im f(x + i h) / h                       1e-20 abs(x_j)         h^2 f'''/6, 1e-16
    ============  ======================================  =====================  ================

    The steps of the first three balance this error against that of rounding, eps f / h [1]_. The
    complex step [2]_ subtracts nothing, so that its step may be as small as one likes; but f must
    be analytic: made of operations that a complex number passes through, without ``abs``,
    comparisons or ``maximum`` where they matter. This is checked against differences to both
    sides with a relative step of 1e-8, so that functions are found out whose derivatives differ
    by more than a few per cent.

    References
    ----------
    .. [1] W. H. Press et al., "Numerical Recipes", 3rd edition, 2007, section 5.7.
    .. [2] W. Squire and G. Trapp, "Using complex variables to estimate derivatives of real
       functions", SIAM Review 40, 1998; J. R. R. A. Martins, P. Sturdza and J. J. Alonso, "The
       complex-step derivative approximation", ACM TOMS 29, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import numeric
    >>> numeric.jacobian(lambda x: x**2, np.array([1.0, 2.0]), method="complex")
    array([[2., 0.],
           [0., 4.]])
    >>> float(numeric.jacobian(np.exp, 0.0, method="forward", step=0.01).round(6))
    1.005017
    """
    if method not in METHODS:
        rule = f"be one of {', '.join(map(repr, METHODS))}"
        raise InputError(explain("jacobian", "method", rule, repr(method)))
    if method == "richardson":
        return richardson(f, x, step)[0]
    point, evaluate = _prepare("jacobian", f, x, step)
    if method == "complex":
        return _complex_jacobian(f, point, evaluate, step)
    start = evaluate(point)
    columns = []
    power = 1 / 3 if method == "central" else 1 / 2
    for j, centre in _elements(point):
        h = EPS**power * max(1.0, abs(centre)) if step is None else step
        above, below = _neighbours("jacobian", centre, h)
        if method == "forward":
            difference, width = evaluate(point, j, above) - start, above - centre
        elif method == "backward":
            difference, width = start - evaluate(point, j, below), centre - below
        else:
            difference = evaluate(point, j, above) - evaluate(point, j, below)
            width = above - below
        columns.append(difference / width)  # by the distance that floats really have
    return _assemble(columns, start, point)


def richardson(
    f: Function, x: ArrayLike, step: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a Jacobian by extrapolating central differences, and estimate its error.

    Parameters
    ----------
    f : callable
        Takes an array in the shape of x (a number if x is one) and returns a real array of any
        shape, always the same.
    x : array_like, any shape
        Where to differentiate: finite real numbers, taken as float64.
    step : float, optional
        The largest step, by which f should change noticeably, above 0. By default
        ``0.1 max(1, abs(x_j))``, and where that reaches across 0 also ``0.1 abs(x_j)``; divided
        by ten as often as f is not finite there.

    Returns
    -------
    jacobian : ndarray, shape ``f(x).shape + x.shape``, float64
        The extrapolated differences.
    error : ndarray, same shape, float64
        For each element the estimate of its error by which it was chosen from the table.

    Raises
    ------
    InputError
        If `step` is not above 0, or if x, or f at x and close to it, is not finite.
    DTypeError
        If x or f(x) is not real.
    ShapeError
        If f returns arrays of different shapes.

    Notes
    -----
    Ridders' method [1]_ [2]_: with ``D_k(0)`` the central difference for the step ``h / 2^k``,
    the table ``D_k(m) = D_k(m-1) + (D_k(m-1) - D_{k-1}(m-1)) / (4^m - 1)`` cancels one power of
    h^2 with each column. The error of an entry is estimated by the larger of its distances to the
    two that it was made of, and is at least that of rounding, ``eps f / (h / 2^k)``; the entry
    with the smallest is taken, for each element of its own. The cost is 24 calls of f for each
    element of x, or 48.

    The whole table is searched, where the reference stops at the first sign of rounding: so it
    finds the derivative of ``abs(x)`` also at 0.01, whose first steps reach across the kink.

    References
    ----------
    .. [1] C. J. F. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in
       Engineering Software 4, 1982.
    .. [2] W. H. Press et al., "Numerical Recipes", 3rd edition, 2007, section 5.7, ``dfridr``.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import numeric
    >>> slope, error = numeric.richardson(np.exp, 1.0)
    >>> bool(abs(slope - np.e) < 1e-11), bool(error < 1e-10)
    (True, True)
    """
    point, evaluate = _prepare("richardson", f, x, step)
    start = evaluate(point)
    columns, errors = [], []
    for j, centre in _elements(point):
        first = FIRST_STEP * max(1.0, abs(centre)) if step is None else step
        adapt = step is None
        best, error = _extrapolate(*_differences(evaluate, point, j, centre, first, adapt))
        if adapt and 0 < abs(centre) < first:  # a pole or kink at 0 would be within reach
            closer = FIRST_STEP * abs(centre)
            other, its_error = _extrapolate(
                *_differences(evaluate, point, j, centre, closer, adapt)
            )
            best = np.where(its_error < error, other, best)
            error = np.minimum(its_error, error)
        columns.append(best)
        errors.append(error)
    return _assemble(columns, start, point), _assemble(errors, start, point)


# --- Ridders' table -------------------------------------------------------------------------


def _differences(
    evaluate: Evaluate, point: np.ndarray, j: Index, centre: float, h: float, adapt: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Central differences for a falling sequence of steps, and what rounding makes of them."""
    slopes: list[np.ndarray] = []
    rounding: list[np.ndarray] = []
    while len(slopes) < ROUNDS:
        above, below = _neighbours("richardson", centre, h)
        # Where nothing was found yet, f is looked for closer to x, until steps drown in rounding.
        strict = bool(slopes) or not adapt or h < 1e-8 * abs(centre) or h < 1e-16
        ahead, behind = evaluate(point, j, above, strict), evaluate(point, j, below, strict)
        if ahead is None or behind is None:
            h /= 10
            continue
        slopes.append((ahead - behind) / (above - below))
        rounding.append(EPS * np.maximum(np.abs(ahead), np.abs(behind)) / h)
        h /= SHRINK
    return slopes, rounding


def _extrapolate(
    slopes: list[np.ndarray], rounding: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The entry of Ridders' table with the smallest estimated error, element by element."""
    best = slopes[0]
    error = np.full(best.shape, np.inf)
    before = [slopes[0]]
    for slope, least in zip(slopes[1:], rounding[1:], strict=True):
        row = [slope]
        factor = 1.0
        for previous in before:
            factor *= SHRINK**2
            entry = row[-1] + (row[-1] - previous) / (factor - 1)
            estimate = np.maximum(np.abs(entry - row[-1]), np.abs(entry - previous))
            estimate = np.maximum(estimate, least)
            better = estimate < error
            best, error = np.where(better, entry, best), np.where(better, estimate, error)
            row.append(entry)
        before = row
    return best, error


# --- the complex step -----------------------------------------------------------------------


def _complex_jacobian(
    f: Function, point: np.ndarray, evaluate: Evaluate, step: float | None
) -> np.ndarray:
    start = evaluate(point)
    columns = []
    for j, centre in _elements(point):
        h = step if step is not None else COMPLEX_STEP * (abs(centre) or 1.0)
        slope = _complex_slope(f, point, j, h, start)
        _check_analytic(evaluate, point, j, centre, start, slope)
        columns.append(slope)
    return _assemble(columns, start, point)


def _complex_slope(
    f: Function, point: np.ndarray, j: Index, h: float, start: np.ndarray
) -> np.ndarray:
    probe = point.astype(np.complex128)
    probe[j] += 1j * h
    remedy = 'Use method="richardson".'
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            out = np.array(f(probe[()]))
    except (TypeError, np.exceptions.ComplexWarning) as error:
        raise InputError(
            explain("jacobian", "f", 'take complex numbers for method="complex"', error, remedy)
        ) from error
    if out.shape != start.shape:
        rule = f"return one shape, {start.shape}"
        raise ShapeError(explain("jacobian", "f", rule, out.shape))
    if out.dtype.kind not in "fiubc":
        raise DTypeError(explain("jacobian", "f", "return numbers", f"dtype {out.dtype}"))
    slope: np.ndarray = np.imag(out) / h
    if not np.all(np.isfinite(slope)):
        rule = "be finite at x + i h"
        raise InputError(explain("jacobian", "f", rule, _first_not_finite(slope), remedy))
    return slope


def _check_analytic(
    evaluate: Evaluate,
    point: np.ndarray,
    j: Index,
    centre: float,
    start: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Compare with differences to both sides, as far as these can tell anything."""
    h = 1e-8 * (abs(centre) or 1.0)
    for neighbour in (centre + h, centre - h):
        near = evaluate(point, j, neighbour, strict=False)
        if near is None:
            continue  # at the border of the domain
        rough = (near - start) / (neighbour - centre)
        rounding = 1e3 * EPS * np.maximum(np.abs(near), np.abs(start)) / h
        wrong = np.abs(rough - slope) > 0.02 * (np.abs(rough) + np.abs(slope)) + rounding
        if np.any(wrong):
            k = tuple(int(n[0]) for n in np.nonzero(wrong)) if wrong.ndim else ()
            raise InputError(
                explain(
                    "jacobian",
                    "f",
                    'be analytic at x for method="complex"',
                    f"{slope[k]:.6g} from the complex step and {rough[k]:.6g} from a difference, "
                    f"at {_name(j)}",
                    "There may be a kink, abs, maximum or a comparison in it; use "
                    'method="richardson".',
                )
            )


# --- evaluation -----------------------------------------------------------------------------


def _prepare(
    where: str, f: Function, x: ArrayLike, step: float | None
) -> tuple[np.ndarray, Evaluate]:
    """Check the arguments; return x and what evaluates f there, with one element replaced."""
    given = np.asarray(x)
    if given.dtype.kind not in "fiub":
        raise DTypeError(explain(where, "x", "be real numbers", f"dtype {given.dtype}"))
    point = given.astype(np.float64)
    if not np.all(np.isfinite(point)):
        raise InputError(explain(where, "x", "be finite", _first_not_finite(point)))
    real = isinstance(step, int | float | np.integer | np.floating) and not isinstance(step, bool)
    if step is not None and not (real and 0 < step < np.inf):
        raise InputError(explain(where, "step", "be a finite number above 0", repr(step)))
    shape: tuple[int, ...] | None = None

    def evaluate(
        at: np.ndarray, j: Index | None = None, value: float = 0.0, strict: bool = True
    ) -> np.ndarray | None:
        """f at a point, with element j replaced; None where it is not finite, unless strict."""
        nonlocal shape
        probe = at.copy()
        if j is not None:
            probe[j] = value
        try:
            with np.errstate(all="ignore"):  # what comes of it is looked at below
                out = np.array(f(probe[()]))
        except (ArithmeticError, ValueError):  # what the functions of `math` raise
            if strict:
                raise
            return None
        if out.dtype.kind not in "fiub":
            raise DTypeError(explain(where, "f", "return real numbers", f"dtype {out.dtype}"))
        if shape is None:
            shape = out.shape
        if out.shape != shape:
            raise ShapeError(explain(where, "f", f"return one shape, {shape}", out.shape))
        out = out.astype(np.float64)
        if np.all(np.isfinite(out)):
            return out
        if not strict:
            return None
        place = "at x" if j is None else f"at {_name(j)} = {value!r}"
        remedy = "" if j is None else "Take a smaller step, or one to the other side."
        raise InputError(explain(where, f"f {place}", "be finite", _first_not_finite(out), remedy))

    return point, evaluate


def _name(j: Index) -> str:
    """What a user calls an element of x."""
    return f"x[{', '.join(map(str, j))}]" if j else "x"


def _first_not_finite(values: np.ndarray) -> float:
    return float(values[~np.isfinite(values)].flat[0])


def _elements(point: np.ndarray) -> Iterator[tuple[tuple[int, ...], float]]:
    """Indices and elements of an array."""
    return ((j, float(point[j])) for j in np.ndindex(point.shape))


def _neighbours(where: str, centre: float, h: float) -> tuple[float, float]:
    above, below = centre + h, centre - h
    if above == centre or below == centre:
        raise InputError(explain(where, "step", f"be large enough to change {centre!r}", h))
    return above, below


def _assemble(columns: list[np.ndarray], start: np.ndarray, point: np.ndarray) -> np.ndarray:
    if not columns:
        return np.zeros(start.shape + point.shape)
    return np.stack(columns, axis=-1).reshape(start.shape + point.shape)
