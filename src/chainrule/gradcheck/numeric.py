"""Numerical gradients by central differences, and the error measure to compare them with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.errors import InputError, ShapeError, explain

__all__ = ["numeric_gradient", "relative_error"]


def numeric_gradient(
    f: Callable[[np.ndarray], Any],
    x: ArrayLike,
    dout: ArrayLike | None = None,
    h: float | None = None,
) -> np.ndarray:
    """Differentiate a function numerically, by central differences in float64.

    Parameters
    ----------
    f : callable
        Takes a float64 array of the shape of x and returns a scalar, or an array if `dout` is
        given. It is called twice for each element of x, always with the same array object,
        which it must not modify.
    x : array_like, any shape
        Where to differentiate. It is copied to float64 and never modified.
    dout : array_like, shape of f(x), optional
        Gradient of a final scalar by f(x). With it, the result is the gradient of
        ``sum(f(x) * dout)``. Required if f returns more than one number.
    h : float, optional
        Half of the distance between the two points, above 0. By default
        ``6.06e-6 max(1, |x_i|)`` for each element, the cube root of float64's precision.

    Returns
    -------
    ndarray, shape of x, float64
        The gradient.

    Raises
    ------
    InputError
        If h is not above 0, or f returns an array and `dout` is not given.
    ShapeError
        If dout has another shape than f(x).

    Notes
    -----
    ``(f(x + h e_i) - f(x - h e_i)) / (2 h)`` is off by ``h^2 f''' / 6`` by truncation and by about
    ``1e-16 |f| / h`` by rounding; the default h balances the two, for an error near 1e-10 where
    f and its derivatives are near 1. Next to a kink the result is meaningless. The cost is two
    calls of f for each element.

    References
    ----------
    .. [1] W. H. Press et al., "Numerical Recipes", 3rd edition, 2007, section 5.7.

    Examples
    --------
    >>> import numpy as np
    >>> numeric_gradient(lambda x: float((x**3).sum()), np.array([1.0, 2.0])).round(6)
    array([ 3., 12.])
    >>> numeric_gradient(np.sin, np.zeros(2), dout=np.array([1.0, 10.0])).round(6)
    array([ 1., 10.])
    """
    if h is not None and not h > 0:
        raise InputError(explain("numeric_gradient", "h", "be above 0", h))
    probe = np.array(x, dtype=np.float64, order="C")
    cotangent = None if dout is None else np.asarray(dout, dtype=np.float64)
    gradient = np.empty_like(probe)
    elements, slopes = probe.reshape(-1), gradient.reshape(-1)  # views of the two
    for i in range(elements.size):
        centre = elements[i]
        step = h if h is not None else np.cbrt(np.finfo(np.float64).eps) * max(1.0, abs(centre))
        above, below = centre + step, centre - step
        elements[i] = above
        f_above = _evaluate(f, probe, cotangent)
        elements[i] = below
        f_below = _evaluate(f, probe, cotangent)
        elements[i] = centre
        difference = f_above - f_below
        if cotangent is not None:
            difference = difference * cotangent
        slopes[i] = np.sum(difference) / (above - below)  # the distance that floats really have
    return gradient


def _evaluate(
    f: Callable[[np.ndarray], Any], probe: np.ndarray, cotangent: np.ndarray | None
) -> np.ndarray:
    """Call f and keep a copy of what it returns, which might be a view of the probe."""
    value = np.array(f(probe), dtype=np.float64)
    if cotangent is None:
        if value.size != 1:
            rule = f"be given for a function that returns shape {value.shape}"
            remedy = "It is the gradient of a final scalar by f(x)."
            raise InputError(explain("numeric_gradient", "dout", rule, None, remedy))
    elif value.shape != cotangent.shape:
        rule = f"have the shape of f(x), {value.shape}"
        raise ShapeError(explain("numeric_gradient", "dout", rule, cotangent.shape))
    return value


def relative_error(a: ArrayLike, b: ArrayLike) -> float:
    """Measure how far two arrays are apart, relative to their size, element by element.

    Parameters
    ----------
    a, b : array_like, same shape
        What to compare, such as an analytic and a numerical gradient.

    Returns
    -------
    float
        The largest ``|a - b| / max(1e-8, |a| + |b|)``: 0 for equal arrays, 1 for opposite signs,
        0.0 for empty arrays, NaN if a NaN or an infinity is among the elements.

    Raises
    ------
    ShapeError
        If the shapes differ.

    Notes
    -----
    The measure of the CS231n assignments. Below 1e-7 a gradient is right, above 1e-2 wrong; in
    between it depends on kinks and on the dtype (for float32, 1e-3 may be as good as it gets).
    Elements near zero are judged as strictly as large ones, down to 1e-8.

    References
    ----------
    .. [1] Stanford CS231n course notes, "Learning: gradient checks".

    Examples
    --------
    >>> relative_error([1.0, 2.0], [1.0, 2.0])
    0.0
    >>> relative_error([1.0], [3.0])
    0.5
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape:
        rule = f"have the shape of a, {left.shape}"
        raise ShapeError(explain("relative_error", "b", rule, right.shape))
    if left.size == 0:
        return 0.0
    with np.errstate(invalid="ignore"):  # inf - inf is the NaN that is asked for
        scale = np.maximum(1e-8, np.abs(left) + np.abs(right))
        return float(np.max(np.abs(left - right) / scale))
