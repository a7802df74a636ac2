"""``cs231n.im2col_cython``: the same as `chainrule.course.cs231n.im2col`, with nothing to build."""

from __future__ import annotations

import numpy as np

from chainrule.course.cs231n.im2col import col2im_indices, im2col_indices

__all__ = ["col2im_cython", "im2col_cython"]

im2col_cython = im2col_indices


def col2im_cython(
    cols: np.ndarray,
    N: int,
    C: int,
    H: int,
    W: int,
    field_height: int,
    field_width: int,
    padding: int,
    stride: int,
) -> np.ndarray:
    """Add up windows to images.

    Parameters
    ----------
    cols : ndarray, shape (C * field_height * field_width, H' * W' * N)
        Windows.
    N, C, H, W : int
        Shape of the images.
    field_height, field_width : int
        Extent of a window.
    padding, stride : int
        Zeros on each side, and step between windows.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        The sums.
    """
    return col2im_indices(cols, (N, C, H, W), field_height, field_width, padding, stride)
