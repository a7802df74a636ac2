"""Losses on class scores: softmax cross-entropy and the multiclass hinge (SVM) loss."""

from __future__ import annotations

import numpy as np

from chainrule.layers._checks import Cache, check_number, check_scores

__all__ = [
    "cross_entropy_backward",
    "cross_entropy_forward",
    "multiclass_hinge_backward",
    "multiclass_hinge_forward",
]


def cross_entropy_forward(
    scores: np.ndarray, y: np.ndarray, label_smoothing: float = 0.0
) -> tuple[np.floating, Cache]:
    """Average negative log-likelihood of the labels under softmax(scores).

    Parameters
    ----------
    scores : ndarray, shape (N, C), float32 or float64
        Class scores (logits).
    y : ndarray of int, shape (N,)
        True classes, from 0 to C - 1.
    label_smoothing : float, default 0.0
        Share of the target probability that is spread evenly over all classes, from 0 to 1.

    Returns
    -------
    loss : numpy scalar, dtype of scores
        The mean over the batch; 0.0 for an empty batch.
    cache : tuple
        For `cross_entropy_backward`.

    Raises
    ------
    ShapeError
        If scores or y has the wrong shape.
    InputError
        If a label or label_smoothing is out of range.
    DTypeError
        If scores is not float32 or float64, or y holds no integers.

    Notes
    -----
    With ``log p = s - max s - log(sum exp(s - max s))``, row by row, and the smoothing e,

    .. math:: loss = -\\frac{1}{N} \\sum_n \\Bigl[(1 - e) \\log p_{n y_n}
              + \\frac{e}{C} \\sum_c \\log p_{nc}\\Bigr]

    Subtracting the maximum first keeps every exponent at or below 0, so scores of any finite
    size neither overflow nor lose the loss. Untrained, the loss is near ``log C``. The mean is
    summed in float64. The definition and the gradient are those of
    ``torch.nn.functional.cross_entropy``, except that PyTorch gives NaN for an empty batch.

    References
    ----------
    .. [1] C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, equation 4.108.
    .. [2] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
       CVPR 2016, arXiv:1512.00567, section 7 (label smoothing).

    Examples
    --------
    >>> import numpy as np
    >>> loss, cache = cross_entropy_forward(np.zeros((2, 10)), np.array([3, 7]))
    >>> round(float(loss), 4)
    2.3026
    """
    check_scores("cross_entropy_forward", scores, y)
    smoothing = check_number("cross_entropy_forward", "label_smoothing", label_smoothing, 0, 1)
    log_p = scores - scores.max(axis=1, keepdims=True)  # (N, C)
    p = np.exp(log_p)
    total = p.sum(axis=1, keepdims=True)  # (N, 1), at least 1
    log_p -= np.log(total)
    p /= total
    count = max(len(y), 1)
    loss = -log_p[np.arange(len(y)), y].sum(dtype=np.float64) / count
    if smoothing:
        uniform = -log_p.sum(dtype=np.float64) / (count * scores.shape[1])
        loss = (1 - smoothing) * loss + smoothing * uniform
    return scores.dtype.type(loss), (p, y, smoothing)


def cross_entropy_backward(cache: Cache, dloss: float = 1.0) -> np.ndarray:
    """Propagate a gradient through `cross_entropy_forward`.

    Parameters
    ----------
    cache : tuple
        From `cross_entropy_forward`.
    dloss : float, default 1.0
        Gradient of the final loss by this one.

    Returns
    -------
    ndarray, shape (N, C)
        dscores.

    Raises
    ------
    DTypeError
        If dloss is no number.

    Notes
    -----
    ``dscores = (softmax(scores) - target) dloss / N``, where target is ``e / C`` everywhere
    and ``1 - e`` more at the label.

    Examples
    --------
    >>> import numpy as np
    >>> loss, cache = cross_entropy_forward(np.zeros((1, 2)), np.array([1]))
    >>> cross_entropy_backward(cache)
    array([[ 0.5, -0.5]])
    """
    p, y, smoothing = cache
    scale = check_number("cross_entropy_backward", "dloss", dloss) / max(len(y), 1)
    dscores: np.ndarray = p - smoothing / p.shape[1]
    dscores[np.arange(len(y)), y] -= 1 - smoothing
    dscores *= scale
    return dscores


def multiclass_hinge_forward(
    scores: np.ndarray, y: np.ndarray, margin: float = 1.0
) -> tuple[np.floating, Cache]:
    """Average multiclass hinge loss of a support vector machine.

    Parameters
    ----------
    scores : ndarray, shape (N, C), float32 or float64
        Class scores.
    y : ndarray of int, shape (N,)
        True classes, from 0 to C - 1.
    margin : float, default 1.0
        By how much the true class must win to cost nothing.

    Returns
    -------
    loss : numpy scalar, dtype of scores
        The mean over the batch; 0.0 for an empty batch.
    cache : tuple
        For `multiclass_hinge_backward`.

    Raises
    ------
    ShapeError
        If scores or y has the wrong shape.
    InputError
        If a label is out of range.
    DTypeError
        If scores is not float32 or float64, y holds no integers, or margin is no number.

    Notes
    -----
    .. math:: loss = \\frac{1}{N} \\sum_n \\sum_{c \\ne y_n}
              \\max(0, s_{nc} - s_{n y_n} + margin)

    The sum over wrong classes is CS231n's; ``torch.nn.functional.multi_margin_loss`` divides it
    by C as well. Untrained, the loss is near ``(C - 1) margin``. The mean is summed in float64.

    References
    ----------
    .. [1] J. Weston, C. Watkins, "Support vector machines for multi-class pattern
       recognition", ESANN 1999, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss, cache = multiclass_hinge_forward(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    >>> float(loss)
    0.5
    """
    check_scores("multiclass_hinge_forward", scores, y)
    distance = check_number("multiclass_hinge_forward", "margin", margin)
    rows = np.arange(len(y))
    margins = scores - scores[rows, y][:, None]  # (N, C)
    margins += distance
    margins[rows, y] = 0
    np.maximum(margins, 0, out=margins)
    loss = margins.sum(dtype=np.float64) / max(len(y), 1)
    return scores.dtype.type(loss), (margins, y)


def multiclass_hinge_backward(cache: Cache, dloss: float = 1.0) -> np.ndarray:
    """Propagate a gradient through `multiclass_hinge_forward`.

    Parameters
    ----------
    cache : tuple
        From `multiclass_hinge_forward`.
    dloss : float, default 1.0
        Gradient of the final loss by this one.

    Returns
    -------
    ndarray, shape (N, C)
        dscores.

    Raises
    ------
    DTypeError
        If dloss is no number.

    Notes
    -----
    Each wrong class inside the margin receives ``dloss / N``, and the true class minus their
    sum. A class exactly on the margin, where the loss has a kink, receives 0.

    Examples
    --------
    >>> import numpy as np
    >>> loss, cache = multiclass_hinge_forward(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    >>> multiclass_hinge_backward(cache)
    array([[-1.,  1.,  0.]])
    """
    margins, y = cache
    scale = check_number("multiclass_hinge_backward", "dloss", dloss) / max(len(y), 1)
    dscores: np.ndarray = (margins > 0).astype(margins.dtype)
    dscores[np.arange(len(y)), y] = -dscores.sum(axis=1)
    dscores *= scale
    return dscores
