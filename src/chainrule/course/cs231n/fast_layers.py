"""``cs231n.fast_layers``: convolution and pooling on chainrule's fast kernels.

The course has variants by method, im2col, strides and reshape; here all of them are the same two
pairs, which need no compiling by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import layers as pairs
from chainrule.course.arrays import as_floats

__all__ = [
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]

Cache = tuple[Any, ...]


def conv_forward_fast(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, int]
) -> tuple[np.ndarray, Cache]:
    """Convolve images with a bank of filters.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    w : ndarray, shape (F, C, HH, WW)
        Filters.
    b : ndarray, shape (F,)
        Biases.
    conv_param : dict
        ``stride`` and ``pad``, the zeros on each side.

    Returns
    -------
    out : ndarray, shape (N, F, H', W')
        ``H' = 1 + (H + 2 pad - HH) // stride``, W' alike.
    cache : tuple
        For `conv_backward_fast`.
    """
    x, w, b = as_floats("conv_forward_fast", x=x, w=w, b=b)
    out, cache = pairs.conv2d_forward(x, w, b, conv_param["stride"], conv_param["pad"])
    return out, (cache, x.dtype)


def conv_backward_fast(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Propagate a gradient through `conv_forward_fast`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From `conv_forward_fast`.

    Returns
    -------
    dx, dw, db : ndarray
        Gradients by x, w and b.
    """
    inner, dtype = cache
    dx, dw, db = pairs.conv2d_backward(np.asarray(dout, dtype), inner)
    assert dx is not None
    assert db is not None  # forward had both
    return dx, dw, db


def max_pool_forward_fast(x: np.ndarray, pool_param: dict[str, int]) -> tuple[np.ndarray, Cache]:
    """Take the largest value of each window.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``.

    Returns
    -------
    out : ndarray, shape (N, C, H', W')
        ``H' = 1 + (H - pool_height) // stride``, W' alike.
    cache : tuple
        For `max_pool_backward_fast`.
    """
    (x,) = as_floats("max_pool_forward_fast", x=x)
    window = (pool_param["pool_height"], pool_param["pool_width"])
    out, cache = pairs.max_pool2d_forward(x, window, pool_param["stride"])
    return out, (cache, x.dtype)


def max_pool_backward_fast(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `max_pool_forward_fast`.

    Parameters
    ----------
    dout : ndarray, shape (N, C, H', W')
        Upstream gradient.
    cache : tuple
        From `max_pool_forward_fast`.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        Gradient by x; of equal values in a window the first gets it.
    """
    inner, dtype = cache
    return pairs.max_pool2d_backward(np.asarray(dout, dtype), inner)


conv_forward_im2col = conv_forward_strides = conv_forward_fast
conv_backward_im2col = conv_backward_strides = conv_backward_fast
max_pool_forward_im2col = max_pool_forward_reshape = max_pool_forward_fast
max_pool_backward_im2col = max_pool_backward_reshape = max_pool_backward_fast
