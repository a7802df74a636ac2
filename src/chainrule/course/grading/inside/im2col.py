"""The compiled helper that the course's own ``fast_layers.py`` imports, in NumPy.

Students who do not build the Cython extension of the course have no ``im2col_cython``; it is no
part of any exercise, so tests provide it.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

__all__ = ["add_im2col", "col2im_6d_cython", "col2im_cython", "im2col_cython"]


def _sizes(height: int, width: int, fh: int, fw: int, padding: int, stride: int) -> tuple[int, int]:
    return (height + 2 * padding - fh) // stride + 1, (width + 2 * padding - fw) // stride + 1


def im2col_cython(
    x: np.ndarray, field_height: int, field_width: int, padding: int, stride: int
) -> np.ndarray:
    """Return the windows of images as columns, (C fh fw, H' W' N)."""
    n, c, h, w = x.shape
    oh, ow = _sizes(h, w, field_height, field_width, padding, stride)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (field_height, field_width), (2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return windows.transpose(1, 4, 5, 2, 3, 0).reshape(c * field_height * field_width, oh * ow * n)


def col2im_cython(
    cols: np.ndarray, n: int, c: int, h: int, w: int, fh: int, fw: int, padding: int, stride: int
) -> np.ndarray:
    """Return the sum of columns, laid back to where their windows were."""
    oh, ow = _sizes(h, w, fh, fw, padding, stride)
    parts = cols.reshape(c, fh, fw, oh, ow, n).transpose(0, 1, 2, 5, 3, 4)
    return col2im_6d_cython(parts, n, c, h, w, fh, fw, padding, stride)


def col2im_6d_cython(
    cols: np.ndarray, n: int, c: int, h: int, w: int, fh: int, fw: int, padding: int, stride: int
) -> np.ndarray:
    """Return the same of columns in six axes, (C, fh, fw, N, H', W')."""
    oh, ow = _sizes(h, w, fh, fw, padding, stride)
    out = np.zeros((n, c, h + 2 * padding, w + 2 * padding), cols.dtype)
    for i in range(fh):
        for j in range(fw):
            rows = slice(i, i + stride * (oh - 1) + 1, stride)
            columns = slice(j, j + stride * (ow - 1) + 1, stride)
            out[:, :, rows, columns] += cols[:, i, j].transpose(1, 0, 2, 3)
    return out[:, :, padding : padding + h, padding : padding + w]


def add_im2col() -> None:
    """Make it what ``import cs231n.im2col_cython`` finds."""
    module = ModuleType("cs231n.im2col_cython")
    for function in (im2col_cython, col2im_cython, col2im_6d_cython):
        setattr(module, function.__name__, function)
    sys.modules[module.__name__] = module
