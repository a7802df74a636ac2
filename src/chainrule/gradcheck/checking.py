"""Is a gradient right? The two functions that answer, one for functions and one for layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.errors import InputError, explain
from chainrule.gradcheck.examination import examine
from chainrule.gradcheck.reports import GradientReport
from chainrule.gradcheck.subject import Inputs, Subject

__all__ = ["check_gradients", "check_layer"]

TOLERANCE = 1e-7
MAX_ELEMENTS = 256


def check_gradients(
    f: Callable[..., Any],
    inputs: Inputs,
    analytic: Any,
    *,
    dout: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    wrt: Sequence[int | str] | None = None,
    tolerance: float = TOLERANCE,
    max_elements: int = MAX_ELEMENTS,
) -> GradientReport:
    """Compare gradients that somebody computed with differences of the function itself.

    Parameters
    ----------
    f : callable
        Called as ``f(*inputs)``, or ``f(**inputs)`` for a mapping; returns a number, or an array
        if `dout` is given.
    inputs : sequence or mapping
        The arguments. Arrays of floats are differentiated by; others are passed on as they are.
    analytic : array_like, sequence, mapping or callable
        The gradients to check, in the order of those arrays, or by their names; a callable is
        called like f and returns them. None in a place leaves that one out.
    dout : array_like, shape of f's result, optional
        Gradient of a final scalar by what f returns.
    rng : numpy.random.Generator, optional
        Draws elements and directions for large arrays; by default with seed 0.
    wrt : sequence of int or str, optional
        Positions or names of the inputs that gradients are given for; by default all of floats.
    tolerance : float, default 1e-7
        The largest relative error that passes.
    max_elements : int, default 256
        Arrays up to this size are compared element by element; of larger ones a sample, and four
        random directions, which see an error anywhere.

    Returns
    -------
    GradientReport
        Whether all is right, the worst element of each input, and what else was noticed.

    Raises
    ------
    InputError
        If there is nothing to differentiate by, or f returns an array and dout is missing.
    ShapeError
        If dout has another shape than what f returns.

    Notes
    -----
    All is computed in float64, whatever dtype the inputs have. The derivative by an element is
    extrapolated from central differences at three steps, starting from ``2^-10 max(1, |x|)`` and
    at an eighth of that again until an error estimate, which comes out as well, is small enough;
    where f accepts complex numbers, ``Im f(x + i h) / h`` refines what is left. With a the
    analytic, n the numeric value and e its error, the relative error is

        ``|a - n| / max(1e-8, |a| + |n|, 4 e / tolerance)``

    which is that of the CS231n assignments, save that a difference below 4 e always passes: tiny
    gradients are not called wrong for the digits that differences lose.

    At a kink (a rectifier at 0, equal elements under a maximum) the one-sided slopes differ at all
    steps. Such elements are counted and left out, if the gradient is between the two; equal
    elements are moved together as well.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 2.0])
    >>> report = check_gradients(lambda x: np.sum(x**3), [x], 3 * x**2)
    >>> report.ok, report.worst < 1e-9
    (True, True)
    >>> print(check_gradients(lambda x: np.sum(x**3), {"x": x}, {"x": 3 * x}))
    function: WRONG
      x: relative error 3.3e-01, 2 of 2 elements
        [1]: 6, but 12 numerically
    """
    if callable(analytic):
        backward = analytic
    else:
        kept = _gradients(analytic, inputs)

        def backward(*_: Any, **__: Any) -> Any:
            return kept

    subject = Subject("check_gradients", f, backward, inputs, layer=False, wrt=wrt)
    return _examined(subject, dout, rng, tolerance, max_elements)


def check_layer(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Inputs,
    *,
    dout: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    wrt: Sequence[int | str] | None = None,
    forward_kwargs: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
    max_elements: int = MAX_ELEMENTS,
) -> GradientReport:
    """Compare a backward pass with differences of its forward.

    Parameters
    ----------
    forward : callable
        Called as ``forward(*inputs)``, or ``forward(**inputs)`` for a mapping; returns
        ``(out, cache)``, and more if it likes.
    backward : callable
        Called as ``backward(dout, cache)``, or ``backward(cache)`` if it takes one argument, as
        that of a loss; returns the gradients by the inputs of floats in their order, or by name
        (``x`` or ``dx``). A single one may come without a tuple. None leaves one out.
    inputs : sequence or mapping
        The arguments. Arrays of floats are differentiated by; others are passed on as they are.
        Generators are copied for each call, so dropout with one repeats its mask.
    dout : array_like, shape of out, optional
        Gradient of a final scalar by out; random by default.
    rng : numpy.random.Generator, optional
        Draws dout, other inputs, elements and directions; by default with seed 0.
    wrt : sequence of int or str, optional
        Positions or names of the inputs that backward differentiates by, if not all of floats.
    forward_kwargs : mapping, optional
        Further arguments of forward that are no inputs, such as ``stride``.
    tolerance : float, default 1e-7
        The largest relative error that passes.
    max_elements : int, default 256
        Arrays up to this size are compared element by element; of larger ones a sample, and four
        random directions.

    Returns
    -------
    GradientReport
        Whether all is right, the worst element of each input, and what else was noticed.

    Raises
    ------
    InputError
        If there is nothing to differentiate by, or forward does not return ``(out, cache)``.
    ShapeError
        If dout has another shape than out.

    Notes
    -----
    `check_gradients` says how values are compared. Told apart from wrong values are: an output
    that differs from call to call; forward or backward writing into their arguments; a backward
    that uses what a later forward left behind, or spoils its cache; a gradient that is None, NaN,
    of another shape or dtype, or missing; one that is right in float64 but not in float32.

    Examples
    --------
    >>> import numpy as np
    >>> def forward(x, weight):
    ...     return x @ weight, (x, weight)
    >>> def backward(dout, cache):
    ...     x, weight = cache
    ...     return dout @ weight.T, x.T @ dout
    >>> x, weight = np.arange(6.0).reshape(2, 3), np.ones((3, 2))
    >>> check_layer(forward, backward, [x, weight]).ok
    True
    """
    subject = Subject(
        "check_layer", forward, backward, inputs, wrt=wrt, forward_kwargs=forward_kwargs
    )
    return _examined(subject, dout, rng, tolerance, max_elements)


def _examined(
    subject: Subject,
    dout: ArrayLike | None,
    rng: np.random.Generator | None,
    tolerance: float,
    max_elements: int,
) -> GradientReport:
    if not tolerance > 0:
        raise InputError(explain(subject.where, "tolerance", "be above 0", tolerance))
    generator = np.random.default_rng(0) if rng is None else rng
    with np.errstate(all="ignore"):  # steps may lead out of a domain; results are looked at
        return examine(subject, dout, generator, tolerance, max_elements).report


def _gradients(analytic: Any, inputs: Inputs) -> Any:
    """Given gradients as backward would return them: a bare array may be a list of numbers."""
    if isinstance(analytic, Mapping) or not isinstance(analytic, tuple | list):
        return analytic
    is_numbers = all(isinstance(each, int | float) for each in analytic)
    return np.array(analytic) if is_numbers and len(inputs) == 1 else analytic
