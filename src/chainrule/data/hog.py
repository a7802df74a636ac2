"""Histograms of oriented gradients and of hue, for many images at once."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from chainrule.errors import ShapeError, explain

__all__ = ["hog_color_features", "hog_color_size", "hog_features", "hue_histogram"]

_CHUNK = 128  # images at a time, so that the intermediates stay in the cache


def hog_features(
    x: np.ndarray, orientations: int = 9, pixels_per_cell: int = 8, cells_per_block: int = 2
) -> np.ndarray:
    """Histograms of oriented gradients.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, C, H, W)
        Images.
    orientations : int, default 9
        Directions over half a turn.
    pixels_per_cell : int, default 8
        Side of a cell; pixels beyond the last whole cell are left out.
    cells_per_block : int, default 2
        Side of a block in cells.

    Returns
    -------
    numpy.ndarray of float64, shape (N, F)
        F = blocks down * blocks across * cells_per_block**2 * orientations.

    Notes
    -----
    Central differences, zero on the border; at each pixel the channel with the largest gradient.
    Its magnitude, divided by the cell's area, is added to the bin of its direction in its cell.
    Blocks of cells, one cell apart, are divided by ``sqrt(sum v^2 + 1e-10)``, clipped at 0.2 and
    divided again (L2-Hys). Equal to ``skimage.feature.hog(image, channel_axis=-1)`` up to
    rounding.

    References
    ----------
    Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005.
    """
    n, _, h, w = x.shape
    bins, cell, block = orientations, pixels_per_cell, cells_per_block
    magnitude, direction = _gradients(x)  # (N, H, W) each
    down, across = h // cell, w // cell
    rows, columns = np.arange(down * cell) // cell, np.arange(across * cell) // cell
    place = rows[:, None] * across + columns  # index of the cell
    index = (direction[:, : len(rows), : len(columns)] / (180 / bins)).astype(np.intp)
    index[index == bins] = 0  # half a turn is no turn
    index += (np.arange(n)[:, None, None] * (down * across) + place) * bins
    weights = magnitude[:, : len(rows), : len(columns)] / cell**2
    histograms = np.bincount(index.ravel(), weights.ravel(), n * down * across * bins)
    cells = histograms.reshape(n, down, across, bins)
    blocks = sliding_window_view(cells, (block, block), axis=(1, 2))
    v = np.moveaxis(blocks, 3, 5).reshape(n, (down - block + 1) * (across - block + 1), -1)
    v = v / np.sqrt((v**2).sum(axis=2, keepdims=True) + 1e-10)
    v = np.minimum(v, 0.2)
    v /= np.sqrt((v**2).sum(axis=2, keepdims=True) + 1e-10)
    features: np.ndarray = v.reshape(n, -1)
    return features


def _gradients(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return magnitude and direction (degrees, 0 to 180) at each pixel, both (N, H, W)."""
    values = x.astype(np.float64)
    down = np.zeros_like(values)
    right = np.zeros_like(values)
    np.subtract(values[:, :, 2:], values[:, :, :-2], out=down[:, :, 1:-1])
    np.subtract(values[:, :, :, 2:], values[:, :, :, :-2], out=right[:, :, :, 1:-1])
    squared = down**2 + right**2
    if x.shape[1] > 1:
        strongest = squared.argmax(axis=1)[:, None]
        squared, down, right = (
            np.take_along_axis(a, strongest, axis=1) for a in (squared, down, right)
        )
    direction = np.rad2deg(np.arctan2(down[:, 0], right[:, 0]))
    direction[direction < 0] += 180
    return np.sqrt(squared[:, 0]), direction


def hue_histogram(x: np.ndarray, bins: int = 10) -> np.ndarray:
    """Share of the pixels of each image in each interval of hue.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, 3, H, W)
        Red, green and blue, on any common scale.
    bins : int, default 10
        Equal intervals over the circle of hues, from red.

    Returns
    -------
    numpy.ndarray of float64, shape (N, bins)
        Each row sums to 1. Pixels without colour count as red, as in the course.

    Notes
    -----
    With M and m the largest and smallest of r, g, b, the hue in sixths of a turn is
    ``(g - b) / (M - m)`` where red is largest, ``2 + (b - r) / (M - m)`` where green is and
    ``4 + (r - g) / (M - m)`` where blue is, modulo 6.
    """
    n = len(x)
    r, g, b = (x[:, channel].reshape(n, -1).astype(np.float64) for channel in range(3))
    largest = np.maximum(np.maximum(r, g), b)
    spread = largest - np.minimum(np.minimum(r, g), b)
    spread[spread == 0] = 1  # a grey pixel: r = g = b, so that the numerators are 0 too
    turned = np.where(g == largest, 2 + (b - r) / spread, 4 + (r - g) / spread)
    hue = np.where(r == largest, (g - b) / spread, turned)
    index = np.minimum((hue % 6 * (bins / 6)).astype(np.intp), bins - 1)
    index += np.arange(n)[:, None] * bins
    return np.bincount(index.ravel(), minlength=n * bins).reshape(n, bins) / r.shape[1]


def hog_color_size(
    input_shape: tuple[int, ...],
    orientations: int = 9,
    pixels_per_cell: int = 8,
    cells_per_block: int = 2,
    hue_bins: int = 10,
) -> int:
    """Return the number of features that `hog_color_features` gives for an image.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W) with C 1 or 3.
    orientations, pixels_per_cell, cells_per_block, hue_bins : int
        As there.

    Returns
    -------
    int
        Number of features.

    Raises
    ------
    ShapeError
        When `input_shape` is no image, or smaller than a block.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        rule = "be (C, H, W) with 1 or 3 channels"
        raise ShapeError(explain("hog_color", "input_shape", rule, input_shape))
    blocks = [side // pixels_per_cell - cells_per_block + 1 for side in input_shape[1:]]
    if min(blocks) < 1:
        rule = f"be at least {pixels_per_cell * cells_per_block} pixels in height and width"
        remedy = "Take a smaller pixels_per_cell or cells_per_block."
        raise ShapeError(explain("hog_color", "images", rule, input_shape[1:], remedy))
    hog = blocks[0] * blocks[1] * cells_per_block**2 * orientations
    return hog + (hue_bins if input_shape[0] == 3 else 0)


def hog_color_features(
    x: np.ndarray,
    orientations: int = 9,
    pixels_per_cell: int = 8,
    cells_per_block: int = 2,
    hue_bins: int = 10,
) -> np.ndarray:
    """Return `hog_features` and, for colour images, `hue_histogram`, side by side.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, C, H, W)
        Images with 1 or 3 channels.
    orientations, pixels_per_cell, cells_per_block : int
        See `hog_features`.
    hue_bins : int, default 10
        See `hue_histogram`; 0 for none.

    Returns
    -------
    numpy.ndarray of float64, shape (N, F)
        One row for each image.
    """
    size = hog_color_size(
        tuple(x.shape[1:]), orientations, pixels_per_cell, cells_per_block, hue_bins
    )
    out = np.empty((len(x), size))
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        hog = hog_features(x[part], orientations, pixels_per_cell, cells_per_block)
        out[part, : hog.shape[1]] = hog
        if hog.shape[1] < size:
            out[part, hog.shape[1] :] = hue_histogram(x[part], hue_bins)
    return out
