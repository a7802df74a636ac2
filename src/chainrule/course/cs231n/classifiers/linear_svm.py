"""``cs231n.classifiers.linear_svm``: the linear SVM, in both generations' conventions."""

from __future__ import annotations

import numpy as np

from chainrule.course.linear import linear_loss

__all__ = ["svm_loss_naive", "svm_loss_vectorized"]


def svm_loss_naive(
    W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float
) -> tuple[float, np.ndarray]:
    """Compute what `svm_loss_vectorized` does, by chainrule's reference.

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
        Mean hinge loss plus penalty.
    dW : ndarray, shape of W
        Its gradient.
    """
    return linear_loss("svm_loss_naive", "multiclass_hinge", W, X, y, reg, naive=True)


def svm_loss_vectorized(
    W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float
) -> tuple[float, np.ndarray]:
    """Compute the multiclass hinge loss of a linear classifier and its gradient.

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
        Mean hinge loss plus penalty.
    dW : ndarray, shape of W
        Its gradient.
    """
    return linear_loss("svm_loss_vectorized", "multiclass_hinge", W, X, y, reg)
