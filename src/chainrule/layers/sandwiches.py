"""Layers that usually come together, as one pair: linear-relu, conv-relu and longer ones.

Each is the composition of its layers, with the same result; what it saves is said in its Notes.
"""

from __future__ import annotations

import numpy as np

from chainrule.layers._arrays import relu_in_place
from chainrule.layers._checks import Cache, check_dout
from chainrule.layers.convolution import conv2d_backward, conv2d_forward
from chainrule.layers.linear import linear_backward, linear_forward
from chainrule.layers.normalization import batch_norm_backward, batch_norm_forward
from chainrule.layers.pooling import max_pool2d_backward, max_pool2d_forward

__all__ = [
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "linear_relu_backward",
    "linear_relu_forward",
]


def linear_relu_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    """Apply `linear_forward`, then ReLU.

    Parameters
    ----------
    x : ndarray, shape (N, D), float32 or float64
        One example a row.
    weight : ndarray, shape (F, D), dtype of x
        One output a row.
    bias : ndarray, shape (F,), dtype of x, optional
        Added to each row.

    Returns
    -------
    out : ndarray, shape (N, F), dtype of x
        ``max(0, x weight^T + bias)``.
    cache : tuple
        For `linear_relu_backward`. It may refer to x, weight and out: leave them as they are until
        then.

    Raises
    ------
    ShapeError, DTypeError
        As `linear_forward`.

    Notes
    -----
    ReLU works in place on the fresh output; where that is positive, its gradient passes.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = linear_relu_forward(np.array([[1.0]]), np.array([[2.0], [-2.0]]))
    >>> out
    array([[2., 0.]])
    """
    out, linear_cache = linear_forward(x, weight, bias)
    positive = relu_in_place(out)
    return out, (linear_cache, positive, x.dtype)


def linear_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Propagate a gradient through `linear_relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F)
        Gradient of the loss by the output.
    cache : tuple
        From `linear_relu_forward`.
    need_dx : bool, default True
        False skips dx.

    Returns
    -------
    dx : ndarray, shape (N, D), or None
        None if `need_dx` is False.
    dweight : ndarray, shape (F, D)
        Summed over the batch.
    dbias : ndarray, shape (F,), or None
        None if there was no bias.

    Raises
    ------
    ShapeError, DTypeError
        If dout has not the shape and dtype of the output.

    Notes
    -----
    dout passes where the output was positive, then through `linear_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = linear_relu_forward(np.array([[1.0]]), np.array([[2.0], [-2.0]]))
    >>> linear_relu_backward(np.ones((1, 2)), cache)[0]
    array([[2.]])
    """
    linear_cache, positive, dtype = cache
    check_dout("linear_relu_backward", dout, positive.shape, dtype)
    return linear_backward(dout * positive, linear_cache, need_dx)


def conv_relu_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache]:
    """Apply `conv2d_forward`, then ReLU.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32 or float64
        Images.
    weight : ndarray, shape (F, C / groups, KH, KW), dtype of x
        Filters.
    bias : ndarray, shape (F,), dtype of x, optional
        Added to each output channel.
    stride, padding : int or (int, int), default 1 and 0
        As `conv2d_forward`.
    groups : int, default 1
        As `conv2d_forward`.

    Returns
    -------
    out : ndarray, shape (N, F, OH, OW), dtype of x
        ``max(0, conv2d(x))``.
    cache : tuple
        For `conv_relu_backward`. It may refer to x, weight and out: leave them as they are until
        then.

    Raises
    ------
    ShapeError, InputError, DTypeError
        As `conv2d_forward`.

    Notes
    -----
    Compiled, ReLU is part of the convolution, and backward sees from out where it was positive.
    With NumPy it works in place on the fresh output and keeps a mask of one byte an element.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, -2.0, 3.0]]]])
    >>> out, cache = conv_relu_forward(x, np.ones((1, 1, 1, 1)))
    >>> out[0, 0]
    array([[1., 0., 3.]])
    """
    out, conv_cache = conv2d_forward(x, weight, bias, stride, padding, groups)
    positive = relu_in_place(out)
    return out, (conv_cache, positive, x.dtype)


def conv_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Propagate a gradient through `conv_relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, OH, OW)
        Gradient of the loss by the output.
    cache : tuple
        From `conv_relu_forward`.
    need_dx : bool, default True
        False skips dx.

    Returns
    -------
    dx : ndarray, shape (N, C, H, W), or None
        None if `need_dx` is False.
    dweight : ndarray, shape (F, C / groups, KH, KW)
        Summed over batch and positions.
    dbias : ndarray, shape (F,), or None
        None if there was no bias.

    Raises
    ------
    ShapeError, DTypeError
        If dout has not the shape and dtype of the output.

    Notes
    -----
    dout passes where the output was positive, then through `conv2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, -2.0, 3.0]]]])
    >>> out, cache = conv_relu_forward(x, np.ones((1, 1, 1, 1)))
    >>> conv_relu_backward(np.ones((1, 1, 1, 3)), cache)[0][0, 0]
    array([[1., 0., 1.]])
    """
    conv_cache, positive, dtype = cache
    check_dout("conv_relu_backward", dout, positive.shape, dtype)
    return conv2d_backward(dout * positive, conv_cache, need_dx)


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
    """Apply `conv2d_forward`, then ReLU, then `max_pool2d_forward`.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32 or float64
        Images.
    weight : ndarray, shape (F, C / groups, KH, KW), dtype of x
        Filters.
    bias : ndarray, shape (F,), dtype of x, optional
        Added to each output channel.
    stride, padding : int or (int, int), default 1 and 0
        Of the convolution, as `conv2d_forward`.
    groups : int, default 1
        As `conv2d_forward`.
    pool_kernel_size : int or (int, int), default 2
        Rows and columns of the pooling window.
    pool_stride : int or (int, int), optional
        Step of the pooling window; `pool_kernel_size` if None.

    Returns
    -------
    out : ndarray, shape (N, F, PH, PW), dtype of x
        The pooled, rectified convolution.
    cache : tuple
        For `conv_relu_pool_backward`.

    Raises
    ------
    ShapeError, InputError, DTypeError
        As `conv2d_forward` and `max_pool2d_forward`.

    Notes
    -----
    The maximum of rectified values is the rectified maximum, and where it is 0 no gradient
    passes either way. So ReLU is done after pooling, on an array smaller by the window's size.
    Compiled, windows of 2 x 2 are taken from the convolution of one image while that is in the
    cache, and one byte for each says where the gradient goes.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, -2.0], [3.0, 0.0]]]])
    >>> out, cache = conv_relu_pool_forward(x, np.ones((1, 1, 1, 1)))
    >>> out[0, 0]
    array([[3.]])
    """
    convolved, conv_cache = conv2d_forward(x, weight, bias, stride, padding, groups)
    out, pool_cache = max_pool2d_forward(convolved, pool_kernel_size, pool_stride)
    positive = relu_in_place(out)
    return out, (conv_cache, pool_cache, positive, x.dtype)


def conv_relu_pool_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Propagate a gradient through `conv_relu_pool_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, PH, PW)
        Gradient of the loss by the output.
    cache : tuple
        From `conv_relu_pool_forward`.
    need_dx : bool, default True
        False skips dx.

    Returns
    -------
    dx : ndarray, shape (N, C, H, W), or None
        None if `need_dx` is False.
    dweight : ndarray, shape (F, C / groups, KH, KW)
        Summed over batch and positions.
    dbias : ndarray, shape (F,), or None
        None if there was no bias.

    Raises
    ------
    ShapeError, DTypeError
        If dout has not the shape and dtype of the output.

    Notes
    -----
    dout passes where the output was positive, to the maximum of its window, then through
    `conv2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, -2.0], [3.0, 0.0]]]])
    >>> out, cache = conv_relu_pool_forward(x, np.ones((1, 1, 1, 1)))
    >>> conv_relu_pool_backward(np.ones((1, 1, 1, 1)), cache)[0][0, 0]
    array([[0., 0.],
           [1., 0.]])
    """
    conv_cache, pool_cache, positive, dtype = cache
    check_dout("conv_relu_pool_backward", dout, positive.shape, dtype)
    dconvolved = max_pool2d_backward(dout * positive, pool_cache)
    return conv2d_backward(dconvolved, conv_cache, need_dx)


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
    """Apply `conv2d_forward`, then `batch_norm_forward`, then ReLU.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32 or float64
        Images.
    weight : ndarray, shape (F, C / groups, KH, KW), dtype of x
        Filters.
    bias : ndarray, shape (F,), dtype of x, or None
        Added to each channel before normalisation, which takes it out again when training:
        None is the usual choice.
    bn_weight, bn_bias : ndarray, shape (F,), dtype of x
        Scale and shift after normalisation.
    running_mean, running_var : ndarray, shape (F,), dtype of x
        Statistics for evaluation.
    training : bool, default True
        Normalise with the batch's statistics (True) or the running ones.
    momentum, eps : float, default 0.1 and 1e-5
        As `batch_norm_forward`.
    stride, padding : int or (int, int), default 1 and 0
        As `conv2d_forward`.
    groups : int, default 1
        As `conv2d_forward`.

    Returns
    -------
    out : ndarray, shape (N, F, OH, OW), dtype of x
        The rectified, normalised convolution.
    cache : tuple
        For `conv_bn_relu_backward`.
    running : (ndarray, ndarray), each of shape (F,)
        The new running mean and variance.

    Raises
    ------
    ShapeError, InputError, DTypeError
        As `conv2d_forward` and `batch_norm_forward`.

    Notes
    -----
    ReLU works in place on the fresh output and keeps a mask of one byte an element.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, 3.0]]]])
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> out, cache, running = conv_bn_relu_forward(
    ...     x, np.ones((1, 1, 1, 1)), None, one, zero, zero, one, eps=0.0)
    >>> out[0, 0], running
    (array([[0., 1.]]), (array([0.2]), array([1.1])))
    """
    convolved, conv_cache = conv2d_forward(x, weight, bias, stride, padding, groups)
    out, bn_cache, running = batch_norm_forward(
        convolved, bn_weight, bn_bias, running_mean, running_var, training, momentum, eps
    )
    positive = relu_in_place(out)
    return out, (conv_cache, bn_cache, positive, x.dtype), running


def conv_bn_relu_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Propagate a gradient through `conv_bn_relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, OH, OW)
        Gradient of the loss by the output.
    cache : tuple
        From `conv_bn_relu_forward`.
    need_dx : bool, default True
        False skips dx.

    Returns
    -------
    dx : ndarray, shape (N, C, H, W), or None
        None if `need_dx` is False.
    dweight : ndarray, shape (F, C / groups, KH, KW)
        Summed over batch and positions.
    dbias : ndarray, shape (F,), or None
        None if there was no bias; zero up to rounding when training.
    dbn_weight, dbn_bias : ndarray, shape (F,)
        Gradients of scale and shift.

    Raises
    ------
    ShapeError, DTypeError
        If dout has not the shape and dtype of the output.

    Notes
    -----
    dout passes where the output was positive, then through `batch_norm_backward` and
    `conv2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, 3.0]]]])
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> out, cache, running = conv_bn_relu_forward(
    ...     x, np.ones((1, 1, 1, 1)), None, one, zero, zero, one, eps=0.0)
    >>> conv_bn_relu_backward(np.ones((1, 1, 1, 2)), cache)[3:]
    (array([1.]), array([1.]))
    """
    conv_cache, bn_cache, positive, dtype = cache
    check_dout("conv_bn_relu_backward", dout, positive.shape, dtype)
    dconvolved, dbn_weight, dbn_bias = batch_norm_backward(dout * positive, bn_cache)
    dx, dweight, dbias = conv2d_backward(dconvolved, conv_cache, need_dx)
    return dx, dweight, dbias, dbn_weight, dbn_bias
