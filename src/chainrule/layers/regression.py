"""Softmax regression: loss and gradient in one call."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import kernels
from chainrule.errors import ShapeError, explain
from chainrule.layers._checks import check_floats, check_scores
from chainrule.layers.losses import cross_entropy_backward, cross_entropy_forward

__all__ = ["softmax_regression"]


def softmax_regression(
    x: np.ndarray, weight: np.ndarray, y: np.ndarray, columns: bool = False
) -> tuple[np.floating[Any], np.ndarray]:
    """Compute the loss of softmax regression and its gradient.

    Parameters
    ----------
    x : ndarray, shape (N, D), or (D, N) with columns, float32 or float64
        An example a row or, as in the course, a column.
    weight : ndarray, shape (C, D), dtype of x
        A row for each class; a bias is a feature that is always 1.
    y : ndarray, shape (N,), integer
        Labels from 0 to C - 1.
    columns : bool, default False
        Whether examples are the columns of x.

    Returns
    -------
    loss : float of the dtype of x
        Mean cross-entropy; 0 for no examples.
    dweight : ndarray, shape (C, D), dtype of x
        Its gradient.

    Raises
    ------
    DTypeError
        If an array is neither float32 nor float64, or the dtypes differ.
    ShapeError
        If the shapes do not fit.
    InputError
        If a label is out of range.

    Notes
    -----
    With scores ``s = x weight.T`` and ``p = softmax(s)`` row by row,

        dweight = (p - onehot(y)).T x / N.

    ``4 N C D`` floating-point operations on ``N D`` numbers: for ten classes the time is that of
    reading x. The compiled kernel takes examples block by block, both products while a block is
    in the cache. Of columns with many features no block of use fits the cache; x is then read
    twice, from end to end, as it is without kernels.

    Examples
    --------
    >>> x, y = np.eye(2), np.array([0, 1])
    >>> loss, dweight = softmax_regression(x, np.zeros((2, 2)), y)
    >>> round(float(loss), 4), dweight
    (0.6931, array([[-0.25,  0.25],
           [ 0.25, -0.25]]))
    """
    where = "softmax_regression"
    check_floats(where, x=x, weight=weight)
    if x.ndim != 2 or weight.ndim != 2 or weight.shape[1] != x.shape[0 if columns else 1]:
        shapes = f"{weight.shape} for x {x.shape}"
        rule = f"have shape (C, D) for x ({'D, N' if columns else 'N, D'})"
        raise ShapeError(explain(where, "weight", rule, shapes))
    count = x.shape[1 if columns else 0]
    check_scores(where, np.broadcast_to(x.dtype.type(0), (count, len(weight))), y)
    chosen = kernels.current()
    if chosen is None:
        rows = x.T if columns else x
        loss, cache = cross_entropy_forward(rows @ weight.T, y)
        return loss, np.ascontiguousarray(cross_entropy_backward(cache).T @ rows)
    dweight = kernels.empty(weight.shape, x.dtype)
    value = chosen.softmax_regression(
        np.require(x, requirements=("C", "A")),
        columns,
        np.require(weight, requirements=("C", "A")),
        np.ascontiguousarray(y, np.int64),
        dweight,
        kernels.threads(),
    )
    return x.dtype.type(value), dweight
