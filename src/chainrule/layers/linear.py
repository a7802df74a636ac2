"""The linear (fully connected) layer, and the flattening that leads to it."""

from __future__ import annotations

import numpy as np

from chainrule.layers._arrays import channel_sum
from chainrule.layers._checks import Cache, check_dout, check_floats, check_linear

__all__ = ["flatten_backward", "flatten_forward", "linear_backward", "linear_forward"]


def linear_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    """Apply ``out = x weight^T + bias`` to each row of x.

    Parameters
    ----------
    x : ndarray, shape (N, D), float32 or float64
        One example a row; N may be 0.
    weight : ndarray, shape (F, D), dtype of x
        One output a row, as in PyTorch's ``nn.Linear``.
    bias : ndarray, shape (F,), dtype of x, optional
        Added to each row of the output.

    Returns
    -------
    out : ndarray, shape (N, F), dtype of x
        The outputs.
    cache : tuple
        For `linear_backward`. It refers to x and weight: leave them as they are until then.

    Raises
    ------
    ShapeError
        If the shapes do not fit together.
    DTypeError
        If x is not float32 or float64, or weight or bias has another dtype than x.

    Notes
    -----
    One matrix product of ``2 N D F`` floating-point operations in the dtype of x. Compiled kernels
    sum over D in an order that the shapes alone decide. With NumPy it is done by BLAS, which for
    some shapes (a few outputs from many examples) lets the order depend on its number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0]])
    >>> weight = np.array([[1.0, 1.0], [0.0, 3.0], [-1.0, 0.0]])
    >>> out, cache = linear_forward(x, weight, np.array([0.0, 0.5, 0.0]))
    >>> out
    array([[ 3. ,  6.5, -1. ]])
    """
    check_linear("linear_forward", x, weight, bias)
    out = x @ weight.T  # (N, F)
    if bias is not None:
        out += bias
    return out, (x, weight, bias is not None)


def linear_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Propagate a gradient through `linear_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F)
        Gradient of the loss by the output.
    cache : tuple
        From `linear_forward`.
    need_dx : bool, default True
        False skips dx, which saves a third of the work in a first layer.

    Returns
    -------
    dx : ndarray, shape (N, D), or None
        None if `need_dx` is False.
    dweight : ndarray, shape (F, D)
        Summed over the batch.
    dbias : ndarray, shape (F,), or None
        None if there was no bias.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    ``dx = dout weight``, ``dweight = dout^T x``, ``dbias = sum_n dout``: ``4 N D F`` operations.
    The sum for dbias is accumulated in float64.

    Examples
    --------
    >>> import numpy as np
    >>> x, weight = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    >>> out, cache = linear_forward(x, weight)
    >>> linear_backward(np.array([[10.0]]), cache)
    (array([[30., 40.]]), array([[10., 20.]]), None)
    """
    x, weight, has_bias = cache
    check_dout("linear_backward", dout, (x.shape[0], weight.shape[0]), x.dtype)
    dx = dout @ weight if need_dx else None  # (N, D)
    dweight = dout.T @ x  # (F, D)
    dbias = channel_sum(dout) if has_bias else None  # (F,)
    return dx, dweight, dbias


def flatten_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Lay out each example of x as one row.

    Parameters
    ----------
    x : ndarray, shape (N, ...), float32 or float64
        At least one axis.

    Returns
    -------
    out : ndarray, shape (N, prod(...)), dtype of x
        A view of x where x is contiguous, else a copy: do not write into it.
    cache : tuple
        For `flatten_backward`.

    Raises
    ------
    DTypeError
        If x is not float32 or float64.

    Notes
    -----
    No arithmetic. This is the one forward whose output may share memory with its input.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = flatten_forward(np.zeros((2, 3, 4, 4)))
    >>> out.shape
    (2, 48)
    """
    check_floats("flatten_forward", x=x)
    width = int(np.prod(x.shape[1:]))  # -1 would be ambiguous for an empty batch
    return x.reshape(x.shape[0], width), (x.shape, x.dtype)


def flatten_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Give a gradient the shape that x had in `flatten_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, prod(...))
        Gradient of the loss by the output.
    cache : tuple
        From `flatten_forward`.

    Returns
    -------
    ndarray, shape (N, ...)
        dx; a view of dout where dout is contiguous.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    No arithmetic.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = flatten_forward(np.zeros((2, 3, 4, 4)))
    >>> flatten_backward(np.ones((2, 48)), cache).shape
    (2, 3, 4, 4)
    """
    shape, dtype = cache
    check_dout("flatten_backward", dout, (shape[0], int(np.prod(shape[1:]))), dtype)
    return dout.reshape(shape)
