"""``cs231n.im2col``: images as a matrix of windows, and back.

Both are convolutions: one filter for each place in a window, with a single 1, gives the matrix,
and the backward pass of that convolution adds the windows up again.
"""

from __future__ import annotations

import numpy as np

from chainrule import layers as pairs
from chainrule.course.arrays import as_floats
from chainrule.errors import ShapeError, explain

__all__ = ["col2im_indices", "im2col_indices"]


def _pickers(channels: int, height: int, width: int, dtype: np.dtype) -> np.ndarray:
    """Filters (C * height * width, 1, height, width), one group for each channel."""
    size = height * width
    one = np.eye(size, dtype=dtype).reshape(size, 1, height, width)
    return np.tile(one, (channels, 1, 1, 1))


def im2col_indices(
    x: np.ndarray, field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> np.ndarray:
    """Write each window of each image as a column.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
        Images.
    field_height, field_width : int
        Extent of a window.
    padding : int, default 1
        Zeros on each side.
    stride : int, default 1
        Step between windows.

    Returns
    -------
    ndarray, shape (C * field_height * field_width, H' * W' * N)
        Windows in row-major order, the images of one window side by side.
    """
    (x,) = as_floats("im2col_indices", x=x)
    channels = x.shape[1]
    filters = _pickers(channels, field_height, field_width, x.dtype)
    out, _ = pairs.conv2d_forward(x, filters, None, stride, padding, channels)  # (N, F, H', W')
    return out.transpose(1, 2, 3, 0).reshape(len(filters), -1)


def col2im_indices(
    cols: np.ndarray,
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> np.ndarray:
    """Add up windows to images: the transpose of `im2col_indices`.

    Parameters
    ----------
    cols : ndarray, shape (C * field_height * field_width, H' * W' * N)
        Windows, laid out as `im2col_indices` does.
    x_shape : (int, int, int, int)
        (N, C, H, W) of the images.
    field_height, field_width : int, default 3
        Extent of a window.
    padding : int, default 1
        Zeros on each side, which are cut off again.
    stride : int, default 1
        Step between windows.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        The sums.

    Raises
    ------
    ShapeError
        If `cols` does not belong to images of that shape.
    """
    (cols,) = as_floats("col2im_indices", cols=cols)
    channels = x_shape[1]
    filters = _pickers(channels, field_height, field_width, cols.dtype)
    zeros = np.zeros(x_shape, cols.dtype)
    out, cache = pairs.conv2d_forward(zeros, filters, None, stride, padding, channels)
    count, size, down, across = out.shape
    if cols.shape != (size, down * across * count):
        rule = f"have shape ({size}, {down * across * count})"
        raise ShapeError(explain("col2im_indices", "cols", rule, cols.shape))
    dout = cols.reshape(size, down, across, count).transpose(3, 0, 1, 2)
    dx, _, _ = pairs.conv2d_backward(np.ascontiguousarray(dout), cache)
    assert dx is not None
    return dx
