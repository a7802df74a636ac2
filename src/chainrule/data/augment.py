"""Changes of a batch of images that leave its labels true: random ones to train on, and fixed
ones to average over in a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from chainrule.errors import InputError, ShapeError, explain

__all__ = ["VIEWS", "Augment", "views"]


@dataclass(frozen=True)
class Augment:
    """Flip, shift and cut out, independently for each image of a batch.

    Parameters
    ----------
    flip : bool, default False
        Mirror each image left to right with probability 1/2.
    shift : int, default 0
        Move each image by up to this many pixels in both directions: pad it by zeros all round,
        then crop at a place drawn uniformly from the ``(2 shift + 1)**2`` there are.
    cutout : int, default 0
        Set a square of this side to zero, around a pixel drawn uniformly; where the square
        reaches over the border, less is cut out.

    Raises
    ------
    InputError
        When `shift` or `cutout` is negative.

    Notes
    -----
    The zeros are meant to be the mean colour: augment after preprocessing, not before.

    An instance keeps no state. What it draws depends on the generator and on the number of
    images only, not on their content or dtype.

    References
    ----------
    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout",
    arXiv:1708.04552, 2017.

    Examples
    --------
    >>> images = np.ones((2, 1, 4, 4), np.float32)
    >>> changed = Augment(flip=True, shift=1)(images, np.random.default_rng(0))
    >>> changed.shape, changed.dtype
    ((2, 1, 4, 4), dtype('float32'))
    """

    flip: bool = False
    shift: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "cutout"):
            if getattr(self, name) < 0:
                raise InputError(explain("Augment", name, "be at least 0", getattr(self, name)))

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self.flip or self.shift or self.cutout)

    def __call__(
        self, x: np.ndarray, rng: np.random.Generator, first: int = 0, total: int | None = None
    ) -> np.ndarray:
        """Return a changed copy of a batch, or of a part of one.

        Parameters
        ----------
        x : numpy.ndarray, shape (N, C, H, W)
            Images of any dtype; not modified. Where nothing is switched on, any shape.
        rng : numpy.random.Generator
            Advanced by a number of draws that depends on the size of the batch only.
        first : int, default 0
            Place of the first of these images in the batch.
        total : int, optional
            Size of the batch, where `x` is a part of it. Parts that are changed by generators in
            the same state are together the batch changed as a whole.

        Returns
        -------
        numpy.ndarray, shape (N, C, H, W)
            A new array of the same dtype.

        Raises
        ------
        ShapeError
            When `x` is no batch of images.
        InputError
            When `shift` is not smaller than the images.
        """
        if not self:
            return x.copy()
        if x.ndim != 4:
            remedy = "Features cannot be augmented; switch augmentation off."
            raise ShapeError(explain("Augment", "x", "have shape (N, C, H, W)", x.shape, remedy))
        if self.shift >= min(x.shape[2:]):
            rule = f"be smaller than the images, {x.shape[2:]}"
            raise InputError(explain("Augment", "shift", rule, self.shift))
        n, _, h, w = x.shape
        total = n if total is None else total
        own = slice(first, first + n)
        flipped = rng.random(total)[own] < 0.5 if self.flip else np.zeros(n, dtype=bool)
        moves = rng.integers(0, 2 * self.shift + 1, size=(2, total)) if self.shift else None
        out = _flip_and_shift(x, flipped, self.shift, None if moves is None else moves[:, own])
        if self.cutout:
            rows, columns = (rng.integers(0, size, size=(total, 1))[own] for size in (h, w))
            np.copyto(out, 0, where=_squares(h, w, self.cutout, rows, columns)[:, None])
        return out


# What each kind of test-time augmentation looks at: (down, right) in pixels; each also mirrored.
VIEWS: dict[str, tuple[tuple[int, int], ...]] = {
    "none": (),
    "flip": ((0, 0),),
    "flip_shift": ((0, 0), (-1, -1), (1, 1)),
}


def views(x: np.ndarray, kind: str) -> Iterator[np.ndarray]:
    """Yield the versions of images whose scores test-time augmentation averages.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
        Images; with ``"none"`` any examples.
    kind : {"none", "flip", "flip_shift"}
        The images alone; with their mirror images; both of these also moved by one pixel to the
        upper left and to the lower right, with zeros at the border: 1, 2 or 6 versions.

    Yields
    ------
    ndarray (N, C, H, W)
        A version of all images; the first is `x` itself.

    Raises
    ------
    InputError
        If there is no such kind.
    ShapeError
        If `x` is no batch of images.

    Examples
    --------
    >>> for version in views(np.arange(3).reshape(1, 1, 1, 3), "flip"):
    ...     print(version.ravel())
    [0 1 2]
    [2 1 0]
    """
    if kind not in VIEWS:
        rule = f"be one of {', '.join(VIEWS)}"
        raise InputError(explain("views", "kind", rule, repr(kind)))
    if kind == "none":
        yield x
        return
    if x.ndim != 4:
        remedy = "Features cannot be mirrored; set data.tta=none."
        raise ShapeError(explain("views", "x", "have shape (N, C, H, W)", x.shape, remedy))
    for down, right in VIEWS[kind]:
        moved = _moved(x, down, right) if down or right else x
        yield moved
        yield moved[..., ::-1]


def _moved(x: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move images by some pixels; zeros follow."""
    h, w = x.shape[2:]
    out = np.zeros_like(x)
    rows, columns = max(0, h - abs(down)), max(0, w - abs(right))
    to = (max(0, down), max(0, right))
    of = (max(0, -down), max(0, -right))
    out[..., to[0] : to[0] + rows, to[1] : to[1] + columns] = x[
        ..., of[0] : of[0] + rows, of[1] : of[1] + columns
    ]
    return out


def _flip_and_shift(
    x: np.ndarray, flipped: np.ndarray, shift: int, moves: np.ndarray | None
) -> np.ndarray:
    n, c, h, w = x.shape
    padded = np.zeros((n, c, h + 2 * shift, w + 2 * shift), x.dtype)
    inside = padded[:, :, shift : shift + h, shift : shift + w]
    inside[...] = x
    inside[flipped] = x[flipped, :, :, ::-1]
    if moves is None:
        return padded
    windows = sliding_window_view(padded, (h, w), axis=(2, 3))  # (N, C, 2s+1, 2s+1, H, W)
    return windows[np.arange(n), :, moves[0], moves[1]]


def _squares(
    h: int, w: int, side: int, centre_rows: np.ndarray, centre_columns: np.ndarray
) -> np.ndarray:
    """Return a mask (N, H, W), true in one square of each image around its centre (N, 1)."""
    top, left = centre_rows - side // 2, centre_columns - side // 2
    rows = (np.arange(h) >= top) & (np.arange(h) < top + side)  # (N, H)
    columns = (np.arange(w) >= left) & (np.arange(w) < left + side)  # (N, W)
    mask: np.ndarray = rows[:, :, None] & columns[:, None, :]
    return mask
