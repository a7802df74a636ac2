"""``cs231n.layer_utils``: layers that often come together, on chainrule's sandwiches."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import layers as pairs
from chainrule.course.arrays import as_floats
from chainrule.course.cs231n.fast_layers import conv_backward_fast, conv_forward_fast
from chainrule.course.cs231n.layers import (
    relu_backward,
    relu_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)

__all__ = [
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]

Cache = tuple[Any, ...]
Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def affine_relu_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Compute ``max(x w + b, 0)``.

    Parameters
    ----------
    x : ndarray, shape (N, d_1, ..., d_k)
        Examples of D = d_1 ... d_k numbers each.
    w : ndarray, shape (D, M)
        Weights.
    b : ndarray, shape (M,)
        Biases.

    Returns
    -------
    out : ndarray, shape (N, M)
        The result.
    cache : tuple
        For `affine_relu_backward`.
    """
    x, w, b = as_floats("affine_relu_forward", x=x, w=w, b=b)
    out, cache = pairs.linear_relu_forward(x.reshape(len(x), w.shape[0]), w.T, b)
    return out, (cache, x.shape, x.dtype)


def affine_relu_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `affine_relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, M)
        Upstream gradient.
    cache : tuple
        From `affine_relu_forward`.

    Returns
    -------
    dx, dw, db : ndarray
        Gradients by x, w and b.
    """
    inner, shape, dtype = cache
    dx, dweight, db = pairs.linear_relu_backward(np.asarray(dout, dtype), inner)
    assert dx is not None
    assert db is not None  # forward had both
    return dx.reshape(shape), np.ascontiguousarray(dweight.T), db


def conv_relu_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, int]
) -> tuple[np.ndarray, Cache]:
    """Convolve, then apply ReLU.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    w : ndarray, shape (F, C, HH, WW)
        Filters.
    b : ndarray, shape (F,)
        Biases.
    conv_param : dict
        ``stride`` and ``pad``.

    Returns
    -------
    out : ndarray, shape (N, F, H', W')
        The result.
    cache : tuple
        For `conv_relu_backward`.
    """
    x, w, b = as_floats("conv_relu_forward", x=x, w=w, b=b)
    out, cache = pairs.conv_relu_forward(x, w, b, conv_param["stride"], conv_param["pad"])
    return out, (cache, x.dtype)


def conv_relu_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `conv_relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From `conv_relu_forward`.

    Returns
    -------
    dx, dw, db : ndarray
        Gradients by x, w and b.
    """
    inner, dtype = cache
    dx, dw, db = pairs.conv_relu_backward(np.asarray(dout, dtype), inner)
    assert dx is not None
    assert db is not None  # forward had both
    return dx, dw, db


def conv_relu_pool_forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    conv_param: dict[str, int],
    pool_param: dict[str, int],
) -> tuple[np.ndarray, Cache]:
    """Convolve, apply ReLU, then take the largest value of each window.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    w : ndarray, shape (F, C, HH, WW)
        Filters.
    b : ndarray, shape (F,)
        Biases.
    conv_param : dict
        ``stride`` and ``pad``.
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``.

    Returns
    -------
    out : ndarray, shape (N, F, H', W')
        The result.
    cache : tuple
        For `conv_relu_pool_backward`.
    """
    x, w, b = as_floats("conv_relu_pool_forward", x=x, w=w, b=b)
    out, cache = pairs.conv_relu_pool_forward(
        x,
        w,
        b,
        conv_param["stride"],
        conv_param["pad"],
        pool_kernel_size=(pool_param["pool_height"], pool_param["pool_width"]),
        pool_stride=pool_param["stride"],
    )
    return out, (cache, x.dtype)


def conv_relu_pool_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `conv_relu_pool_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From `conv_relu_pool_forward`.

    Returns
    -------
    dx, dw, db : ndarray
        Gradients by x, w and b.
    """
    inner, dtype = cache
    dx, dw, db = pairs.conv_relu_pool_backward(np.asarray(dout, dtype), inner)
    assert dx is not None
    assert db is not None  # forward had both
    return dx, dw, db


def conv_bn_relu_forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    conv_param: dict[str, int],
    bn_param: dict[str, Any],
) -> tuple[np.ndarray, Cache]:
    """Convolve, normalise over the batch, then apply ReLU.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    w : ndarray, shape (F, C, HH, WW)
        Filters.
    b, gamma, beta : ndarray, shape (F,)
        Biases; scale and shift of the normalisation.
    conv_param : dict
        ``stride`` and ``pad``.
    bn_param : dict
        See `chainrule.course.cs231n.layers.batchnorm_forward`.

    Returns
    -------
    out : ndarray, shape (N, F, H', W')
        The result.
    cache : tuple
        For `conv_bn_relu_backward`.
    """
    convolved, conv_cache = conv_forward_fast(x, w, b, conv_param)
    normalised, bn_cache = spatial_batchnorm_forward(convolved, gamma, beta, bn_param)
    out, relu_cache = relu_forward(normalised)
    return out, (conv_cache, bn_cache, relu_cache)


def conv_bn_relu_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Propagate a gradient through `conv_bn_relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From `conv_bn_relu_forward`.

    Returns
    -------
    dx, dw, db, dgamma, dbeta : ndarray
        Gradients by x, w, b, gamma and beta.
    """
    conv_cache, bn_cache, relu_cache = cache
    dnormalised = relu_backward(dout, relu_cache)
    dconvolved, dgamma, dbeta = spatial_batchnorm_backward(dnormalised, bn_cache)
    return *conv_backward_fast(dconvolved, conv_cache), dgamma, dbeta
