"""Pooling over windows (maximum, average) and over whole images.

Windows are read as one strided view for each of their elements, so that every operation runs
over whole arrays; nothing is copied for windows that do not need padding.
"""

from __future__ import annotations

import numpy as np

from chainrule.layers._arrays import crop_images, pad_images, window_views, zeros_around
from chainrule.layers._checks import Cache, check_dout, check_images, check_pool2d

__all__ = [
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "global_avg_pool2d_backward",
    "global_avg_pool2d_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
]


def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> tuple[np.ndarray, Cache]:
    """Take the largest value in each window.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32 or float64
        Images; N may be 0.
    kernel_size : int or (int, int)
        Rows and columns of the window.
    stride : int or (int, int), optional
        Step of the window; `kernel_size` if None. A smaller one makes windows overlap.
    padding : int or (int, int), default 0
        Rows and columns of minus infinity added on each side, at most half of `kernel_size`.

    Returns
    -------
    out : ndarray, shape (N, C, OH, OW), dtype of x
        With ``OH = (H + 2 padding - KH) // stride + 1`` and OW likewise; rows and columns
        beyond the last whole window are not used.
    cache : tuple
        For `max_pool2d_backward`.

    Raises
    ------
    ShapeError
        If x is no batch of images, or smaller than the window.
    InputError
        If kernel_size, stride or padding is out of range.
    DTypeError
        If x is not float32 or float64, or a size is no integer.

    Notes
    -----
    ``out = max over the window``. The function has a kink where the maximum is not unique; the
    gradient then goes to the first in row-major order, as in PyTorch. A window with a NaN gives
    NaN. About ``3 KH KW`` passes over arrays of the size of the output.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = max_pool2d_forward(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    >>> out[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    kernel, strides, paddings, extent = check_pool2d(
        "max_pool2d_forward", x, kernel_size, stride, padding
    )
    views = window_views(pad_images(x, paddings, -np.inf), kernel, strides, extent)
    out = views[0].copy()
    for view in views[1:]:
        np.maximum(out, view, out=out)
    # The position of the first maximum is the number of elements before it.
    winner = np.zeros(out.shape, dtype=np.min_scalar_type(len(views) - 1))
    before = np.ones(out.shape, dtype=bool)
    has_nan = bool(np.isnan(out).any())
    for view in views[:-1]:
        before &= view != out
        if has_nan:  # NaN differs from itself, but is the maximum of its window
            before &= ~np.isnan(view)
        winner += before
    return out, (x.shape, x.dtype, winner, kernel, strides, paddings)


def max_pool2d_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `max_pool2d_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, C, OH, OW)
        Gradient of the loss by the output.
    cache : tuple
        From `max_pool2d_forward`.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        dx.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    Each value of dout is added at the position that held the maximum of its window, the first
    one in row-major order if several did.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = max_pool2d_forward(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)
    >>> max_pool2d_backward(np.array([[[[5.0]]]]), cache)[0, 0]
    array([[0., 5.],
           [0., 0.]])
    """
    x_shape, dtype, winner, kernel, strides, paddings = cache
    check_dout("max_pool2d_backward", dout, winner.shape, dtype)
    dpadded = zeros_around(x_shape, paddings, dtype)
    overlap = kernel[0] > strides[0] or kernel[1] > strides[1]
    for offset, view in enumerate(window_views(dpadded, kernel, strides, winner.shape[2:])):
        if overlap:
            view += dout * (winner == offset)
        else:
            np.multiply(dout, winner == offset, out=view)
    return crop_images(dpadded, x_shape, paddings)


def avg_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> tuple[np.ndarray, Cache]:
    """Average each window.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32 or float64
        Images; N may be 0.
    kernel_size : int or (int, int)
        Rows and columns of the window.
    stride : int or (int, int), optional
        Step of the window; `kernel_size` if None. A smaller one makes windows overlap.
    padding : int or (int, int), default 0
        Rows and columns of zeros added on each side, at most half of `kernel_size`. They count
        in the average, as with PyTorch's default ``count_include_pad=True``.

    Returns
    -------
    out : ndarray, shape (N, C, OH, OW), dtype of x
        With ``OH = (H + 2 padding - KH) // stride + 1`` and OW likewise.
    cache : tuple
        For `avg_pool2d_backward`.

    Raises
    ------
    ShapeError
        If x is no batch of images, or smaller than the window.
    InputError
        If kernel_size, stride or padding is out of range.
    DTypeError
        If x is not float32 or float64, or a size is no integer.

    Notes
    -----
    ``out = sum over the window / (KH KW)``, in ``KH KW`` passes over arrays of the size of the
    output. The window is summed in the dtype of x, element after element.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = avg_pool2d_forward(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    >>> out[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    kernel, strides, paddings, extent = check_pool2d(
        "avg_pool2d_forward", x, kernel_size, stride, padding
    )
    views = window_views(pad_images(x, paddings, 0.0), kernel, strides, extent)
    out = views[0].copy()
    for view in views[1:]:
        out += view
    out /= len(views)
    return out, (x.shape, x.dtype, kernel, strides, paddings, extent)


def avg_pool2d_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `avg_pool2d_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, C, OH, OW)
        Gradient of the loss by the output.
    cache : tuple
        From `avg_pool2d_forward`.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        dx.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    Each window spreads its ``dout / (KH KW)`` evenly over its pixels.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = avg_pool2d_forward(np.zeros((1, 1, 2, 2)), 2)
    >>> avg_pool2d_backward(np.array([[[[4.0]]]]), cache)[0, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    x_shape, dtype, kernel, strides, paddings, extent = cache
    check_dout("avg_pool2d_backward", dout, (*x_shape[:2], *extent), dtype)
    dpadded = zeros_around(x_shape, paddings, dtype)
    share = dout / (kernel[0] * kernel[1])
    for view in window_views(dpadded, kernel, strides, extent):
        view += share
    return crop_images(dpadded, x_shape, paddings)


def global_avg_pool2d_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Average each channel over the whole image.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32 or float64
        Images; N may be 0.

    Returns
    -------
    out : ndarray, shape (N, C), dtype of x
        The averages.
    cache : tuple
        For `global_avg_pool2d_backward`.

    Raises
    ------
    ShapeError
        If x is no batch of images, or has no pixels.
    DTypeError
        If x is not float32 or float64.

    Notes
    -----
    ``out = sum over H and W / (H W)``, summed pairwise in the dtype of x.

    References
    ----------
    .. [1] M. Lin, Q. Chen, S. Yan, "Network In Network", ICLR 2014, arXiv:1312.4400,
       section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = global_avg_pool2d_forward(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> out
    array([[1.5, 5.5]])
    """
    check_images("global_avg_pool2d_forward", x)
    num_pixels = x.shape[2] * x.shape[3]
    out = x.reshape(*x.shape[:2], num_pixels).mean(axis=2)  # (N, C)
    return out, (x.shape, x.dtype)


def global_avg_pool2d_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Propagate a gradient through `global_avg_pool2d_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, C)
        Gradient of the loss by the output.
    cache : tuple
        From `global_avg_pool2d_forward`.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        dx.

    Raises
    ------
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    Every pixel receives ``dout / (H W)``.

    Examples
    --------
    >>> import numpy as np
    >>> out, cache = global_avg_pool2d_forward(np.zeros((1, 1, 2, 2)))
    >>> global_avg_pool2d_backward(np.array([[4.0]]), cache)[0, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    x_shape, dtype = cache
    check_dout("global_avg_pool2d_backward", dout, x_shape[:2], dtype)
    share = dout / (x_shape[2] * x_shape[3])  # (N, C)
    return np.broadcast_to(share[:, :, None, None], x_shape).copy()
