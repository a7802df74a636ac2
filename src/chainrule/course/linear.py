"""The losses of the course's linear classifiers, in both generations' conventions."""

from __future__ import annotations

import numpy as np

from chainrule import layers
from chainrule.course.arrays import as_floats
from chainrule.course.generations import are_columns

__all__ = ["linear_loss"]


def linear_loss(
    where: str,
    loss: str,
    W: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
    reg: float,
    *,
    naive: bool = False,
    columns: bool | None = None,
) -> tuple[float, np.ndarray]:
    """Compute the loss of a linear classifier and its gradient.

    Parameters
    ----------
    where : str
        The course's function, for messages.
    loss : {"cross_entropy", "multiclass_hinge"}
        The loss of the scores.
    W : ndarray, shape (C, D) for columns, (D, C) for rows
        Weights.
    X : ndarray, shape (D, N) for columns, (N, D) for rows
        Examples.
    y : ndarray, shape (N,), integer
        Labels.
    reg : float
        Strength of the penalty: half the sum of squares for columns, the whole for rows.
    naive : bool, default False
        Whether to use chainrule's reference pairs.
    columns : bool, optional
        Whether examples are columns; by default the shapes tell.

    Returns
    -------
    value : float
        The loss.
    dW : ndarray, shape of W
        Its gradient.
    """
    W, X = as_floats(where, W=W, X=X)
    y = np.asarray(y)
    if columns is None:
        columns = are_columns(where, X, len(y), W)
    weight = W if columns else W.T  # (C, D)
    if loss == "cross_entropy" and not naive:
        value, dweight = layers.softmax_regression(X, weight, y, columns)
    else:
        implementation = "reference" if naive else "fast"
        linear, linear_back = layers.pair("linear", implementation)
        score, score_back = layers.pair(loss, implementation)
        scores, cache = linear(X.T if columns else X, weight)
        value, score_cache = score(scores, y)
        _, dweight, _ = linear_back(score_back(score_cache), cache, need_dx=False)
    strength = float(reg) * (1 if columns else 2)
    dW = np.ascontiguousarray(dweight if columns else dweight.T)
    dW += W.dtype.type(strength) * W
    return float(value) + 0.5 * strength * float(np.vdot(W, W)), dW
