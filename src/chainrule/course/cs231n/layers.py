"""``cs231n.layers``: the course's layers on chainrule's.

Weights of affine layers have the course's shape (D, M); dropout's ``p`` is the probability of
keeping, as in the course since 2018. The ``naive`` functions run chainrule's reference, the
others its fast pairs. Caches are opaque.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from chainrule import layers as pairs
from chainrule.course.arrays import SeededMasks, as_floats
from chainrule.errors import ConfigError, ShapeError, explain, nearest

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]

Cache = tuple[Any, ...]
Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]

_REFERENCE_CONV = pairs.pair("conv2d", "reference")
_REFERENCE_POOL = pairs.pair("max_pool2d", "reference")


def affine_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Compute ``x w + b`` for examples of any shape.

    Parameters
    ----------
    x : ndarray, shape (N, d_1, ..., d_k)
        Examples; flattened to D = d_1 ... d_k numbers each.
    w : ndarray, shape (D, M)
        Weights.
    b : ndarray, shape (M,)
        Biases.

    Returns
    -------
    out : ndarray, shape (N, M)
        The result.
    cache : tuple
        For `affine_backward`.
    """
    x, w, b = as_floats("affine_forward", x=x, w=w, b=b)
    out, cache = pairs.linear_forward(x.reshape(len(x), prod(x.shape[1:])), w.T, b)
    return out, (cache, x.shape, x.dtype)


def affine_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `affine_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, M)
        Upstream gradient.
    cache : tuple
        From `affine_forward`.

    Returns
    -------
    dx : ndarray, shape (N, d_1, ..., d_k)
        Gradient by x.
    dw : ndarray, shape (D, M)
        Gradient by w.
    db : ndarray, shape (M,)
        Gradient by b.
    """
    inner, shape, dtype = cache
    dx, dweight, db = pairs.linear_backward(np.asarray(dout, dtype), inner)
    assert dx is not None
    assert db is not None  # forward had both
    return dx.reshape(shape), np.ascontiguousarray(dweight.T), db


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Compute ``max(x, 0)``.

    Parameters
    ----------
    x : ndarray, any shape
        Activations.

    Returns
    -------
    out : ndarray, shape of x
        The result.
    cache : tuple
        For `relu_backward`.
    """
    (x,) = as_floats("relu_forward", x=x)
    out, cache = pairs.relu_forward(x)
    return out, (cache, x.dtype)


def relu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape of x
        Upstream gradient.
    cache : tuple
        From `relu_forward`.

    Returns
    -------
    ndarray, shape of x
        Gradient by x.
    """
    inner, dtype = cache
    return pairs.relu_backward(np.asarray(dout, dtype), inner)


# --- normalisation --------------------------------------------------------------------------


def _mode(where: str, param: dict[str, Any]) -> bool:
    """Whether a parameter dict of the course says "train"."""
    mode = param.get("mode")
    if mode not in ("train", "test"):
        rule = "be 'train' or 'test'"
        raise ConfigError(explain(where, "mode", rule, repr(mode), nearest(str(mode), ("train",))))
    return bool(mode == "train")


def _batch_norm(
    where: str, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """Batch norm of (N, D) or (N, C, H, W), moving the statistics in bn_param as the course does.

    The course's running variance is the biased one, chainrule's (as PyTorch's) the unbiased one.
    """
    training = _mode(where, bn_param)
    x, gamma, beta = as_floats(where, x=x, gamma=gamma, beta=beta)
    zeros = np.zeros(x.shape[1], x.dtype)
    mean = np.asarray(bn_param.get("running_mean", zeros), x.dtype)
    var = np.asarray(bn_param.get("running_var", zeros), x.dtype)
    eps, keep = bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    before = (zeros, zeros) if training else (mean, var)
    out, cache, (batch_mean, batch_var) = pairs.batch_norm_forward(
        x, gamma, beta, before[0], before[1], training, 1.0, eps
    )
    if training and x.size:
        count = x.size // x.shape[1]
        mean = keep * mean + (1 - keep) * batch_mean
        var = keep * var + (1 - keep) * batch_var * ((count - 1) / count)
    bn_param["running_mean"], bn_param["running_var"] = mean, var
    return out, (cache, x.dtype)


def batchnorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """Normalise each feature over the batch, then scale and shift.

    Parameters
    ----------
    x : ndarray, shape (N, D)
        Activations; N at least 2 in training.
    gamma, beta : ndarray, shape (D,)
        Scale and shift.
    bn_param : dict
        ``mode`` ("train" or "test"), ``eps`` (1e-5), ``momentum`` (0.9), ``running_mean`` and
        ``running_var``, both (D,), which training updates in the dict.

    Returns
    -------
    out : ndarray, shape (N, D)
        The result.
    cache : tuple
        For `batchnorm_backward`.

    Raises
    ------
    ConfigError
        If the mode is neither "train" nor "test".
    """
    return _batch_norm("batchnorm_forward", x, gamma, beta, bn_param)


def batchnorm_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `batchnorm_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, D)
        Upstream gradient.
    cache : tuple
        From `batchnorm_forward`.

    Returns
    -------
    dx : ndarray, shape (N, D)
        Gradient by x.
    dgamma, dbeta : ndarray, shape (D,)
        Gradients by gamma and beta.
    """
    inner, dtype = cache
    return pairs.batch_norm_backward(np.asarray(dout, dtype), inner)


def batchnorm_backward_alt(dout: np.ndarray, cache: Cache) -> Gradients:
    """Do what `batchnorm_backward` does: chainrule has one formula, the short one.

    Parameters
    ----------
    dout : ndarray, shape (N, D)
        Upstream gradient.
    cache : tuple
        From `batchnorm_forward`.

    Returns
    -------
    dx : ndarray, shape (N, D)
        Gradient by x.
    dgamma, dbeta : ndarray, shape (D,)
        Gradients by gamma and beta.
    """
    return batchnorm_backward(dout, cache)


def layernorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, ln_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """Normalise each example over its features, then scale and shift.

    Parameters
    ----------
    x : ndarray, shape (N, D)
        Activations.
    gamma, beta : ndarray, shape (D,)
        Scale and shift.
    ln_param : dict
        ``eps`` (1e-5).

    Returns
    -------
    out : ndarray, shape (N, D)
        The result.
    cache : tuple
        For `layernorm_backward`.
    """
    x, gamma, beta = as_floats("layernorm_forward", x=x, gamma=gamma, beta=beta)
    out, cache = pairs.layer_norm_forward(x, gamma, beta, ln_param.get("eps", 1e-5))
    return out, (cache, x.dtype)


def layernorm_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `layernorm_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, D)
        Upstream gradient.
    cache : tuple
        From `layernorm_forward`.

    Returns
    -------
    dx : ndarray, shape (N, D)
        Gradient by x.
    dgamma, dbeta : ndarray, shape (D,)
        Gradients by gamma and beta.
    """
    inner, dtype = cache
    return pairs.layer_norm_backward(np.asarray(dout, dtype), inner)


def _require_images(where: str, x: np.ndarray) -> None:
    if np.ndim(x) != 4:
        raise ShapeError(explain(where, "x", "have shape (N, C, H, W)", np.shape(x)))


def spatial_batchnorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """Normalise each channel over the batch and all pixels, then scale and shift.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    gamma, beta : ndarray, shape (C,)
        Scale and shift.
    bn_param : dict
        See `batchnorm_forward`.

    Returns
    -------
    out : ndarray, shape (N, C, H, W)
        The result.
    cache : tuple
        For `spatial_batchnorm_backward`.

    Raises
    ------
    ShapeError
        If x is no batch of images.
    """
    _require_images("spatial_batchnorm_forward", x)
    return _batch_norm("spatial_batchnorm_forward", x, gamma, beta, bn_param)


def spatial_batchnorm_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `spatial_batchnorm_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, C, H, W)
        Upstream gradient.
    cache : tuple
        From `spatial_batchnorm_forward`.

    Returns
    -------
    dx : ndarray, shape (N, C, H, W)
        Gradient by x.
    dgamma, dbeta : ndarray, shape (C,)
        Gradients by gamma and beta.
    """
    return batchnorm_backward(dout, cache)


def spatial_groupnorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, G: int, gn_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """Normalise each example over groups of channels, then scale and shift.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    gamma, beta : ndarray, shape (1, C, 1, 1) or (C,)
        Scale and shift.
    G : int
        Number of groups; divides C.
    gn_param : dict
        ``eps`` (1e-5).

    Returns
    -------
    out : ndarray, shape (N, C, H, W)
        The result.
    cache : tuple
        For `spatial_groupnorm_backward`.

    Raises
    ------
    ShapeError
        If x is no batch of images.
    """
    where = "spatial_groupnorm_forward"
    _require_images(where, x)
    x, gamma, beta = as_floats(where, x=x, gamma=gamma, beta=beta)
    eps = gn_param.get("eps", 1e-5)
    out, cache = pairs.group_norm_forward(x, gamma.reshape(-1), beta.reshape(-1), G, eps)
    return out, (cache, gamma.shape, beta.shape, x.dtype)


def spatial_groupnorm_backward(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `spatial_groupnorm_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, C, H, W)
        Upstream gradient.
    cache : tuple
        From `spatial_groupnorm_forward`.

    Returns
    -------
    dx : ndarray, shape (N, C, H, W)
        Gradient by x.
    dgamma, dbeta : ndarray, shapes of gamma and beta
        Gradients by gamma and beta.
    """
    inner, gamma_shape, beta_shape, dtype = cache
    dx, dgamma, dbeta = pairs.group_norm_backward(np.asarray(dout, dtype), inner)
    return dx, dgamma.reshape(gamma_shape), dbeta.reshape(beta_shape)


def dropout_forward(x: np.ndarray, dropout_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """Zero values at random and scale up the others (inverted dropout).

    Parameters
    ----------
    x : ndarray, any shape
        Activations.
    dropout_param : dict
        ``p``, the probability of KEEPING a value; ``mode`` ("train" or "test"); ``seed``, which
        makes the mask the same at each call.

    Returns
    -------
    out : ndarray, shape of x
        The result; x itself, copied, in test mode.
    cache : tuple
        For `dropout_backward`.

    Raises
    ------
    ConfigError
        If the mode is neither "train" nor "test".

    Notes
    -----
    Masks come from NumPy's global generator, so that a seeded notebook repeats itself.
    """
    training = _mode("dropout_forward", dropout_param)
    (x,) = as_floats("dropout_forward", x=x)
    rng = SeededMasks(dropout_param.get("seed"))
    out, cache = pairs.dropout_forward(x, 1 - dropout_param["p"], training, rng)
    return out, (cache, x.dtype)


def dropout_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `dropout_forward`.

    Parameters
    ----------
    dout : ndarray, shape of x
        Upstream gradient.
    cache : tuple
        From `dropout_forward`.

    Returns
    -------
    ndarray, shape of x
        Gradient by x.
    """
    inner, dtype = cache
    return pairs.dropout_backward(np.asarray(dout, dtype), inner)


# --- convolution and pooling ----------------------------------------------------------------


def conv_forward_naive(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, int]
) -> tuple[np.ndarray, Cache]:
    """Convolve images with a bank of filters, in loops.

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
        For `conv_backward_naive`.
    """
    x, w, b = as_floats("conv_forward_naive", x=x, w=w, b=b)
    out, cache = _REFERENCE_CONV[0](x, w, b, conv_param["stride"], conv_param["pad"])
    return out, (cache, x.dtype)


def conv_backward_naive(dout: np.ndarray, cache: Cache) -> Gradients:
    """Propagate a gradient through `conv_forward_naive`, in loops.

    Parameters
    ----------
    dout : ndarray, shape (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From `conv_forward_naive`.

    Returns
    -------
    dx, dw, db : ndarray
        Gradients by x, w and b.
    """
    inner, dtype = cache
    dx, dw, db = _REFERENCE_CONV[1](np.asarray(dout, dtype), inner)
    return dx, dw, db


def max_pool_forward_naive(x: np.ndarray, pool_param: dict[str, int]) -> tuple[np.ndarray, Cache]:
    """Take the largest value of each window, in loops.

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
        For `max_pool_backward_naive`.
    """
    (x,) = as_floats("max_pool_forward_naive", x=x)
    window = (pool_param["pool_height"], pool_param["pool_width"])
    out, cache = _REFERENCE_POOL[0](x, window, pool_param["stride"])
    return out, (cache, x.dtype)


def max_pool_backward_naive(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `max_pool_forward_naive`, in loops.

    Parameters
    ----------
    dout : ndarray, shape (N, C, H', W')
        Upstream gradient.
    cache : tuple
        From `max_pool_forward_naive`.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        Gradient by x; of equal values in a window the first gets it.
    """
    inner, dtype = cache
    dx: np.ndarray = _REFERENCE_POOL[1](np.asarray(dout, dtype), inner)
    return dx


# --- losses ---------------------------------------------------------------------------------


def svm_loss(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the multiclass hinge loss and its gradient.

    Parameters
    ----------
    x : ndarray, shape (N, C)
        Scores.
    y : ndarray, shape (N,), integer
        Labels from 0 to C - 1.

    Returns
    -------
    loss : float
        Mean over the examples.
    dx : ndarray, shape (N, C)
        Gradient by the scores.
    """
    (x,) = as_floats("svm_loss", x=x)
    loss, cache = pairs.multiclass_hinge_forward(x, np.asarray(y))
    return float(loss), pairs.multiclass_hinge_backward(cache)


def softmax_loss(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the cross-entropy of the softmax and its gradient.

    Parameters
    ----------
    x : ndarray, shape (N, C)
        Scores.
    y : ndarray, shape (N,), integer
        Labels from 0 to C - 1.

    Returns
    -------
    loss : float
        Mean over the examples.
    dx : ndarray, shape (N, C)
        Gradient by the scores.
    """
    (x,) = as_floats("softmax_loss", x=x)
    loss, cache = pairs.cross_entropy_forward(x, np.asarray(y))
    return float(loss), pairs.cross_entropy_backward(cache)
