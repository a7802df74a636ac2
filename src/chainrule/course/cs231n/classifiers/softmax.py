"""``cs231n.classifiers.softmax``: softmax regression, in both generations' conventions."""

from __future__ import annotations

import numpy as np

from chainrule.course.linear import linear_loss

__all__ = ["softmax_loss_naive", "softmax_loss_vectorized"]


def softmax_loss_naive(
    W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float
) -> tuple[float, np.ndarray]:
    """Compute what `softmax_loss_vectorized` does, by chainrule's reference.

    Parameters
    ----------
    W : ndarray, shape (C, D) or (D, C)
        Weights.
    X : ndarray, shape (D, N) or (N, D)
        Examples.
    y : ndarray, shape (N,), integer
        Labels from 0 to C - 1.
    reg : float
        Strength of the penalty.

    Returns
    -------
    loss : float
        Mean cross-entropy plus penalty.
    dW : ndarray, shape of W
        Its gradient.
    """
    return linear_loss("softmax_loss_naive", "cross_entropy", W, X, y, reg, naive=True)


def softmax_loss_vectorized(
    W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float
) -> tuple[float, np.ndarray]:
    """Compute the loss of softmax regression and its gradient, reading the data once.

    Parameters
    ----------
    W : ndarray, shape (C, D) or (D, C)
        Weights; (C, D) in generation A, (D, C) in B.
    X : ndarray, shape (D, N) or (N, D)
        Examples: columns in generation A, rows in B. The shapes of X, W and y say which.
    y : ndarray, shape (N,), integer
        Labels from 0 to C - 1.
    reg : float
        Strength of the penalty, ``0.5 reg sum(W ** 2)`` in generation A, ``reg sum(W ** 2)`` in B.

    Returns
    -------
    loss : float
        Mean cross-entropy plus penalty.
    dW : ndarray, shape of W
        Its gradient.
    """
    return linear_loss("softmax_loss_vectorized", "cross_entropy", W, X, y, reg)
