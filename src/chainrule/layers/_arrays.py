"""Array work that several families of fast layers share: padding, windows, accurate sums."""

from __future__ import annotations

from math import prod

import numpy as np

__all__ = [
    "add_windows",
    "channel_dot",
    "channel_sum",
    "crop_images",
    "pad_images",
    "relu_in_place",
    "window_views",
    "zeros_around",
]


def pad_images(x: np.ndarray, padding: tuple[int, int], value: float) -> np.ndarray:
    """Surround images (N, C, H, W) by `padding` rows and columns; x itself if there are none."""
    if padding == (0, 0):
        return x
    padded = zeros_around(x.shape, padding, x.dtype)
    if value:
        padded.fill(value)
    rows, columns = padding
    padded[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]] = x
    return padded


def zeros_around(shape: tuple[int, ...], padding: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Zeros with the shape (N, C, H, W) grown by `padding` rows and columns on each side."""
    num_examples, channels, height, width = shape
    extent = (num_examples, channels, height + 2 * padding[0], width + 2 * padding[1])
    return np.zeros(extent, dtype=dtype)


def crop_images(padded: np.ndarray, shape: tuple[int, ...], padding: tuple[int, int]) -> np.ndarray:
    """Images of the given shape (N, C, H, W), contiguous, without their border."""
    rows, columns = padding
    inner = padded[:, :, rows : rows + shape[2], columns : columns + shape[3]]
    return np.ascontiguousarray(inner)


def relu_in_place(out: np.ndarray) -> np.ndarray:
    """Rectify an array that nobody else holds yet; return where it was positive."""
    np.maximum(out, 0, out=out)
    return out > 0


def window_views(
    images: np.ndarray,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    extent: tuple[int, int],
) -> list[np.ndarray]:
    """Views (..., OH, OW) of images (..., H, W), one for each window offset in row-major order.

    View number ``i * KW + j`` holds element (i, j) of every window.
    """
    row_span = stride[0] * (extent[0] - 1) + 1
    column_span = stride[1] * (extent[1] - 1) + 1
    return [
        images[..., i : i + row_span : stride[0], j : j + column_span : stride[1]]
        for i in range(kernel_size[0])
        for j in range(kernel_size[1])
    ]


def add_windows(images: np.ndarray, windows: np.ndarray, stride: tuple[int, int]) -> None:
    """Add windows (C, KH, KW, N, OH, OW) to images (N, C, H, W) where they came from (col2im).

    Overlaps are between window offsets only, so each offset is one strided, vectorised sum.
    """
    _, kernel_height, kernel_width, _, *extent = windows.shape
    by_channel = images.swapaxes(0, 1)  # (C, N, H, W)
    kernel_size = (kernel_height, kernel_width)
    views = window_views(by_channel, kernel_size, stride, (extent[0], extent[1]))
    for offset, view in enumerate(views):
        view += windows[:, offset // kernel_width, offset % kernel_width]


def _planes(a: np.ndarray) -> np.ndarray:
    """(N, C, ...) as (N, C, P); P is written out, as -1 would be ambiguous for N = 0."""
    return a.reshape(a.shape[0], a.shape[1], prod(a.shape[2:]))


def channel_sum(a: np.ndarray) -> np.ndarray:
    """Sum (N, C) or (N, C, ...) over all axes but the second, to (C,).

    Each plane is summed in its own dtype by NumPy's pairwise summation (error growth log2 of
    its length), the few plane sums then in float64.
    """
    planes = _planes(a).sum(axis=2) if a.ndim > 2 else a
    total: np.ndarray = planes.sum(axis=0, dtype=np.float64)
    return total.astype(a.dtype)


def channel_dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum a * b as `channel_sum` would, without a temporary of their size, to (C,).

    `einsum` keeps several partial sums along a plane; it does not call BLAS here, whose threads
    would decide the order of summation.
    """
    if a.ndim == 2:
        total: np.ndarray = np.einsum("nc,nc->c", a, b, dtype=np.float64)
    else:
        by_plane = np.einsum("ncp,ncp->nc", _planes(a), _planes(b))
        total = by_plane.sum(axis=0, dtype=np.float64)
    return total.astype(a.dtype)
