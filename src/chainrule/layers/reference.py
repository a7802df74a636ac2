"""Every layer defined in plain NumPy: what a reader reads and what the fast pairs must equal.

Forwards never write into an array, so that a tool that differentiates ordinary NumPy code can
differentiate them as they stand; they loop over positions and stack the results. Backwards are
written out from the derivative, element by element where that is clearest. Arguments, results,
caches and errors are those of the fast pair of the same name, where they are described in full.
"""

from __future__ import annotations

from math import pi, prod, sqrt
from typing import Any

import numpy as np

from chainrule.errors import InputError, explain
from chainrule.layers._checks import (
    Cache,
    check_batch_norm,
    check_conv2d,
    check_dout,
    check_dropout,
    check_floats,
    check_group_norm,
    check_images,
    check_layer_norm,
    check_linear,
    check_number,
    check_pool2d,
    check_scores,
)

__all__ = [
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "conv2d_backward",
    "conv2d_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "dropout_backward",
    "dropout_forward",
    "flatten_backward",
    "flatten_forward",
    "gelu_backward",
    "gelu_forward",
    "global_avg_pool2d_backward",
    "global_avg_pool2d_forward",
    "group_norm_backward",
    "group_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_backward",
    "linear_forward",
    "linear_relu_backward",
    "linear_relu_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "multiclass_hinge_backward",
    "multiclass_hinge_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "tanh_backward",
    "tanh_forward",
]

IntPair = tuple[int, int]

# --- linear and flatten ---------------------------------------------------------------------


def linear_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    """out[n, f] = sum_d x[n, d] weight[f, d] + bias[f]."""
    check_linear("linear_forward", x, weight, bias)
    out = x @ weight.T  # (N, F)
    if bias is not None:
        out = out + bias
    return out, (x, weight, bias)


def linear_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """dx = dout weight, dweight = dout^T x, dbias = sum_n dout."""
    x, weight, bias = cache
    check_dout("linear_backward", dout, (len(x), len(weight)), x.dtype)
    dx = dout @ weight if need_dx else None
    dweight = dout.T @ x
    dbias = None if bias is None else dout.sum(axis=0)
    return dx, dweight, dbias


def flatten_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """out[n] = all elements of x[n] in row-major order; may be a view of x."""
    check_floats("flatten_forward", x=x)
    return x.reshape(x.shape[0], prod(x.shape[1:])), (x.shape, x.dtype)


def flatten_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout in the shape of x; may be a view of dout."""
    shape, dtype = cache
    check_dout("flatten_backward", dout, (shape[0], prod(shape[1:])), dtype)
    return dout.reshape(shape)


# --- activations ----------------------------------------------------------------------------


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """out = max(x, 0)."""
    check_floats("relu_forward", x=x)
    return np.maximum(x, 0), (x,)


def relu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout where x > 0, else 0."""
    (x,) = cache
    check_dout("relu_backward", dout, x.shape, x.dtype)
    return np.where(x > 0, dout, 0)


def leaky_relu_forward(x: np.ndarray, negative_slope: float = 0.01) -> tuple[np.ndarray, Cache]:
    """out = x where x > 0, else negative_slope x."""
    check_floats("leaky_relu_forward", x=x)
    slope = check_number("leaky_relu_forward", "negative_slope", negative_slope)
    return np.where(x > 0, x, slope * x), (x, slope)


def leaky_relu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout where x > 0, else negative_slope dout."""
    x, slope = cache
    check_dout("leaky_relu_backward", dout, x.shape, x.dtype)
    return np.where(x > 0, dout, slope * dout)


def sigmoid_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """out = 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, which cannot overflow."""
    check_floats("sigmoid_forward", x=x)
    out = 0.5 * (1 + np.tanh(0.5 * x))
    return out, (x,)


def sigmoid_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout s (1 - s)."""
    (x,) = cache
    check_dout("sigmoid_backward", dout, x.shape, x.dtype)
    s = 0.5 * (1 + np.tanh(0.5 * x))
    dx: np.ndarray = dout * s * (1 - s)
    return dx


def tanh_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """out = tanh(x)."""
    check_floats("tanh_forward", x=x)
    return np.tanh(x), (x,)


def tanh_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout (1 - tanh(x)^2)."""
    (x,) = cache
    check_dout("tanh_backward", dout, x.shape, x.dtype)
    dx: np.ndarray = dout * (1 - np.tanh(x) ** 2)
    return dx


def gelu_forward(x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray, Cache]:
    """out = x (1 + erf(x / sqrt 2)) / 2, or x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2."""
    check_floats("gelu_forward", x=x)
    if approximate == "none":
        from scipy.special import erf  # a NumPy ufunc; loads in 0.2 s, so only when it is used

        out = x * 0.5 * (1 + erf(x / sqrt(2)))
    elif approximate == "tanh":
        out = x * 0.5 * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    else:
        rule = "be 'none' or 'tanh'"
        raise InputError(explain("gelu_forward", "approximate", rule, repr(approximate)))
    return out, (x, approximate)


def gelu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout (Phi(x) + x phi(x)); with "tanh" the derivative of that formula."""
    x, approximate = cache
    check_dout("gelu_backward", dout, x.shape, x.dtype)
    if approximate == "none":
        from scipy.special import erf

        slope = 0.5 * (1 + erf(x / sqrt(2))) + x * np.exp(-(x**2) / 2) / sqrt(2 * pi)
    else:
        t = np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))
        dt = (1 - t**2) * sqrt(2 / pi) * (1 + 3 * 0.044715 * x**2)
        slope = 0.5 * (1 + t) + 0.5 * x * dt
    dx: np.ndarray = dout * slope
    return dx


def silu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """out = x sigmoid(x)."""
    check_floats("silu_forward", x=x)
    return x * (0.5 * (1 + np.tanh(0.5 * x))), (x,)


def silu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout (s + x s (1 - s)) with s = sigmoid(x)."""
    (x,) = cache
    check_dout("silu_backward", dout, x.shape, x.dtype)
    s = 0.5 * (1 + np.tanh(0.5 * x))
    dx: np.ndarray = dout * (s + x * s * (1 - s))
    return dx


# --- losses ---------------------------------------------------------------------------------


def cross_entropy_forward(
    scores: np.ndarray, y: np.ndarray, label_smoothing: float = 0.0
) -> tuple[np.floating, Cache]:
    """loss = -mean_n [(1 - e) log p[n, y_n] + e mean_c log p[n, c]], p = softmax(scores)."""
    check_scores("cross_entropy_forward", scores, y)
    smoothing = check_number("cross_entropy_forward", "label_smoothing", label_smoothing, 0, 1)
    count, num_classes = scores.shape
    shifted = scores - np.max(scores, axis=1, keepdims=True)  # (N, C), at most 0
    log_p = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    loss = -np.sum(log_p[np.arange(count), y]) / max(count, 1)
    if smoothing > 0:
        uniform = -np.sum(log_p) / max(count * num_classes, 1)
        loss = (1 - smoothing) * loss + smoothing * uniform
    return loss, (log_p, y, smoothing)


def cross_entropy_backward(cache: Cache, dloss: float = 1.0) -> np.ndarray:
    """dscores = (p - target) dloss / N, target = (1 - e) one_hot(y) + e / C."""
    log_p, y, smoothing = cache
    scale = check_number("cross_entropy_backward", "dloss", dloss)
    count, num_classes = log_p.shape
    dscores: np.ndarray = np.exp(log_p)
    for n in range(count):
        dscores[n] -= smoothing / num_classes
        dscores[n, y[n]] -= 1 - smoothing
    dx: np.ndarray = dscores * (scale / max(count, 1))
    return dx


def multiclass_hinge_forward(
    scores: np.ndarray, y: np.ndarray, margin: float = 1.0
) -> tuple[np.floating, Cache]:
    """loss = mean_n sum_{c != y_n} max(0, scores[n, c] - scores[n, y_n] + margin)."""
    check_scores("multiclass_hinge_forward", scores, y)
    distance = check_number("multiclass_hinge_forward", "margin", margin)
    rows = np.arange(len(y))
    margins = np.maximum(scores - scores[rows, y][:, None] + distance, 0)  # (N, C)
    is_wrong = np.arange(scores.shape[1]) != y[:, None]
    loss = np.sum(np.where(is_wrong, margins, 0)) / max(len(y), 1)
    return loss, (scores, y, distance)


def multiclass_hinge_backward(cache: Cache, dloss: float = 1.0) -> np.ndarray:
    """Each wrong class inside the margin: +dloss / N, and as much less for the true class."""
    scores, y, distance = cache
    scale = check_number("multiclass_hinge_backward", "dloss", dloss)
    dscores = np.zeros_like(scores)
    for n in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            if c != y[n] and scores[n, c] - scores[n, y[n]] + distance > 0:
                dscores[n, c] += 1
                dscores[n, y[n]] -= 1
    dx: np.ndarray = dscores * (scale / max(len(y), 1))
    return dx


# --- convolution and pooling ----------------------------------------------------------------


def _pad(x: np.ndarray, padding: IntPair, value: float) -> np.ndarray:
    """Surround images by `padding` rows and columns of a value."""
    border = ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1]))
    return np.pad(x, border, constant_values=value)


def _crop(padded: np.ndarray, x_shape: tuple[int, ...], padding: IntPair) -> np.ndarray:
    """Take the border away again."""
    top, left = padding
    return padded[:, :, top : top + x_shape[2], left : left + x_shape[3]].copy()


def _positions(kernel: IntPair, stride: IntPair, extent: IntPair) -> list[tuple[slice, slice]]:
    """Rows and columns of each window, in row-major order."""
    return [
        (slice(top, top + kernel[0]), slice(left, left + kernel[1]))
        for top in range(0, stride[0] * extent[0], stride[0])
        for left in range(0, stride[1] * extent[1], stride[1])
    ]


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | IntPair = 1,
    padding: int | IntPair = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache]:
    """out[n, f, u, v] = sum_cij weight[f, c, i, j] x[n, c, s u + i - p, s v + j - p] + bias[f]."""
    strides, paddings, extent = check_conv2d(
        "conv2d_forward", x, weight, bias, stride, padding, groups
    )
    padded = _pad(x, paddings, 0.0)
    filters, group_channels, *kernel = weight.shape
    per_group = filters // groups
    pixels = []  # one (N, F) array for each window
    for rows, columns in _positions((kernel[0], kernel[1]), strides, extent):
        values = []  # one (N, F/G) array for each group
        for g in range(groups):
            channels = slice(g * group_channels, (g + 1) * group_channels)
            window = padded[:, None, channels, rows, columns]  # (N, 1, C/G, KH, KW)
            group_weight = weight[None, g * per_group : (g + 1) * per_group]
            values.append(np.sum(window * group_weight, axis=(2, 3, 4)))
        pixels.append(np.concatenate(values, axis=1))
    out = np.stack(pixels, axis=2).reshape(x.shape[0], filters, *extent)
    if bias is not None:
        out = out + bias[:, None, None]
    return out, (x, weight, bias, strides, paddings, groups, extent)


def conv2d_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Each product weight * x of forward passes dout * x to weight and dout * weight to x."""
    x, weight, bias, strides, paddings, groups, extent = cache
    filters, group_channels, *kernel = weight.shape
    check_dout("conv2d_backward", dout, (len(x), filters, *extent), x.dtype)
    padded = _pad(x, paddings, 0.0)
    dpadded = np.zeros_like(padded)
    dweight = np.zeros_like(weight)
    dpixels = dout.reshape(len(x), filters, prod(extent))
    for p, (rows, columns) in enumerate(_positions((kernel[0], kernel[1]), strides, extent)):
        for f in range(filters):
            first = f // (filters // groups) * group_channels
            window = (slice(None), slice(first, first + group_channels), rows, columns)
            dvalue = dpixels[:, f, p][:, None, None, None]  # (N, 1, 1, 1)
            dweight[f] += (dvalue * padded[window]).sum(axis=0)
            dpadded[window] += dvalue * weight[f]
    dx = _crop(dpadded, x.shape, paddings) if need_dx else None
    dbias = None if bias is None else dout.sum(axis=(0, 2, 3))
    return dx, dweight, dbias


def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | IntPair,
    stride: int | IntPair | None = None,
    padding: int | IntPair = 0,
) -> tuple[np.ndarray, Cache]:
    """out = max over each window."""
    kernel, strides, paddings, extent = check_pool2d(
        "max_pool2d_forward", x, kernel_size, stride, padding
    )
    padded = _pad(x, paddings, -np.inf)
    pixels = [
        np.max(padded[:, :, rows, columns], axis=(2, 3))  # (N, C)
        for rows, columns in _positions(kernel, strides, extent)
    ]
    out = np.stack(pixels, axis=2).reshape(*x.shape[:2], *extent)
    return out, (x, kernel, strides, paddings, extent)


def max_pool2d_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout at the first maximum of each window in row-major order, added up."""
    x, kernel, strides, paddings, extent = cache
    check_dout("max_pool2d_backward", dout, (*x.shape[:2], *extent), x.dtype)
    padded = _pad(x, paddings, -np.inf)
    dpadded = np.zeros_like(padded)
    dpixels = dout.reshape(*x.shape[:2], prod(extent))
    for p, (rows, columns) in enumerate(_positions(kernel, strides, extent)):
        for n in range(x.shape[0]):
            for c in range(x.shape[1]):
                first = np.argmax(padded[n, c, rows, columns])
                i, j = divmod(int(first), kernel[1])
                dpadded[n, c, rows.start + i, columns.start + j] += dpixels[n, c, p]
    return _crop(dpadded, x.shape, paddings)


def avg_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | IntPair,
    stride: int | IntPair | None = None,
    padding: int | IntPair = 0,
) -> tuple[np.ndarray, Cache]:
    """out = sum over each window / (KH KW), zeros of the border included."""
    kernel, strides, paddings, extent = check_pool2d(
        "avg_pool2d_forward", x, kernel_size, stride, padding
    )
    padded = _pad(x, paddings, 0.0)
    pixels = [
        np.sum(padded[:, :, rows, columns], axis=(2, 3)) / prod(kernel)  # (N, C)
        for rows, columns in _positions(kernel, strides, extent)
    ]
    out = np.stack(pixels, axis=2).reshape(*x.shape[:2], *extent)
    return out, (x, kernel, strides, paddings, extent)


def avg_pool2d_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout / (KH KW) at every pixel of each window, added up."""
    x, kernel, strides, paddings, extent = cache
    check_dout("avg_pool2d_backward", dout, (*x.shape[:2], *extent), x.dtype)
    dpadded = _pad(np.zeros_like(x), paddings, 0.0)
    dpixels = dout.reshape(*x.shape[:2], prod(extent))
    for p, (rows, columns) in enumerate(_positions(kernel, strides, extent)):
        dpadded[:, :, rows, columns] += dpixels[:, :, p, None, None] / prod(kernel)
    return _crop(dpadded, x.shape, paddings)


def global_avg_pool2d_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """out[n, c] = mean of x[n, c]."""
    check_images("global_avg_pool2d_forward", x)
    return np.sum(x, axis=(2, 3)) / prod(x.shape[2:]), (x.shape, x.dtype)


def global_avg_pool2d_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout / (H W) at every pixel."""
    x_shape, dtype = cache
    check_dout("global_avg_pool2d_backward", dout, x_shape[:2], dtype)
    dx: np.ndarray = dout[:, :, None, None] / prod(x_shape[2:]) * np.ones(x_shape, dtype=dtype)
    return dx


# --- normalisation --------------------------------------------------------------------------


def _along(vector: np.ndarray, ndim: int) -> np.ndarray:
    """Shape (C,) so that it broadcasts over (N, C, ...)."""
    return vector.reshape(vector.shape[0], *[1] * (ndim - 2))


def _normalise(x: np.ndarray, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any, Any]:
    """xhat = (x - mean) / sqrt(var + eps) over the axes; also mean, var, 1 / std."""
    count = max(prod(x.shape[axis] for axis in axes), 1)
    mean = np.sum(x, axis=axes, keepdims=True) / count
    centred = x - mean
    var = np.sum(centred * centred, axis=axes, keepdims=True) / count  # biased
    inv_std = 1 / np.sqrt(var + eps)
    return centred * inv_std, mean, var, inv_std


def _normalise_backward(
    dx_hat: np.ndarray, x_hat: np.ndarray, inv_std: np.ndarray, axes: tuple[int, ...]
) -> np.ndarray:
    """dx = (dxhat - mean(dxhat) - xhat mean(dxhat xhat)) / std, means over the axes."""
    count = max(prod(x_hat.shape[axis] for axis in axes), 1)
    mean = dx_hat.sum(axis=axes, keepdims=True) / count
    slope = (dx_hat * x_hat).sum(axis=axes, keepdims=True) / count
    dx: np.ndarray = (dx_hat - mean - x_hat * slope) * inv_std
    return dx


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
    """out = weight (x - mean) / sqrt(var + eps) + bias, channel by channel over the batch."""
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
    axes = (0, *range(2, x.ndim))
    count = prod(x.shape[axis] for axis in axes)  # M, values per channel
    new_mean, new_var = running_mean.copy(), running_var.copy()
    if training and count > 0:
        x_hat, mean, var, inv_std = _normalise(x, axes, eps)
        unbiased = var * (count / (count - 1))
        new_mean = (1 - share) * running_mean + share * mean.reshape(running_mean.shape)
        new_var = (1 - share) * running_var + share * unbiased.reshape(running_var.shape)
    else:
        inv_std = _along(1 / np.sqrt(running_var + eps), x.ndim)
        x_hat = (x - _along(running_mean, x.ndim)) * inv_std
    out = _along(weight, x.ndim) * x_hat + _along(bias, x.ndim)
    return out, (x_hat, inv_std, weight, axes, training and count > 0), (new_mean, new_var)


def batch_norm_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dweight = sum dout xhat, dbias = sum dout, dx through mean and variance if those of x."""
    x_hat, inv_std, weight, axes, used_batch = cache
    check_dout("batch_norm_backward", dout, x_hat.shape, x_hat.dtype)
    dx_hat = dout * _along(weight, dout.ndim)
    dx = _normalise_backward(dx_hat, x_hat, inv_std, axes) if used_batch else dx_hat * inv_std
    return dx, (dout * x_hat).sum(axis=axes), dout.sum(axis=axes)


def layer_norm_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5
) -> tuple[np.ndarray, Cache]:
    """out = weight (x - mean) / sqrt(var + eps) + bias over the trailing axes of each example."""
    eps = check_layer_norm("layer_norm_forward", x, weight, bias, eps)
    lead = x.ndim - weight.ndim
    x_hat, _, _, inv_std = _normalise(x, tuple(range(lead, x.ndim)), eps)
    return weight * x_hat + bias, (x_hat, inv_std, weight, lead)


def layer_norm_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As batch_norm, with mean and variance over the trailing axes."""
    x_hat, inv_std, weight, lead = cache
    check_dout("layer_norm_backward", dout, x_hat.shape, x_hat.dtype)
    dx = _normalise_backward(dout * weight, x_hat, inv_std, tuple(range(lead, dout.ndim)))
    examples = tuple(range(lead))
    return dx, (dout * x_hat).sum(axis=examples), dout.sum(axis=examples)


def group_norm_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, num_groups: int, eps: float = 1e-5
) -> tuple[np.ndarray, Cache]:
    """out = weight (x - mean) / sqrt(var + eps) + bias over each group of channels."""
    eps = check_group_norm("group_norm_forward", x, weight, bias, num_groups, eps)
    grouped = x.reshape(x.shape[0], num_groups, prod(x.shape[1:]) // num_groups)
    x_hat, _, _, inv_std = _normalise(grouped, (2,), eps)
    out = _along(weight, x.ndim) * x_hat.reshape(x.shape) + _along(bias, x.ndim)
    return out, (x.shape, x_hat, inv_std, weight)


def group_norm_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As batch_norm, with mean and variance over each group of channels."""
    x_shape, x_hat, inv_std, weight = cache
    check_dout("group_norm_backward", dout, x_shape, x_hat.dtype)
    dx_hat = (dout * _along(weight, dout.ndim)).reshape(x_hat.shape)
    dx = _normalise_backward(dx_hat, x_hat, inv_std, (2,)).reshape(x_shape)
    axes = (0, *range(2, dout.ndim))
    return dx, (dout * x_hat.reshape(x_shape)).sum(axis=axes), dout.sum(axis=axes)


# --- dropout --------------------------------------------------------------------------------


def dropout_forward(
    x: np.ndarray,
    p: float = 0.5,
    training: bool = True,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, Cache]:
    """out = x mask / (1 - p), mask 0 with probability p and else 1."""
    probability = check_dropout("dropout_forward", x, p, training, rng)
    scale = np.ones(x.shape, dtype=x.dtype)
    if training and rng is not None and probability > 0:
        dtype = np.float32 if x.dtype == np.float32 else np.float64
        mask = rng.random(x.shape, dtype=dtype) >= probability
        scale = np.where(mask, scale / (1 - probability), 0) if probability < 1 else 0 * scale
    return x * scale, (scale,)


def dropout_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dout mask / (1 - p)."""
    (scale,) = cache
    check_dout("dropout_backward", dout, scale.shape, scale.dtype)
    dx: np.ndarray = dout * scale
    return dx


# --- sandwiches -----------------------------------------------------------------------------


def linear_relu_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    """relu(linear(x))."""
    hidden, linear_cache = linear_forward(x, weight, bias)
    out, relu_cache = relu_forward(hidden)
    return out, (linear_cache, relu_cache)


def linear_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Backward of relu, then of linear."""
    linear_cache, relu_cache = cache
    return linear_backward(relu_backward(dout, relu_cache), linear_cache, need_dx)


def conv_relu_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | IntPair = 1,
    padding: int | IntPair = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache]:
    """relu(conv2d(x))."""
    hidden, conv_cache = conv2d_forward(x, weight, bias, stride, padding, groups)
    out, relu_cache = relu_forward(hidden)
    return out, (conv_cache, relu_cache)


def conv_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Backward of relu, then of conv2d."""
    conv_cache, relu_cache = cache
    return conv2d_backward(relu_backward(dout, relu_cache), conv_cache, need_dx)


def conv_relu_pool_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | IntPair = 1,
    padding: int | IntPair = 0,
    groups: int = 1,
    pool_kernel_size: int | IntPair = 2,
    pool_stride: int | IntPair | None = None,
) -> tuple[np.ndarray, Cache]:
    """max_pool2d(relu(conv2d(x)))."""
    hidden, conv_relu_cache = conv_relu_forward(x, weight, bias, stride, padding, groups)
    out, pool_cache = max_pool2d_forward(hidden, pool_kernel_size, pool_stride)
    return out, (conv_relu_cache, pool_cache)


def conv_relu_pool_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Backward of max_pool2d, then of relu, then of conv2d."""
    conv_relu_cache, pool_cache = cache
    return conv_relu_backward(max_pool2d_backward(dout, pool_cache), conv_relu_cache, need_dx)


def conv_bn_relu_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    bn_weight: np.ndarray,
    bn_bias: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    stride: int | IntPair = 1,
    padding: int | IntPair = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache, tuple[np.ndarray, np.ndarray]]:
    """relu(batch_norm(conv2d(x)))."""
    hidden, conv_cache = conv2d_forward(x, weight, bias, stride, padding, groups)
    normal, bn_cache, running = batch_norm_forward(
        hidden, bn_weight, bn_bias, running_mean, running_var, training, momentum, eps
    )
    out, relu_cache = relu_forward(normal)
    return out, (conv_cache, bn_cache, relu_cache), running


def conv_bn_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Backward of relu, then of batch_norm, then of conv2d."""
    conv_cache, bn_cache, relu_cache = cache
    dnormal = relu_backward(dout, relu_cache)
    dhidden, dbn_weight, dbn_bias = batch_norm_backward(dnormal, bn_cache)
    dx, dweight, dbias = conv2d_backward(dhidden, conv_cache, need_dx)
    return dx, dweight, dbias, dbn_weight, dbn_bias
