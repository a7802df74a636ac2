"""Functions that neural networks need and NumPy does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.autodiff.reductions import LOGSUMEXP
from chainrule.autodiff.rules import RELU, SIGMOID, SOFTPLUS
from chainrule.autodiff.tracing import apply, primal

__all__ = ["log_softmax", "logsumexp", "relu", "sigmoid", "softmax", "softplus"]

Axis = int | Sequence[int] | None


def sigmoid(x: Any) -> Any:
    """Return ``1 / (1 + exp(-x))``, elementwise.

    Parameters
    ----------
    x : array_like, any shape
        Real, traced or not; complex if it is not traced.

    Returns
    -------
    array, shape of x
        Between 0 and 1. It never overflows, and small results keep their relative precision.

    Notes
    -----
    The derivative is ``s (1 - s)``. `scipy.special.expit` is the same function and has the same
    rule.

    Examples
    --------
    >>> from chainrule.autodiff import grad, sigmoid
    >>> float(sigmoid(0.0)), float(grad(sigmoid)(0.0))
    (0.5, 0.25)
    """
    return apply(SIGMOID, (x,))


def relu(x: Any) -> Any:
    """Return ``max(x, 0)``, elementwise, with the derivative 0 at 0.

    Parameters
    ----------
    x : array_like, any shape
        Real, traced or not.

    Returns
    -------
    array, shape of x
        At least 0.

    Notes
    -----
    PyTorch's ``relu`` has the derivative 0 at 0 as well. ``numpy.maximum(x, 0)`` has 0.5 there,
    unless `ties` says otherwise.

    Examples
    --------
    >>> from chainrule.autodiff import grad, relu
    >>> float(grad(relu)(2.0)), float(grad(relu)(0.0))
    (1.0, 0.0)
    """
    return apply(RELU, (x,))


def softplus(x: Any) -> Any:
    """Return ``log(1 + exp(x))``, elementwise.

    Parameters
    ----------
    x : array_like, any shape
        Real, traced or not; complex if it is not traced.

    Returns
    -------
    array, shape of x
        Above 0. It never overflows.

    Notes
    -----
    The derivative is `sigmoid`.

    Examples
    --------
    >>> from chainrule.autodiff import grad, softplus
    >>> float(softplus(1000.0)), float(grad(softplus)(0.0))
    (1000.0, 0.5)
    """
    return apply(SOFTPLUS, (x,))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Return ``log(sum(exp(x)))`` without overflow.

    Parameters
    ----------
    x : array_like, any shape
        Real, traced or not; complex if it is not traced.
    axis : int, sequence of int or None, default None
        Over which to sum; None for all of them.
    keepdims : bool, default False
        Keep the summed axes, with length 1.

    Returns
    -------
    array
        Shape of x without the axes; -inf where all summands are 0.

    Notes
    -----
    With ``m = max(x)`` it is ``m + log(sum(exp(x - m)))``. The derivative is `softmax`.
    `scipy.special.logsumexp` is no ufunc and cannot take traced values.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import grad, logsumexp
    >>> float(logsumexp(np.array([1000.0, 1000.0])))
    1000.6931471805599
    >>> grad(logsumexp)(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    return apply(LOGSUMEXP, (_floats(x),), {"axis": axis, "keepdims": keepdims})


def softmax(x: Any, axis: Axis = -1) -> Any:
    """Return ``exp(x) / sum(exp(x))`` without overflow.

    Parameters
    ----------
    x : array_like, any shape
        Real, traced or not.
    axis : int, sequence of int or None, default -1
        Over which the result adds up to 1; None for all of them.

    Returns
    -------
    array, shape of x
        Between 0 and 1.

    Notes
    -----
    The Jacobian is ``diag(p) - p p^T``.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import softmax
    >>> softmax(np.array([0.0, np.log(3.0)])).round(4)
    array([0.25, 0.75])
    """
    x = _floats(x)
    weights = np.exp(x - np.max(primal(x), axis=axis, keepdims=True))  # any shift will do
    return weights / np.sum(weights, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: Axis = -1) -> Any:
    """Return ``log(softmax(x))`` without overflow or loss of precision.

    Parameters
    ----------
    x : array_like, any shape
        Real, traced or not.
    axis : int, sequence of int or None, default -1
        Over which the probabilities add up to 1; None for all of them.

    Returns
    -------
    array, shape of x
        At most 0.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import log_softmax
    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    x = _floats(x)
    shifted = x - np.max(primal(x), axis=axis, keepdims=True)
    return shifted - logsumexp(shifted, axis, keepdims=True)


def _floats(x: Any) -> Any:
    """A tracer as it is; anything else as an array of floats."""
    if hasattr(x, "dtype") and x.dtype.kind in "fc":
        return x
    return np.asarray(x, dtype=np.float64)
