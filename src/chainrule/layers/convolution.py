"""Two-dimensional convolution by blocks of columns (im2col) and matrix products.

The columns of a whole batch do not fit in a processor's cache and cost more to write and read
back than to make twice. So the batch is walked in blocks whose columns stay in the second-level
cache, and backward makes them again from the padded images instead of keeping them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from chainrule.layers._arrays import add_windows, channel_sum, crop_images, pad_images, zeros_around
from chainrule.layers._checks import Cache, check_conv2d, check_dout

__all__ = ["conv2d_backward", "conv2d_forward"]

# Columns of one block. On a processor with 2 MiB of second-level cache, float32 CIFAR shapes ran
# within 12 % of their best time at 1 to 4 MiB, and up to 1.7 times as long at 256 KiB or 16 MiB.
_BLOCK_BYTES = 2 << 20


def _blocks(windows: np.ndarray, groups: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (examples, their columns) for windows (C, KH, KW, N, OH, OW).

    The columns have shape (groups, C/groups KH KW, examples OH OW) and are overwritten by the
    next block. The size of a block depends on the shapes alone.
    """
    channels, kernel_height, kernel_width, num_examples, out_height, out_width = windows.shape
    rows = channels // groups * kernel_height * kernel_width
    example_bytes = groups * rows * out_height * out_width * windows.itemsize
    step = min(num_examples, max(1, _BLOCK_BYTES // example_bytes))
    buffer = np.empty((*windows.shape[:3], step, out_height, out_width), dtype=windows.dtype)
    for start in range(0, num_examples, max(step, 1)):
        block = slice(start, min(start + step, num_examples))
        columns = buffer[:, :, :, : block.stop - start]
        np.copyto(columns, windows[:, :, :, block])
        yield block, columns.reshape(groups, rows, -1)


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> tuple[np.ndarray, Cache]:
    """Correlate images with filters, as neural networks call convolution.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32 or float64
        Images; N may be 0.
    weight : ndarray, shape (F, C / groups, KH, KW), dtype of x
        F filters.
    bias : ndarray, shape (F,), dtype of x, optional
        Added to each output channel.
    stride : int or (int, int), default 1
        Step of the window over rows and columns, at least 1.
    padding : int or (int, int), default 0
        Rows and columns of zeros added on each side, at least 0.
    groups : int, default 1
        Splits channels and filters into independent groups; divides C and F. ``groups=C`` is a
        depthwise convolution.

    Returns
    -------
    out : ndarray, shape (N, F, OH, OW), dtype of x
        With ``OH = (H + 2 padding - KH) // stride + 1`` and OW likewise.
    cache : tuple
        For `conv2d_backward`. It refers to x and weight: leave them as they are until then.

    Raises
    ------
    ShapeError
        If the shapes do not fit together, or the padded image is smaller than the filter.
    InputError
        If stride, padding or groups is out of range.
    DTypeError
        If x is not float32 or float64, weight or bias has another dtype than x, or stride,
        padding or groups is no integer.

    Notes
    -----
    With the indices of one group,

    .. math:: out_{nfuv} = bias_f + \\sum_{cij} weight_{fcij} \\, x_{n,c,su+i-p,sv+j-p}

    which is ``2 N F OH OW (C / groups) KH KW`` operations. Compiled kernels add over c, i, j in
    this order. With NumPy it is matrix products by BLAS on columns made for a few examples at a
    time (2 MiB), and BLAS decides the order; so it is with groups and with strides of more than
    64 phases. A sum of K terms in float32 is off by about ``1e-7 sqrt(K)`` relatively.

    References
    ----------
    .. [1] K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks
       for document processing", IWFHR 2006, section 3 (convolution as a matrix product).
    .. [2] V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016,
       arXiv:1603.07285, relationship 6 (the output extent).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> difference = np.array([[[[-1.0, 1.0]]]])
    >>> out, cache = conv2d_forward(x, difference)
    >>> out[0, 0]
    array([[1., 1.],
           [1., 1.],
           [1., 1.]])
    """
    strides, paddings, extent = check_conv2d(
        "conv2d_forward", x, weight, bias, stride, padding, groups
    )
    padded = pad_images(x, paddings, 0.0)
    windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1]]  # (N, C, OH, OW, KH, KW)
    windows = windows.transpose(1, 4, 5, 0, 2, 3)  # (C, KH, KW, N, OH, OW)
    filters = weight.shape[0]
    kernel = weight.reshape(groups, filters // groups, -1)  # (G, F/G, C/G KH KW)
    out = np.empty((x.shape[0], filters, *extent), dtype=x.dtype)
    for block, columns in _blocks(windows, groups):
        product = kernel @ columns  # (G, F/G, B OH OW)
        if bias is not None:
            product += bias.reshape(groups, -1, 1)
        out[block] = product.reshape(filters, -1, *extent).swapaxes(0, 1)
    return out, (x.shape, windows, weight, bias is not None, strides, paddings, groups)


def conv2d_backward(
    dout: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Propagate a gradient through `conv2d_forward`.

    Parameters
    ----------
    dout : ndarray, shape (N, F, OH, OW)
        Gradient of the loss by the output.
    cache : tuple
        From `conv2d_forward`.
    need_dx : bool, default True
        False skips dx, which saves more than half of the time in a first layer.

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
    ShapeError
        If dout has not the shape of the output.
    DTypeError
        If dout has not the dtype of the output.

    Notes
    -----
    ``dweight`` is dout times the transposed columns, the gradient of the columns is the
    transposed filters times dout, and each of its entries is added to the pixel it was copied
    from: twice the operations of forward. dbias sums planes in the dtype of x and the batch in
    float64.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> out, cache = conv2d_forward(x, np.array([[[[-1.0, 1.0]]]]))
    >>> dx, dweight, dbias = conv2d_backward(np.ones((1, 1, 3, 2)), cache)
    >>> dx[0, 0, 0], dweight.ravel()
    (array([-1.,  0.,  1.]), array([21., 27.]))
    """
    x_shape, windows, weight, has_bias, strides, paddings, groups = cache
    filters, extent = weight.shape[0], windows.shape[4:]
    check_dout("conv2d_backward", dout, (x_shape[0], filters, *extent), windows.dtype)
    kernel = weight.reshape(groups, filters // groups, -1)  # (G, F/G, C/G KH KW)
    dkernel = np.zeros_like(kernel)
    dpadded = zeros_around(x_shape, paddings, windows.dtype) if need_dx else None
    for block, columns in _blocks(windows, groups):
        dproduct = dout[block].swapaxes(0, 1).reshape(groups, filters // groups, -1)
        dkernel += dproduct @ columns.swapaxes(1, 2)
        if dpadded is not None:
            dcolumns = kernel.swapaxes(1, 2) @ dproduct  # (G, C/G KH KW, B OH OW)
            dwindows = dcolumns.reshape(*windows.shape[:3], -1, *extent)
            add_windows(dpadded[block], dwindows, strides)
    dx = None if dpadded is None else crop_images(dpadded, x_shape, paddings)
    dbias = channel_sum(dout) if has_bias else None
    return dx, dkernel.reshape(weight.shape), dbias
