"""Inverted dropout with an explicit generator."""

from __future__ import annotations

import numpy as np

from chainrule.layers._checks import Cache, check_dout, check_dropout

__all__ = ["dropout_backward", "dropout_forward"]


def dropout_forward(
    x: np.ndarray,
    p: float = 0.5,
    training: bool = True,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, Cache]:
    """Set random elements to zero and scale the others up, when training.

    Parameters
    ----------
    x : ndarray, any shape, float32 or float64
        Activations.
    p : float, default 0.5
        Probability of dropping an element, from 0 to 1, as in PyTorch (CS231n's p is the
        probability of keeping).
    training : bool, default True
        False passes x through unchanged.
    rng : numpy.random.Generator, optional
        Source of the mask; required when training with p > 0, unused otherwise.

    Returns
    -------
    out : ndarray, shape and dtype of x
        Never x itself.
    cache : tuple
        For `dropout_backward`.

    Raises
    ------
    InputError
        If p is out of range.
    DTypeError
        If x is not float32 or float64, p is no number, or a generator is required and missing.

    Notes
    -----
    ``out = x mask / (1 - p)`` with ``mask = (u >= p)``, u uniform on [0, 1), one draw for each
    element in the dtype of x. The division keeps the expectation of each element, so nothing
    is left to do at test time. With p = 1 everything is zero.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014, sections 4 and 10 (scaling at training time).

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = dropout_forward(np.ones(6), p=0.5, rng=np.random.default_rng(0))
    >>> out
    array([2., 0., 0., 0., 2., 2.])
    """
    probability = check_dropout("dropout_forward", x, p, training, rng)
    if not training or probability == 0:
        return x.copy(), (None, x.shape, x.dtype)
    assert rng is not None  # check_dropout has refused it
    dtype = np.float32 if x.dtype == np.float32 else np.float64
    kept = rng.random(x.shape, dtype=dtype) >= probability
    scale = kept * x.dtype.type(0 if probability == 1 else 1 / (1 - probability))
    return x * scale, (scale, x.shape, x.dtype)


def dropout_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `dropout_forward`.

    Parameters
    ----------
    dout : ndarray, shape of x
        Gradient of the loss by the output.
    cache : tuple
        From `dropout_forward`.

    Returns
    -------
    ndarray, shape of x
        dx.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    ``dx = dout mask / (1 - p)`` with the mask of forward.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = dropout_forward(np.ones(6), p=0.5, rng=np.random.default_rng(0))
    >>> dropout_backward(np.full(6, 3.0), cache)
    array([6., 0., 0., 0., 6., 6.])
    """
    scale, shape, dtype = cache
    check_dout("dropout_backward", dout, shape, dtype)
    return dout.copy() if scale is None else dout * scale
