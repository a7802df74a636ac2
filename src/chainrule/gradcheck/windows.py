"""Windows on images, and the ways in which a backward pass places them wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chainrule.gradcheck.formulas import agrees

__all__ = [
    "Pair",
    "Windows",
    "border_mistakes",
    "cut_elsewhere",
    "scatter",
    "window_mistakes",
    "windows_inside",
]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Where windows lie on padded images.

    Parameters
    ----------
    kernel, stride, padding : pair of int
        Of rows and columns.
    shift : pair of int, default (0, 0)
        A mistake: all windows moved by this.
    skip : str, default ""
        A mistake: "last" or "first" row and column of windows left out.
    count : pair of int, optional
        A mistake: so many rows and columns of windows, filled in order with the pixels of dout.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    shift: Pair = (0, 0)
    skip: str = ""
    count: Pair | None = None

    def extent(self, shape: tuple[int, ...]) -> Pair:
        """Rows and columns of windows on images of a shape."""
        rows, columns = (
            (shape[2 + i] + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1
            for i in (0, 1)
        )
        return rows, columns

    def pad(self, x: np.ndarray, value: float = 0.0) -> np.ndarray:
        """Surround images."""
        border = ((0, 0), (0, 0), (self.padding[0],) * 2, (self.padding[1],) * 2)
        return np.pad(x, border, constant_values=value)

    def crop(
        self, padded: np.ndarray, shape: tuple[int, ...], by: Pair | None = None
    ) -> np.ndarray:
        """Take the border off, perhaps at the wrong place."""
        top, left = self.padding if by is None else by
        return padded[:, :, top : top + shape[2], left : left + shape[3]]

    def places(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int, slice, slice]]:
        """Row and column of each window and the slices it covers, those inside only."""
        if self.count is not None:
            yield from self._in_order(shape)
            return
        rows, columns = self.extent(shape)
        height, width = (shape[2 + i] + 2 * self.padding[i] for i in (0, 1))
        first = 1 if self.skip.startswith("first") else 0
        last = 1 if self.skip.startswith("last") else 0
        by_row, by_column = "row" in self.skip, "column" in self.skip
        for u in range(first * by_row, rows - last * by_row):
            for v in range(first * by_column, columns - last * by_column):
                top, left = u * self.stride[0] + self.shift[0], v * self.stride[1] + self.shift[1]
                bottom, right = top + self.kernel[0], left + self.kernel[1]
                if top >= 0 and left >= 0 and bottom <= height and right <= width:
                    yield u, v, slice(top, bottom), slice(left, right)

    def _in_order(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int, slice, slice]]:
        """Another number of windows, the pixels of dout given to them one after another."""
        rows, columns = self.extent(shape)
        wanted = self.count or (rows, columns)
        for p in range(min(rows * columns, wanted[0] * wanted[1])):
            top, left = divmod(p, wanted[1])
            a, b = top * self.stride[0], left * self.stride[1]
            inside = a + self.kernel[0] <= shape[2] + 2 * self.padding[0]
            if inside and b + self.kernel[1] <= shape[3] + 2 * self.padding[1]:
                rows_, columns_ = slice(a, a + self.kernel[0]), slice(b, b + self.kernel[1])
                yield (*divmod(p, columns), rows_, columns_)


def window_mistakes(windows: Windows, extent: Pair) -> Iterator[tuple[str, str, Windows]]:
    """Windows in wrong places, as (code, words, windows)."""
    code = "window_offset"
    for shift in ((1, 0), (0, 1), (1, 1), (-1, 0), (0, -1), (-1, -1)):
        yield code, f"windows are shifted by {shift}", replace(windows, shift=shift)
    for skip in ("last", "first"):
        for which in ("row", "column", "row and column"):
            words = f"the {skip} {which} of windows is left out"
            yield code, words, replace(windows, skip=f"{skip} {which}")
    if windows.stride != (1, 1):
        yield code, "windows are placed as for stride 1", replace(windows, stride=(1, 1))
    for other in ((windows.stride[0] + 1,) * 2, (windows.stride[1], windows.stride[0])):
        if other != windows.stride:
            yield code, f"windows are placed with stride {other}", replace(windows, stride=other)
    rows, columns = extent
    stride = windows.stride
    few = {(1, columns), (rows, 1), (rows - 1, columns), (rows, columns - 1)}
    few |= {(-(-rows // stride[0]), columns), (rows, -(-columns // stride[1]))}
    few |= {
        (-(-(rows + stride[0]) // stride[0]), columns),
        (rows, -(-(columns + stride[1]) // stride[1])),
    }
    for count in sorted(few - {extent}):
        if min(count) > 0:
            words = f"{count[0]} x {count[1]} windows are filled instead of {rows} x {columns}"
            yield code, words, replace(windows, count=count)
    if windows.kernel != windows.stride:
        yield (
            code,
            "windows are placed a kernel apart instead of a stride",
            replace(windows, stride=windows.kernel),
        )


def windows_inside(
    windows: Windows, shape: tuple[int, ...], extent: Pair
) -> Iterator[tuple[int, ...]]:
    """Yield row and column, top, bottom, left and right of windows with a pixel of dout."""
    for u, v, rows, columns in windows.places(shape):
        if u < extent[0] and v < extent[1]:
            yield u, v, rows.start, rows.stop, columns.start, columns.stop


def scatter(
    x_shape: tuple[int, ...], parts: np.ndarray, windows: Windows, extent: Pair, keep: str = "sum"
) -> np.ndarray:
    """Put windows (N, C, OH, OW, KH, KW) back on padded images, adding or overwriting."""
    padded = np.zeros(
        (*x_shape[:2], x_shape[2] + 2 * windows.padding[0], x_shape[3] + 2 * windows.padding[1])
    )
    for u, v, top, bottom, left, right in windows_inside(windows, x_shape, extent):
        window = (..., slice(top, bottom), slice(left, right))
        if keep == "sum":
            padded[window] += parts[:, :, u, v]
        else:
            padded[window] = parts[:, :, u, v]
    return padded


def border_mistakes(
    padded: np.ndarray, shape: tuple[int, ...], windows: Windows
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield wrong ways to take the border off."""
    if windows.padding == (0, 0):
        return
    code, (top, left) = "padding", windows.padding
    yield code, "dx still has the padding around it", padded
    for by, words in (
        ((0, 0), "the border is cut off at the end only, so dx is shifted by the padding"),
        ((2 * top, 2 * left), "the border is cut off at the beginning only"),
        ((top + 1, left + 1), "dx is cut one pixel too far to the lower right"),
        ((top + 1, left), "dx is cut one row too low"),
        ((top, left + 1), "dx is cut one column too far right"),
        ((top - 1, left), "dx is cut one row too high"),
        ((top, left - 1), "dx is cut one column too far left"),
        ((top - 1, left - 1), "dx is cut one pixel too far to the upper left"),
        ((left, top), "rows and columns of the padding are swapped"),
        ((0, left), "the padding is not taken off at the top"),
        ((top, 0), "the padding is not taken off at the left"),
    ):
        if min(by) >= 0 and by != windows.padding:
            yield code, words, windows.crop(padded, shape, by)
    inner = padded[:, :, top : -top or None, left : -left or None]
    inner = inner[:, :, : shape[2], : shape[3]]
    erased = np.zeros(shape)
    erased[:, :, top : shape[2] - top, left : shape[3] - left] = inner[
        :, :, top : shape[2] - top, left : shape[3] - left
    ]
    yield code, "the outermost pixels of x get no gradient: cut twice", erased


def cut_elsewhere(
    padded: np.ndarray, analytic: np.ndarray, shape: tuple[int, ...]
) -> tuple[str, str] | None:
    """Whether a result is another part of the padded gradient than that of the image."""
    if analytic.ndim != 4 or analytic.shape[:2] != shape[:2] or analytic.shape == shape:
        return None
    height, width = analytic.shape[2:]
    for top in range(padded.shape[2] - height + 1):
        for left in range(padded.shape[3] - width + 1):
            if agrees(analytic, padded[:, :, top : top + height, left : left + width]).all():
                words = f"of {height} x {width} pixels from ({top}, {left}) on"
                sentence = f"dx is the part {words} of the padded gradient: it is cut wrongly"
                return "padding", sentence
    return None
