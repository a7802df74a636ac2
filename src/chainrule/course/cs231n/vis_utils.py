"""``cs231n.vis_utils``: images side by side in one array, for ``plt.imshow``."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np

from chainrule.errors import ShapeError, explain

__all__ = ["vis_grid", "vis_nn", "visualize_grid"]


def _stretched(image: np.ndarray, ubound: float) -> np.ndarray:
    """Map an array linearly to 0..ubound; one without contrast becomes ubound / 2."""
    values = image.astype(np.float64)
    low, high = values.min(), values.max()
    if not high > low:
        return np.full(values.shape, ubound / 2)
    return np.asarray(ubound * (values - low) / (high - low))


def _tiles(where: str, images: np.ndarray) -> np.ndarray:
    tiles = np.asarray(images)
    if tiles.ndim != 4 or tiles.size == 0:
        raise ShapeError(explain(where, "Xs", "have shape (N, H, W, C), N at least 1", tiles.shape))
    return tiles


def visualize_grid(Xs: np.ndarray, ubound: float = 255.0, padding: int = 1) -> np.ndarray:
    """Arrange images in a square, each stretched to the same range.

    Parameters
    ----------
    Xs : ndarray, shape (N, H, W, C)
        Images, or filters as images.
    ubound : float, default 255.0
        Each image is stretched to 0..ubound.
    padding : int, default 1
        Pixels of 0 between neighbours.

    Returns
    -------
    ndarray of float64, shape (A * (H + padding) - padding, A * (W + padding) - padding, C)
        With A the smallest number whose square is at least N.
    """
    tiles = _tiles("visualize_grid", Xs)
    count, height, width, channels = tiles.shape
    side = ceil(sqrt(count))
    size = (side * (height + padding) - padding, side * (width + padding) - padding, channels)
    grid = np.zeros(size)
    for index, tile in enumerate(tiles):
        top, left = index // side * (height + padding), index % side * (width + padding)
        grid[top : top + height, left : left + width] = _stretched(tile, ubound)
    return grid


def _framed(rows: Sequence[Sequence[np.ndarray]], side: tuple[int, int]) -> np.ndarray:
    """Put images in rows with a line right of and below each, and stretch all to 0..1."""
    tiles = [np.asarray(tile) for row in rows for tile in row]
    height, width, channels = tiles[0].shape
    dtype = np.result_type(*tiles)
    low = min(tile.min() for tile in tiles)
    grid = np.full((side[0] * (height + 1), side[1] * (width + 1), channels), low, dtype)
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            top, left = down * (height + 1), across * (width + 1)
            grid[top : top + height, left : left + width] = tile
    return _stretched(grid, 1.0)


def vis_grid(Xs: np.ndarray) -> np.ndarray:
    """Arrange images in a square, all stretched together.

    Parameters
    ----------
    Xs : ndarray, shape (N, H, W, C)
        Images.

    Returns
    -------
    ndarray of float64, shape (A * (H + 1), A * (W + 1), C)
        Values from 0 to 1; A is the smallest number whose square is at least N.
    """
    tiles = _tiles("vis_grid", Xs)
    side = ceil(sqrt(len(tiles)))
    rows = [list(tiles[start : start + side]) for start in range(0, len(tiles), side)]
    return _framed(rows, (side, side))


def vis_nn(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Arrange images as they are given, such as an image and its nearest neighbours in each row.

    Parameters
    ----------
    rows : sequence of sequences of ndarray, shape (H, W, C)
        The images of each row, as many in each.

    Returns
    -------
    ndarray of float64, shape (number of rows * (H + 1), images in a row * (W + 1), C)
        Values from 0 to 1.

    Raises
    ------
    ShapeError
        If there are no images, or they differ in shape.
    """
    shapes = {np.shape(tile) for row in rows for tile in row}
    if len(shapes) != 1 or len({len(row) for row in rows}) != 1 or len(min(shapes)) != 3:
        rule = "hold as many images (H, W, C) in each row, all of one shape"
        raise ShapeError(explain("vis_nn", "rows", rule, f"shapes {sorted(shapes)}"))
    return _framed(rows, (len(rows), len(rows[0])))
