"""Pairs on compiled kernels, for what those cover; the rest is handed to the NumPy pairs.

A pair here has the signature, the checks and the docstring of its NumPy pair. Its forward decides
which of the two does the work, and the type of the cache tells backward. A kernel wants arrays
that are contiguous and aligned, so others are copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from chainrule import kernels
from chainrule.layers import (
    activations,
    convolution,
    linear,
    losses,
    normalization,
    pooling,
    sandwiches,
)
from chainrule.layers._arrays import relu_in_place
from chainrule.layers._checks import (
    Cache,
    check_batch_norm,
    check_conv2d,
    check_dout,
    check_floats,
    check_linear,
    check_number,
    check_pool2d,
    check_scores,
)

if TYPE_CHECKING:
    from chainrule.kernels._kernels import InstructionSet

__all__ = [
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
    "linear_backward",
    "linear_forward",
    "linear_relu_backward",
    "linear_relu_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "relu_backward",
    "relu_forward",
]

Function = TypeVar("Function", bound=Callable[..., Any])

# A kernel makes one set of filters for each phase of the stride, in a table of this size.
_MAX_PHASES = 64


def _documented_by(original: Callable[..., Any]) -> Callable[[Function], Function]:
    """Give a function the docstring of the NumPy function that it stands for."""

    def copy(function: Function) -> Function:
        function.__doc__ = original.__doc__
        return function

    return copy


def _plain(array: np.ndarray) -> np.ndarray:
    """The array as a kernel can take it: itself, or a contiguous and aligned copy."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.array(array, order="C")


# --- convolution ----------------------------------------------------------------------------


class _ConvCache(NamedTuple):
    """What backward needs of a convolution and of what was fused with it."""

    kernels: InstructionSet  # those of forward, so that backward runs on the same
    x: np.ndarray
    weight: np.ndarray
    has_bias: bool
    geometry: tuple[int, int, int, int]  # stride and padding, each over rows and columns
    shape: tuple[int, ...]  # of the output
    rectified: np.ndarray | None = None  # the output, if a ReLU was fused
    winner: np.ndarray | None = None  # of each 2 x 2 window, if pooling was fused as well


def _convolve(
    chosen: InstructionSet,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    geometry: tuple[int, int, int, int],
    extent: tuple[int, int],
    relu: bool = False,
    pool: bool = False,
) -> tuple[np.ndarray, _ConvCache]:
    """Run a convolution and what is fused with it; `extent` is that of the output."""
    x, weight = _plain(x), _plain(weight)
    shape = (x.shape[0], weight.shape[0], *extent)
    out = kernels.empty(shape, x.dtype)
    winner = kernels.empty(shape, np.uint8) if pool else None
    chosen.conv_forward(
        x,
        weight,
        None if bias is None else _plain(bias),
        out,
        winner,
        *geometry,
        relu,
        kernels.winograd_allowed(),
        kernels.threads(),
    )
    rectified = out if relu and not pool else None
    has_bias = bias is not None
    return out, _ConvCache(chosen, x, weight, has_bias, geometry, shape, rectified, winner)


def _convolve_back(
    where: str, dout: np.ndarray, cache: _ConvCache, need_dx: bool
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Propagate a gradient through `_convolve`."""
    x, weight = cache.x, cache.weight
    check_dout(where, dout, cache.shape, x.dtype)
    dout = _plain(dout)
    if need_dx and not np.isfinite(weight).all():
        return _convolve_back_with_numpy(dout, cache)
    dx = kernels.empty(x.shape, x.dtype) if need_dx else None
    dweight = kernels.empty(weight.shape, x.dtype)
    dbias = np.empty(weight.shape[0], x.dtype) if cache.has_bias else None
    cache.kernels.conv_backward(
        dout,
        x,
        weight,
        cache.rectified,
        cache.winner,
        dx,
        dweight,
        dbias,
        *cache.geometry,
        kernels.winograd_allowed(),
        kernels.threads(),
    )
    return dx, dweight, dbias


def _convolve_back_with_numpy(
    dout: np.ndarray, cache: _ConvCache
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """The same for filters with infinities or NaN.

    The kernel for dx surrounds dout with zeros, and zero times infinity would be NaN at pixels
    that no such filter reaches.
    """
    stride, padding = cache.geometry[:2], cache.geometry[2:]
    bias = np.zeros(len(cache.weight), cache.x.dtype) if cache.has_bias else None
    out, plain = convolution.conv2d_forward(cache.x, cache.weight, bias, stride, padding)
    if cache.rectified is not None:
        dout = np.where(cache.rectified > 0, dout, 0)
    if cache.winner is not None:
        upstream = np.zeros_like(out)
        height, width = cache.shape[2:]
        for pixel in range(4):
            rows, columns = slice(pixel // 2, 2 * height, 2), slice(pixel % 2, 2 * width, 2)
            upstream[:, :, rows, columns] = np.where(cache.winner == pixel, dout, 0)
        dout = upstream
    return convolution.conv2d_backward(dout, plain)


@_documented_by(convolution.conv2d_forward)
def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache]:
    chosen = kernels.current()
    if chosen is not None and groups == 1:
        strides, paddings, extent = check_conv2d(
            "conv2d_forward", x, weight, bias, stride, padding, groups
        )
        if strides[0] * strides[1] <= _MAX_PHASES:
            return _convolve(chosen, x, weight, bias, (*strides, *paddings), extent)
    return convolution.conv2d_forward(x, weight, bias, stride, padding, groups)


@_documented_by(convolution.conv2d_backward)
def conv2d_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    if isinstance(cache, _ConvCache):
        return _convolve_back("conv2d_backward", dout, cache, need_dx)
    return convolution.conv2d_backward(dout, cache, need_dx)


# --- linear ---------------------------------------------------------------------------------


class _LinearCache(NamedTuple):
    """What backward needs of a linear layer and of a ReLU that was fused with it."""

    kernels: InstructionSet
    x: np.ndarray
    weight: np.ndarray
    has_bias: bool
    rectified: np.ndarray | None  # the output, if a ReLU was fused


def _multiply(
    chosen: InstructionSet,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    relu: bool,
) -> tuple[np.ndarray, _LinearCache]:
    """Run a linear layer, with or without ReLU behind."""
    check_linear("linear_forward", x, weight, bias)
    x, weight = _plain(x), _plain(weight)
    out = kernels.empty((len(x), len(weight)), x.dtype)
    own = None if bias is None else _plain(bias)
    chosen.linear_forward(x, weight, own, relu, out, kernels.threads())
    return out, _LinearCache(chosen, x, weight, bias is not None, out if relu else None)


def _multiply_back(
    where: str, dout: np.ndarray, cache: _LinearCache, need_dx: bool
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Propagate a gradient through `_multiply`."""
    chosen, x, weight, has_bias, rectified = cache
    check_dout(where, dout, (len(x), len(weight)), x.dtype)
    dx = kernels.empty(x.shape, x.dtype) if need_dx else None
    dweight = kernels.empty(weight.shape, x.dtype)
    dbias = np.empty(len(weight), x.dtype) if has_bias else None
    chosen.linear_backward(
        _plain(dout), x, weight, rectified, dx, dweight, dbias, kernels.threads()
    )
    return dx, dweight, dbias


@_documented_by(linear.linear_forward)
def linear_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    chosen = kernels.current()
    if chosen is None:
        return linear.linear_forward(x, weight, bias)
    return _multiply(chosen, x, weight, bias, relu=False)


@_documented_by(linear.linear_backward)
def linear_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    if isinstance(cache, _LinearCache):
        return _multiply_back("linear_backward", dout, cache, need_dx)
    return linear.linear_backward(dout, cache, need_dx)


# --- ReLU and max pooling -------------------------------------------------------------------


class _ReluCache(NamedTuple):
    """What backward needs of a ReLU."""

    kernels: InstructionSet
    x: np.ndarray


@_documented_by(activations.relu_forward)
def relu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    chosen = kernels.current()
    if chosen is None:
        return activations.relu_forward(x)
    check_floats("relu_forward", x=x)
    x = _plain(x)
    out = kernels.empty(x.shape, x.dtype)
    chosen.relu_forward(x, out, kernels.threads())
    return out, _ReluCache(chosen, x)


@_documented_by(activations.relu_backward)
def relu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    if not isinstance(cache, _ReluCache):
        return activations.relu_backward(dout, cache)
    x = cache.x
    check_dout("relu_backward", dout, x.shape, x.dtype)
    dx = kernels.empty(x.shape, x.dtype)
    cache.kernels.relu_backward(x, _plain(dout), dx, kernels.threads())
    return dx


# Windows whose elements a uint8 can count.
_MOST_ELEMENTS = 255


class _PoolCache(NamedTuple):
    """What backward needs of max pooling."""

    kernels: InstructionSet
    shape: tuple[int, ...]  # of the input
    dtype: np.dtype[Any]
    winner: np.ndarray
    window: tuple[int, int, int, int, int, int]  # kernel, stride, padding: rows and columns


@_documented_by(pooling.max_pool2d_forward)
def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> tuple[np.ndarray, Cache]:
    chosen = kernels.current()
    if chosen is not None:
        kernel, strides, paddings, extent = check_pool2d(
            "max_pool2d_forward", x, kernel_size, stride, padding
        )
        if kernel[0] * kernel[1] <= _MOST_ELEMENTS:
            x = _plain(x)
            shape = (*x.shape[:2], *extent)
            out, winner = kernels.empty(shape, x.dtype), kernels.empty(shape, np.uint8)
            window = (*kernel, *strides, *paddings)
            chosen.max_pool_forward(x, out, winner, *window, kernels.threads())
            return out, _PoolCache(chosen, x.shape, x.dtype, winner, window)
    return pooling.max_pool2d_forward(x, kernel_size, stride, padding)


@_documented_by(pooling.max_pool2d_backward)
def max_pool2d_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    if not isinstance(cache, _PoolCache):
        return pooling.max_pool2d_backward(dout, cache)
    check_dout("max_pool2d_backward", dout, cache.winner.shape, cache.dtype)
    dx = kernels.empty(cache.shape, cache.dtype)
    cache.kernels.max_pool_backward(
        _plain(dout), cache.winner, dx, *cache.window, kernels.threads()
    )
    return dx


# --- batch normalisation --------------------------------------------------------------------


class _NormCache(NamedTuple):
    """What backward needs of a batch normalisation and of a ReLU that was fused with it."""

    kernels: InstructionSet
    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    stats: np.ndarray  # (3, C): mean, variance, 1 / sqrt(variance + eps)
    use_batch: bool
    relu: bool


def _normalise(
    chosen: InstructionSet,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool,
) -> tuple[np.ndarray, _NormCache, tuple[np.ndarray, np.ndarray]]:
    """Run a batch normalisation, with or without ReLU behind."""
    share, eps = check_batch_norm(
        "batch_norm_forward", x, weight, bias, running_mean, running_var, training, momentum, eps
    )
    x, weight, bias = _plain(x), _plain(weight), _plain(bias)
    count = x.size // max(x.shape[1], 1)
    use_batch = bool(training and count > 0)
    out = kernels.empty(x.shape, x.dtype)
    stats = np.empty((3, x.shape[1]))
    chosen.batch_norm_forward(
        x,
        weight,
        bias,
        None if use_batch else _plain(running_mean),
        None if use_batch else _plain(running_var),
        eps,
        relu,
        stats,
        out,
        kernels.threads(),
    )
    new_mean, new_var = running_mean.copy(), running_var.copy()
    if use_batch:
        unbiased = stats[1] * (count / (count - 1))
        new_mean[...] = (1 - share) * running_mean + share * stats[0]
        new_var[...] = (1 - share) * running_var + share * unbiased
    cache = _NormCache(chosen, x, weight, bias, stats, use_batch, relu)
    return out, cache, (new_mean, new_var)


def _normalise_back(
    where: str, dout: np.ndarray, cache: _NormCache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Propagate a gradient through `_normalise`."""
    x = cache.x
    check_dout(where, dout, x.shape, x.dtype)
    dx = kernels.empty(x.shape, x.dtype)
    dweight, dbias = np.empty_like(cache.weight), np.empty_like(cache.bias)
    cache.kernels.batch_norm_backward(
        x,
        cache.weight,
        cache.bias,
        cache.stats,
        _plain(dout),
        cache.use_batch,
        cache.relu,
        dx,
        dweight,
        dbias,
        kernels.threads(),
    )
    return dx, dweight, dbias


@_documented_by(normalization.batch_norm_forward)
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
    chosen = kernels.current()
    arguments = (x, weight, bias, running_mean, running_var, training, momentum, eps)
    if chosen is None:
        return normalization.batch_norm_forward(*arguments)
    return _normalise(chosen, *arguments, relu=False)


@_documented_by(normalization.batch_norm_backward)
def batch_norm_backward(
    dout: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if isinstance(cache, _NormCache):
        return _normalise_back("batch_norm_backward", dout, cache)
    return normalization.batch_norm_backward(dout, cache)


# --- cross-entropy --------------------------------------------------------------------------


class _LossCache(NamedTuple):
    """The gradient, which comes out of the same pass as the loss."""

    dscores: np.ndarray


@_documented_by(losses.cross_entropy_forward)
def cross_entropy_forward(
    scores: np.ndarray, y: np.ndarray, label_smoothing: float = 0.0
) -> tuple[np.floating[Any], Cache]:
    chosen = kernels.current()
    if chosen is None:
        return losses.cross_entropy_forward(scores, y, label_smoothing)
    check_scores("cross_entropy_forward", scores, y)
    smoothing = check_number("cross_entropy_forward", "label_smoothing", label_smoothing, 0, 1)
    scores, labels = _plain(scores), _plain(y.astype(np.int64, copy=False))
    dscores = kernels.empty(scores.shape, scores.dtype)
    loss = chosen.cross_entropy(scores, labels, smoothing, dscores, kernels.threads())
    return scores.dtype.type(loss), _LossCache(dscores)


@_documented_by(losses.cross_entropy_backward)
def cross_entropy_backward(cache: Cache, dloss: float = 1.0) -> np.ndarray:
    if not isinstance(cache, _LossCache):
        return losses.cross_entropy_backward(cache, dloss)
    scale = check_number("cross_entropy_backward", "dloss", dloss)
    dscores: np.ndarray = cache.dscores * cache.dscores.dtype.type(scale)
    return dscores


# --- sandwiches -----------------------------------------------------------------------------


@_documented_by(sandwiches.linear_relu_forward)
def linear_relu_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    chosen = kernels.current()
    if chosen is None:
        return sandwiches.linear_relu_forward(x, weight, bias)
    return _multiply(chosen, x, weight, bias, relu=True)


@_documented_by(sandwiches.linear_relu_backward)
def linear_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    if isinstance(cache, _LinearCache):
        return _multiply_back("linear_relu_backward", dout, cache, need_dx)
    return sandwiches.linear_relu_backward(dout, cache, need_dx)


@_documented_by(sandwiches.conv_relu_forward)
def conv_relu_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache]:
    chosen = kernels.current()
    if chosen is not None and groups == 1:
        strides, paddings, extent = check_conv2d(
            "conv2d_forward", x, weight, bias, stride, padding, groups
        )
        if strides[0] * strides[1] <= _MAX_PHASES:
            return _convolve(chosen, x, weight, bias, (*strides, *paddings), extent, relu=True)
    return sandwiches.conv_relu_forward(x, weight, bias, stride, padding, groups)


@_documented_by(sandwiches.conv_relu_backward)
def conv_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    if isinstance(cache, _ConvCache):
        return _convolve_back("conv_relu_backward", dout, cache, need_dx)
    return sandwiches.conv_relu_backward(dout, cache, need_dx)


@_documented_by(sandwiches.conv_relu_pool_forward)
def conv_relu_pool_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    pool_kernel_size: int | tuple[int, int] = 2,
    pool_stride: int | tuple[int, int] | None = None,
) -> tuple[np.ndarray, Cache]:
    chosen = kernels.current()
    if chosen is not None and groups == 1:
        strides, paddings, extent = check_conv2d(
            "conv2d_forward", x, weight, bias, stride, padding, groups
        )
        # The pooling is checked on an array that has the convolution's shape, but no memory.
        convolved = np.broadcast_to(x.dtype.type(0), (x.shape[0], weight.shape[0], *extent))
        window, step, _, pooled = check_pool2d(
            "max_pool2d_forward", convolved, pool_kernel_size, pool_stride, 0
        )
        if window == step == (2, 2) and strides[0] * strides[1] <= _MAX_PHASES:
            geometry = (*strides, *paddings)
            return _convolve(chosen, x, weight, bias, geometry, pooled, relu=True, pool=True)
    convolved, conv_cache = conv2d_forward(x, weight, bias, stride, padding, groups)
    out, pool_cache = max_pool2d_forward(convolved, pool_kernel_size, pool_stride)
    positive = relu_in_place(out)
    return out, (conv_cache, pool_cache, positive, x.dtype)


@_documented_by(sandwiches.conv_relu_pool_backward)
def conv_relu_pool_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    if isinstance(cache, _ConvCache):
        return _convolve_back("conv_relu_pool_backward", dout, cache, need_dx)
    conv_cache, pool_cache, positive, dtype = cache
    check_dout("conv_relu_pool_backward", dout, positive.shape, dtype)
    dconvolved = max_pool2d_backward(dout * positive, pool_cache)
    return conv2d_backward(dconvolved, conv_cache, need_dx)


@_documented_by(sandwiches.conv_bn_relu_forward)
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
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache, tuple[np.ndarray, np.ndarray]]:
    chosen = kernels.current()
    if chosen is None:
        return sandwiches.conv_bn_relu_forward(
            x,
            weight,
            bias,
            bn_weight,
            bn_bias,
            running_mean,
            running_var,
            training,
            momentum,
            eps,
            stride,
            padding,
            groups,
        )
    convolved, conv_cache = conv2d_forward(x, weight, bias, stride, padding, groups)
    out, bn_cache, running = _normalise(
        chosen,
        convolved,
        bn_weight,
        bn_bias,
        running_mean,
        running_var,
        training,
        momentum,
        eps,
        relu=True,
    )
    return out, _ConvNormCache(conv_cache, bn_cache), running


class _ConvNormCache(NamedTuple):
    """What backward needs of a convolution with batch normalisation and ReLU behind."""

    conv: Cache
    norm: _NormCache


@_documented_by(sandwiches.conv_bn_relu_backward)
def conv_bn_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    if not isinstance(cache, _ConvNormCache):
        return sandwiches.conv_bn_relu_backward(dout, cache, need_dx)
    dconvolved, dbn_weight, dbn_bias = _normalise_back("conv_bn_relu_backward", dout, cache.norm)
    dx, dweight, dbias = conv2d_backward(dconvolved, cache.conv, need_dx)
    return dx, dweight, dbias, dbn_weight, dbn_bias
