"""Normalisation over the batch, over each example, and over groups of channels.

Statistics are computed in two passes, the mean first and the mean square of what remains after
subtracting it, so that a large mean costs no precision. Sums run in the dtype of x, blockwise
(NumPy's pairwise sum, or `einsum`'s several partial sums), and for batch_norm the sums of the
planes are added up in float64.
"""

from __future__ import annotations

import numpy as np

from chainrule.layers._arrays import channel_dot, channel_sum
from chainrule.layers._checks import (
    Cache,
    check_batch_norm,
    check_dout,
    check_group_norm,
    check_layer_norm,
)

__all__ = [
    "batch_norm_backward",
    "batch_norm_forward",
    "group_norm_backward",
    "group_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
]


def _per_channel(vector: np.ndarray, ndim: int) -> np.ndarray:
    """Shape (C,) so that it broadcasts over (N, C, ...)."""
    return vector.reshape(-1, *[1] * (ndim - 2))


def batch_norm_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[np.ndarray, Cache, tuple[np.ndarray, np.ndarray]]:
    """Normalise each channel to mean 0 and variance 1 over the batch, then scale and shift.

    Parameters
    ----------
    x : ndarray, shape (N, C) or (N, C, H, W), float32 or float64
        Activations. When training, more than one value per channel, or none (N = 0).
    weight, bias : ndarray, shape (C,), dtype of x
        Scale and shift (gamma and beta).
    running_mean, running_var : ndarray, shape (C,), dtype of x
        Running statistics so far; start with zeros and ones.
    training : bool, default True
        True normalises with the batch's statistics and moves the running ones; False
        normalises with the running ones.
    momentum : float, default 0.1
        Share of the batch in the new running statistics, from 0 to 1 (PyTorch's convention;
        CS231n's momentum is 1 minus this).
    eps : float, default 1e-5
        Added to the variance, at least 0.

    Returns
    -------
    out : ndarray, shape and dtype of x
        ``weight (x - mean) / sqrt(var + eps) + bias``.
    cache : tuple
        For `batch_norm_backward`.
    running : (ndarray, ndarray), each of shape (C,)
        The new running mean and variance, for the caller to keep, since arguments are never
        modified. Copies of the given ones if `training` is False or the batch is empty.

    Raises
    ------
    ShapeError
        If x is neither (N, C) nor (N, C, H, W), or a vector is not (C,).
    InputError
        If a training batch has one value per channel, whose variance says nothing, or momentum
        or eps is out of range.
    DTypeError
        If x is not float32 or float64, or a vector has another dtype than x.

    Notes
    -----
    With M values per channel, the batch is normalised by its biased variance (divided by M),
    while ``running_var`` moves to the unbiased one (divided by M - 1):
    ``running = (1 - momentum) running + momentum batch``. Both are PyTorch's ways.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by
       reducing internal covariate shift", ICML 2015, arXiv:1502.03167, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> out, cache, running = batch_norm_forward(x, one, zero, zero, one, eps=0.0)
    >>> out.ravel(), running
    (array([-1.,  1.]), (array([0.2]), array([1.1])))
    """
    share, eps = check_batch_norm(
        "batch_norm_forward",
        x,
        weight,
        bias,
        running_mean,
        running_var,
        training,
        momentum,
        eps,
    )
    count = x.size // max(x.shape[1], 1)  # M, values per channel
    use_batch = training and count > 0
    mean = channel_sum(x) / count if use_batch else running_mean
    x_hat = x - _per_channel(mean, x.ndim)
    var = channel_dot(x_hat, x_hat) / count if use_batch else running_var
    inv_std = 1 / np.sqrt(var + eps)  # (C,)
    x_hat *= _per_channel(inv_std, x.ndim)
    out = x_hat * _per_channel(weight, x.ndim)
    out += _per_channel(bias, x.ndim)
    if use_batch:
        unbiased = var * (count / (count - 1))
        new_mean = (1 - share) * running_mean + share * mean
        new_var = (1 - share) * running_var + share * unbiased
    else:
        new_mean, new_var = running_mean.copy(), running_var.copy()
    return out, (x_hat, inv_std, weight, use_batch), (new_mean, new_var)


def batch_norm_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Propagate a gradient through `batch_norm_forward`, in training or evaluation.

    Parameters
    ----------
    dout : ndarray, shape of x
        Gradient of the loss by the output.
    cache : tuple
        From `batch_norm_forward`.

    Returns
    -------
    dx : ndarray, shape of x
        When training, mean and variance count as functions of x.
    dweight, dbias : ndarray, shape (C,)
        Summed over all axes but the channels'.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    With ``xhat = (x - mean) / std`` and means over the M values of a channel,
    ``dweight = sum dout xhat``, ``dbias = sum dout`` and, when training,
    ``dx = (weight / std) (dout - dbias / M - xhat dweight / M)``; in evaluation
    ``dx = (weight / std) dout``. The running statistics receive no gradient.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by
       reducing internal covariate shift", ICML 2015, arXiv:1502.03167, section 3, simplified.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> out, cache, running = batch_norm_forward(x, one, zero, zero, one, eps=0.0)
    >>> dx, dweight, dbias = batch_norm_backward(np.array([[0.0], [1.0]]), cache)
    >>> dx.ravel(), dweight, dbias
    (array([0., 0.]), array([1.]), array([1.]))
    """
    x_hat, inv_std, weight, used_batch = cache
    check_dout("batch_norm_backward", dout, x_hat.shape, x_hat.dtype)
    ndim = dout.ndim
    dweight = channel_dot(dout, x_hat)
    dbias = channel_sum(dout)
    if used_batch:
        count = dout.size // dout.shape[1]
        dx = x_hat * _per_channel(-dweight / count, ndim)
        dx += dout
        dx -= _per_channel(dbias / count, ndim)
        dx *= _per_channel(weight * inv_std, ndim)
    else:
        dx = dout * _per_channel(weight * inv_std, ndim)
    return dx, dweight, dbias


def _standardise_rows(rows: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Normalise the last axis of (..., D); return the result and 1 / std of shape (..., 1)."""
    x_hat = rows - rows.mean(axis=-1, keepdims=True)
    var = np.einsum("...d,...d->...", x_hat, x_hat)[..., None] / rows.shape[-1]
    inv_std = 1 / np.sqrt(var + eps)
    x_hat *= inv_std
    return x_hat, inv_std


def _standardise_rows_backward(
    dx_hat: np.ndarray, x_hat: np.ndarray, inv_std: np.ndarray
) -> np.ndarray:
    """Gradient of `_standardise_rows`: (dxhat - mean dxhat - xhat mean(dxhat xhat)) / std."""
    along = np.einsum("...d,...d->...", dx_hat, x_hat)[..., None] / x_hat.shape[-1]
    drows: np.ndarray = x_hat * -along
    drows += dx_hat
    drows -= dx_hat.mean(axis=-1, keepdims=True)
    drows *= inv_std
    return drows


def layer_norm_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5
) -> tuple[np.ndarray, Cache]:
    """Normalise each example to mean 0 and variance 1, then scale and shift each element.

    Parameters
    ----------
    x : ndarray, shape (N, ...) + S, float32 or float64
        Activations; the trailing axes S are normalised together.
    weight, bias : ndarray, shape S, dtype of x
        Scale and shift. Their shape says which axes are normalised, PyTorch's
        ``normalized_shape``; usually all but the first, ``x.shape[1:]``.
    eps : float, default 1e-5
        Added to the variance, at least 0.

    Returns
    -------
    out : ndarray, shape and dtype of x
        ``weight (x - mean) / sqrt(var + eps) + bias``.
    cache : tuple
        For `layer_norm_backward`.

    Raises
    ------
    ShapeError
        If the shape of weight is not that of the trailing axes of x, or differs from bias.
    InputError
        If eps is negative.
    DTypeError
        If x is not float32 or float64, or weight or bias has another dtype than x.

    Notes
    -----
    The variance is the biased one. Training and evaluation do the same.

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016, arXiv:1607.06450,
       equations 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 3.0], [10.0, 30.0]])
    >>> layer_norm_forward(x, np.ones(2), np.zeros(2), eps=0.0)[0]
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    eps = check_layer_norm("layer_norm_forward", x, weight, bias, eps)
    lead = x.shape[: x.ndim - weight.ndim]
    x_hat, inv_std = _standardise_rows(x.reshape(*lead, weight.size), eps)
    out = x_hat * weight.reshape(-1)
    out += bias.reshape(-1)
    return out.reshape(x.shape), (x.shape, x_hat, inv_std, weight)


def layer_norm_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Propagate a gradient through `layer_norm_forward`.

    Parameters
    ----------
    dout : ndarray, shape of x
        Gradient of the loss by the output.
    cache : tuple
        From `layer_norm_forward`.

    Returns
    -------
    dx : ndarray, shape of x
        Mean and variance count as functions of x.
    dweight, dbias : ndarray, shape of weight
        Summed over the leading axes.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    With ``g = weight dout`` and means over the D normalised elements,
    ``dx = (g - mean(g) - xhat mean(g xhat)) / std``; ``dweight = sum dout xhat`` and
    ``dbias = sum dout`` over the examples, accumulated in float64.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 3.0]])
    >>> out, cache = layer_norm_forward(x, np.ones(2), np.zeros(2), eps=0.0)
    >>> layer_norm_backward(np.array([[0.0, 1.0]]), cache)
    (array([[0., 0.]]), array([0., 1.]), array([0., 1.]))
    """
    x_shape, x_hat, inv_std, weight = cache
    check_dout("layer_norm_backward", dout, x_shape, x_hat.dtype)
    dout_rows = dout.reshape(x_hat.shape)  # (..., D)
    dx = _standardise_rows_backward(dout_rows * weight.reshape(-1), x_hat, inv_std)
    by_element = (x_hat.size // weight.size, weight.size)
    dweight = channel_dot(dout_rows.reshape(by_element), x_hat.reshape(by_element))
    dbias = channel_sum(dout_rows.reshape(by_element))
    return dx.reshape(x_shape), dweight.reshape(weight.shape), dbias.reshape(weight.shape)


def group_norm_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, num_groups: int, eps: float = 1e-5
) -> tuple[np.ndarray, Cache]:
    """Normalise groups of channels in each example, then scale and shift each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...), float32 or float64
        Activations, usually images (N, C, H, W).
    weight, bias : ndarray, shape (C,), dtype of x
        Scale and shift of each channel.
    num_groups : int
        Divides C. 1 normalises over all channels, C each one alone (instance norm).
    eps : float, default 1e-5
        Added to the variance, at least 0.

    Returns
    -------
    out : ndarray, shape and dtype of x
        ``weight (x - mean) / sqrt(var + eps) + bias``.
    cache : tuple
        For `group_norm_backward`.

    Raises
    ------
    ShapeError
        If x has no channel axis, or weight or bias is not (C,).
    InputError
        If num_groups does not divide C, or eps is negative.
    DTypeError
        If x is not float32 or float64, weight or bias has another dtype than x, or num_groups
        is no integer.

    Notes
    -----
    The variance is the biased one over the ``C / num_groups`` channels and all positions of a
    group. Training and evaluation do the same.

    References
    ----------
    .. [1] Y. Wu, K. He, "Group normalization", ECCV 2018, arXiv:1803.08494, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 3.0, 10.0, 30.0]])
    >>> group_norm_forward(x, np.ones(4), np.zeros(4), num_groups=2, eps=0.0)[0]
    array([[-1.,  1., -1.,  1.]])
    """
    eps = check_group_norm("group_norm_forward", x, weight, bias, num_groups, eps)
    width = int(np.prod(x.shape[1:])) // num_groups
    x_hat, inv_std = _standardise_rows(x.reshape(x.shape[0], num_groups, width), eps)
    out = x_hat.reshape(x.shape) * _per_channel(weight, x.ndim)
    out += _per_channel(bias, x.ndim)
    return out, (x.shape, x_hat, inv_std, weight)


def group_norm_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Propagate a gradient through `group_norm_forward`.

    Parameters
    ----------
    dout : ndarray, shape of x
        Gradient of the loss by the output.
    cache : tuple
        From `group_norm_forward`.

    Returns
    -------
    dx : ndarray, shape of x
        Mean and variance count as functions of x.
    dweight, dbias : ndarray, shape (C,)
        Summed over all axes but the channels'.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    As `layer_norm_backward`, with means over a group and weight per channel.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 3.0, 10.0, 30.0]])
    >>> out, cache = group_norm_forward(x, np.ones(4), np.zeros(4), num_groups=2, eps=0.0)
    >>> dx, dweight, dbias = group_norm_backward(np.array([[0.0, 1.0, 0.0, 0.0]]), cache)
    >>> dweight, dbias
    (array([0., 1., 0., 0.]), array([0., 1., 0., 0.]))
    """
    x_shape, x_hat, inv_std, weight = cache
    check_dout("group_norm_backward", dout, x_shape, x_hat.dtype)
    dx_hat = (dout * _per_channel(weight, dout.ndim)).reshape(x_hat.shape)
    dx = _standardise_rows_backward(dx_hat, x_hat, inv_std)
    dweight = channel_dot(dout, x_hat.reshape(x_shape))
    return dx.reshape(x_shape), dweight, channel_sum(dout)
