"""Arrays as pictures: normalising them, tiling them, and encoding them as PNG."""

from __future__ import annotations

import base64
import io
import math

import numpy as np

from chainrule.errors import InputError, ShapeError, explain

__all__ = ["image_grid", "png_data_uri", "stretch", "to_channels_last"]


def stretch(image: np.ndarray, ubound: float = 255.0) -> np.ndarray:
    """Map an array linearly so that its smallest value becomes 0 and its largest `ubound`.

    Parameters
    ----------
    image : ndarray, any shape
        Values that are not finite count as the smallest one.
    ubound : float, default 255.0
        Upper end of the result.

    Returns
    -------
    ndarray of float64, same shape
        All `ubound` / 2 where the image is constant, since it then has no contrast to show.

    Examples
    --------
    >>> stretch(np.array([1.0, 2.0, 5.0]), ubound=1.0)
    array([0.  , 0.25, 1.  ])
    """
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if not high > low:
        return np.full(values.shape, ubound / 2)
    # Dividing first keeps the difference from overflowing for values near the largest float.
    scale = max(abs(low), abs(high))
    low, high, values = low / scale, high / scale, values / scale
    filled = np.where(np.isfinite(values), values, low)
    return np.asarray(ubound * (filled - low) / (high - low))


def image_grid(
    images: np.ndarray,
    padding: int = 1,
    ubound: float = 255.0,
    *,
    columns: int | None = None,
    fill: float = 0.0,
    normalize: bool = True,
) -> np.ndarray:
    """Tile images into one picture, row by row.

    Parameters
    ----------
    images : ndarray, shape (N, H, W, C) or (N, H, W)
        N at least 1.
    padding : int, default 1
        Pixels between neighbouring tiles; none at the border.
    ubound : float, default 255.0
        Each tile is stretched to the range 0 to `ubound`.
    columns : int, optional
        Tiles per row. By default the grid is the smallest square that holds all tiles, whether or
        not its last row is needed.
    fill : float, default 0.0
        Value of the padding and of empty places.
    normalize : bool, default True
        False leaves the values of the tiles as they are.

    Returns
    -------
    ndarray of float64, shape (rows * (H + padding) - padding, columns * (W + padding) - padding, C)
        Without the last axis if `images` has none.

    Raises
    ------
    ShapeError
        If `images` has not three or four axes, or is empty.
    InputError
        If `padding` is negative or `columns` below 1.

    Examples
    --------
    >>> image_grid(np.arange(8.0).reshape(2, 2, 2), ubound=3.0, columns=2, fill=9.0)
    array([[0., 1., 9., 0., 1.],
           [2., 3., 9., 2., 3.]])
    """
    tiles = np.asarray(images)
    if tiles.ndim not in (3, 4) or tiles.size == 0:
        raise ShapeError(
            explain("image_grid", "images", "have shape (N, H, W, C) or (N, H, W)", tiles.shape)
        )
    if padding < 0:
        raise InputError(explain("image_grid", "padding", "be at least 0", padding))
    count, height, width = tiles.shape[:3]
    across = math.ceil(math.sqrt(count)) if columns is None else columns
    if across < 1:
        raise InputError(explain("image_grid", "columns", "be at least 1", columns))
    down = across if columns is None else math.ceil(count / across)
    size = (down * (height + padding) - padding, across * (width + padding) - padding)
    picture = np.full((*size, *tiles.shape[3:]), fill, dtype=np.float64)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, across)
        top, left = row * (height + padding), column * (width + padding)
        value = stretch(tile, ubound) if normalize else tile
        picture[top : top + height, left : left + width] = value
    return picture


def to_channels_last(images: np.ndarray) -> np.ndarray:
    """Turn pictures (N, C, H, W) into (N, H, W) if C is 1, (N, H, W, 3) if C is 3.

    Parameters
    ----------
    images : ndarray, shape (N, C, H, W)
        Any number of channels; their mean is shown unless there are 1 or 3.

    Returns
    -------
    ndarray, shape (N, H, W) or (N, H, W, 3)
        Ready to be drawn.

    Examples
    --------
    >>> [to_channels_last(np.zeros((5, channels, 8, 8))).shape for channels in (1, 2, 3)]
    [(5, 8, 8), (5, 8, 8), (5, 8, 8, 3)]
    """
    if images.shape[1] == 3:
        return images.transpose(0, 2, 3, 1)
    return images[:, 0] if images.shape[1] == 1 else images.mean(axis=1)


def png_data_uri(picture: np.ndarray) -> str:
    """Encode a picture of values 0 to 255 as a ``data:image/png`` address.

    Parameters
    ----------
    picture : ndarray, shape (H, W), (H, W, 3) or (H, W, 4)
        Rounded and clipped to bytes; the fourth channel is opacity.

    Returns
    -------
    str
        The picture, lossless, in the text itself.

    Examples
    --------
    >>> png_data_uri(np.zeros((2, 2)))[:22]
    'data:image/png;base64,'
    """
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
