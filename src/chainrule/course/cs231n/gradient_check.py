"""``cs231n.gradient_check``: numerical gradients in the course's form.

The functions that the notebooks pass often ignore their argument and read the array from where
it lives, such as ``net.params["W1"]``. So these change that array in place while they work, and
put it back at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.course.arrays import say
from chainrule.errors import DTypeError, explain
from chainrule.gradcheck import numeric_gradient, relative_error

__all__ = [
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "eval_numerical_gradient_blobs",
    "eval_numerical_gradient_net",
    "grad_check_sparse",
    "rel_error",
]


def _differentiate(
    where: str,
    f: Callable[[np.ndarray], Any],
    x: np.ndarray,
    df: np.ndarray | None,
    h: float,
) -> np.ndarray:
    """Differentiate f by the array that it may read itself."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        got = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        remedy = "Steps of 1e-5 are lost in anything else: use x.astype(np.float64)."
        raise DTypeError(explain(where, "x", "be an array of floats", got, remedy))
    saved = x.copy()

    def of_probe(probe: np.ndarray) -> Any:
        x[...] = probe
        return f(x)

    try:
        return numeric_gradient(of_probe, saved, df, h)
    finally:
        x[...] = saved


def eval_numerical_gradient(
    f: Callable[[np.ndarray], Any], x: np.ndarray, verbose: bool = True, h: float = 0.00001
) -> np.ndarray:
    """Differentiate a function with one number as its result.

    Parameters
    ----------
    f : callable
        Takes x; may ignore it and read the same array elsewhere.
    x : ndarray of floats, any shape
        Where to differentiate; changed while this runs, unchanged at the end.
    verbose : bool, default True
        Whether to print each element's index and slope.
    h : float, default 1e-5
        Half of the distance between the two points.

    Returns
    -------
    ndarray of float64, shape of x
        The gradient.
    """
    gradient = _differentiate("eval_numerical_gradient", f, x, None, h)
    if verbose:
        for index, slope in np.ndenumerate(gradient):
            say(f"{index} {slope}")
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, df: np.ndarray, h: float = 1e-5
) -> np.ndarray:
    """Differentiate a function with an array as its result, against an upstream gradient.

    Parameters
    ----------
    f : callable
        Takes x; may ignore it and read the same array elsewhere.
    x : ndarray of floats, any shape
        Where to differentiate; changed while this runs, unchanged at the end.
    df : ndarray, shape of f(x)
        Upstream gradient.
    h : float, default 1e-5
        Half of the distance between the two points.

    Returns
    -------
    ndarray of float64, shape of x
        The gradient of ``sum(f(x) * df)``.
    """
    return _differentiate("eval_numerical_gradient_array", f, x, df, h)


def eval_numerical_gradient_blobs(
    f: Callable[..., None], inputs: Sequence[Any], output: Any, h: float = 1e-5
) -> list[np.ndarray]:
    """Differentiate a function that reads blobs and writes one.

    Parameters
    ----------
    f : callable
        Called as ``f(*inputs, output)``; writes ``output.vals``.
    inputs : sequence of objects
        Each with an array ``vals``.
    output : object
        With arrays ``vals`` and ``diffs``, the upstream gradient.
    h : float, default 1e-5
        Half of the distance between the two points.

    Returns
    -------
    list of ndarray
        The gradient by each input's ``vals``.
    """

    def run(_: np.ndarray) -> Any:
        f(*inputs, output)
        return output.vals

    where = "eval_numerical_gradient_blobs"
    return [_differentiate(where, run, blob.vals, output.diffs, h) for blob in inputs]


def eval_numerical_gradient_net(
    net: Any, inputs: Sequence[Any], output: Any, h: float = 1e-5
) -> list[np.ndarray]:
    """Differentiate a network of blobs by its inputs.

    Parameters
    ----------
    net : object
        With a method ``forward`` that computes the output from the inputs.
    inputs : sequence of objects
        Each with an array ``vals``.
    output : object
        With arrays ``vals`` and ``diffs``, the upstream gradient.
    h : float, default 1e-5
        Half of the distance between the two points.

    Returns
    -------
    list of ndarray
        The gradient by each input's ``vals``.
    """
    return eval_numerical_gradient_blobs(lambda *_: net.forward(), inputs, output, h)


def grad_check_sparse(
    f: Callable[[np.ndarray], Any],
    x: np.ndarray,
    analytic_grad: np.ndarray,
    num_checks: int = 10,
    h: float = 1e-5,
) -> None:
    """Compare a gradient with numerical slopes at a few random elements, and print them.

    Parameters
    ----------
    f : callable
        Takes x, returns a number; may ignore x and read the same array elsewhere.
    x : ndarray of floats, any shape
        Where to differentiate; unchanged at the end.
    analytic_grad : ndarray, shape of x
        The gradient to check.
    num_checks : int, default 10
        How many elements.
    h : float, default 1e-5
        Half of the distance between the two points.
    """
    for _ in range(num_checks):
        index = tuple(random.randrange(extent) for extent in x.shape)
        # A view of one element: only it is changed, while f sees the whole of x.
        element = x[tuple(slice(i, i + 1) for i in index)]
        numeric = float(
            _differentiate("grad_check_sparse", lambda _: f(x), element, None, h).item()
        )
        analytic = float(analytic_grad[index])
        error = relative_error(numeric, analytic)
        say(f"numerical: {numeric:f} analytic: {analytic:f}, relative error: {error:e}")


def rel_error(x: np.ndarray, y: np.ndarray) -> float:
    """Measure how far two arrays are apart, relative to their size.

    Parameters
    ----------
    x, y : array_like, same shape
        What to compare.

    Returns
    -------
    float
        The largest ``|x - y| / max(1e-8, |x| + |y|)``.
    """
    return relative_error(x, y)
